from fgvr.modules import SFT, PolicyModule
from fgvr.settings.classes import WHERE, class_named, class_parameters, known_classes, missing_class, nearest


def test_classes_that_are_not_there() -> None:
    assert missing_class("toy_run.ToyModel") is None
    assert missing_class("fgvr.modulez.SFT") == "there is no modulez in fgvr; the nearest is fgvr.modules."
    assert missing_class("nowhere.at.All") == f"there is no module nowhere to import nowhere.at.All from{WHERE}"
    assert missing_class("os.system") == "os.system is not a class."


def test_parameters_that_a_class_passes_on() -> None:
    assert {"monitor", "patience"} <= class_parameters(_early_stopping())


def _early_stopping() -> type:
    from lightning.pytorch.callbacks import EarlyStopping

    class Later(EarlyStopping):
        def __init__(self, begin: int = 0, **kwargs: object) -> None:
            super().__init__(**kwargs)  # pyright: ignore[reportArgumentType]

    return Later


def test_nearest() -> None:
    assert nearest("batchsize", ["batch_size", "workers"]) == "batch_size"
    assert nearest("zzz", ["batch_size"]) is None


def test_classes_are_known_by_their_shortest_path() -> None:
    known = known_classes(PolicyModule)
    assert known["fgvr.modules.SFT"] is SFT
    assert class_named("SFT", PolicyModule) is SFT
    assert class_named("fgvr.modules.SFT") is SFT
    assert class_named("SFTT", PolicyModule) is None
    assert known_classes(str) == {}  # the classes built on it are not choices
