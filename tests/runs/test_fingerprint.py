import importlib
from pathlib import Path
from typing import Any

import pytest

import fgvr.callbacks
from fgvr.errors import UserError
from fgvr.runs.fingerprint import (
    DECIDING,
    RENAMED,
    code_fingerprint,
    config_fingerprint,
    differences,
    own_code,
    refuse_changes,
)

CONFIG = {
    "model": {"class_path": "a.B", "init_args": {"lr": 1e-5, "sizes": [1, 2], "path": Path("x")}},
    "data": {"init_args": {"workers": 4, "seed": 0, "empty": []}},
    "trainer": {"max_steps": 10, "devices": 2, "callbacks": []},
    "run": {"dir": "runs/a"},
    "seed_everything": 0,
}


def test_a_config_is_flattened_without_what_does_not_decide_what_is_learned() -> None:
    assert config_fingerprint(CONFIG) == {
        "model.class_path": "a.B",
        "model.init_args.lr": 1e-5,
        "model.init_args.sizes[0]": 1,
        "model.init_args.sizes[1]": 2,
        "model.init_args.path": "x",
        "data.init_args.seed": 0,
        "data.init_args.empty": [],
        "trainer.max_steps": 10,
        "seed_everything": 0,
    }


WATCHING = {  # only look on, whatever their settings
    *(
        "DriftWatch",
        "EncoderBaseline",
        "JudgeValidation",
        "ProtocolAudit",
        "SampleLogging",
        "Throughput",
        "TrackioLogger",
        "TripletLogging",
        "TwoStepInference",
    ),
}


def test_a_callback_counts_where_it_decides_what_is_learned() -> None:
    names = ["CollapseWatch", "OptionRefresh", "RolloutGeneration", "SampleLogging"]
    callbacks = [{"class_path": f"fgvr.callbacks.{name}", "init_args": {"every": 1}} for name in names]
    found = config_fingerprint({"trainer": {"callbacks": callbacks}})
    assert found == {f"trainer.{name}.every": 1 for name in names[:3]}


def test_of_every_callback_it_is_known_whether_it_decides() -> None:
    assert {*DECIDING, *WATCHING} == set(fgvr.callbacks.__all__)
    assert WATCHING.isdisjoint(DECIDING)


def test_a_resume_with_options_mined_otherwise_is_refused() -> None:
    def fingerprint(**settings: int) -> dict[str, object]:
        refresh = {"class_path": "fgvr.callbacks.OptionRefresh", "init_args": settings}
        return {"config": config_fingerprint({"trainer": {"callbacks": [refresh]}})}

    with pytest.raises(UserError, match=r"trainer\.OptionRefresh\.photos: 400 -> 200"):
        refuse_changes(fingerprint(photos=400), fingerprint(photos=200), [], Path("runs/a"))


def test_code_is_told_apart_by_the_file_that_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.py").write_text("1")
    (tmp_path / "c.py").write_text("1")
    then = code_fingerprint(tmp_path)
    (tmp_path / "a/b.py").write_text("2")
    assert differences({"code": then}, {"code": code_fingerprint(tmp_path)}) == {"code": ["a/b.py changed"]}


def test_a_class_of_ones_own_is_code_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_mine.py").write_text("class Reward:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {"model.class_path": "fgvr.modules.GRPO", "a[0].class_path": "of_mine.Reward", "b.class_path": "gone.At"}
    then = {
        "code": own_code(config | {"logger.class_path": "lightning.pytorch.Trainer", "of_mine.Reward": "class_path"})
    }
    assert list(then["code"]) == ["of_mine.py"]
    (tmp_path / "of_mine.py").write_text("class Reward:\n    weight = 2\n")
    assert differences(then, {"code": own_code(config)}) == {"code": ["of_mine.py changed"]}
    assert own_code({"model.class_path": "fgvr.modules.GRPO"}) == {}


def test_a_class_that_has_moved_since_is_the_same_class() -> None:
    then, now = ({"config": {"task.class_path": name}} for name in ("fgvr.data.tasks.OpenWorld", "fgvr.data.OpenWorld"))
    assert differences(then, now) == {}


def test_a_run_may_go_on_with_another_attention_and_an_older_one_is_not_asked_for_its_own() -> None:
    policy = {"attention": "sdpa", "prefix_attention": None, "freeze": ["vision"]}
    config = {"model": {"init_args": {"policy": policy}}}
    assert not [key for key in config_fingerprint(config) if "attention" in key]
    policy_then = {"model.init_args.policy.attention": "sdpa", "model.init_args.policy.freeze[0]": "vision"}
    older = {"config": policy_then | {"trainer": {}}}
    assert differences(older, {"config": config_fingerprint(config)}) == {}


def test_a_setting_that_an_older_version_did_not_have_says_nothing_where_it_is_empty() -> None:
    def config(**optimizer: Any) -> dict[str, Any]:
        settings = {"model": {"init_args": {"optimizer": {"lr": 1e-5, **optimizer}, "policy": {"freeze": []}}}}
        return {"config": config_fingerprint(settings)}

    assert differences(config(), config(rates={})) == differences(config(rates={}), config()) == {}
    key = "model.init_args.optimizer.rates"
    assert differences(config(), config(rates={"vision": 1e-6})) == {"config": [f"{key}.vision: absent -> 1e-06"]}
    changed = differences(config(rates={}), config(rates={"vision": 1e-6}))
    assert changed == {"config": [f"{key}.vision: absent -> 1e-06"]}


def test_every_new_name_is_one_that_can_be_imported() -> None:
    for name in RENAMED.values():
        room, _, kind = name.rpartition(".")
        assert hasattr(importlib.import_module(room), kind)


def test_the_refusal_names_keys_old_and_new_and_how_to_allow_it() -> None:
    then = {"config": {"lr": 1, "gone": 2}, "data": "abc", "code": {"version": "1"}}
    now = {"config": {"lr": 3, "new": 4}, "data": {"train": "x"}, "code": {"version": "1"}}
    with pytest.raises(UserError) as error:
        refuse_changes(then, now, ["data"], Path("runs/a"))
    text = str(error.value)
    assert "config: gone: 2 -> absent, lr: 1 -> 3, new: absent -> 4" in text
    assert "--run.allow_changed '[config]'" in text
    refuse_changes(then, now, ["data", "config"], Path("runs/a"))


def test_a_part_that_one_side_does_not_have_is_not_compared() -> None:
    refuse_changes({"config": {"lr": 1}}, {"config": {"lr": 1}, "data": "abc"}, [], Path("x"))
