import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_backbone
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_pictures import TABLE, check_file, in_another_process, shown, size_of
from toy_validation import Toy

from fgvr.callbacks.showing import view_of
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.modules import SFT


def test_pictures_are_files_whatever_the_loggers(tmp_path: Path) -> None:
    for number, loggers in enumerate([(), (CSVLogger(tmp_path / "csv"),)]):
        shown(tmp_path / str(number), *loggers)
        check_file(tmp_path / str(number))


def test_tensorboard_gets_pictures_and_markdown(tmp_path: Path) -> None:
    shown(tmp_path, TensorBoardLogger(tmp_path, name="tensorboard", version=""))
    check_file(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (picture,) = events.Images("answers/seen")
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (40, 30)
    (text,) = events.Tensors("answers/seen/text_summary")
    assert text.tensor_proto.string_val[0].decode() == TABLE.markdown()


class Taking(CSVLogger):
    """A logger of somebody's own, with the methods of W&B's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.taken: list[tuple[Any, ...]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.taken.append((key, [image.size for image in images], step))

    def log_table(
        self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: int | None = None
    ) -> None:
        self.taken.append((key, columns, data, step))


def test_every_logger_with_those_methods_gets_them(tmp_path: Path) -> None:
    logger = Taking(tmp_path)
    shown(tmp_path, logger, CSVLogger(tmp_path / "other"))
    assert logger.taken == [
        ("answers/seen", [(40, 30)], 0),
        ("answers/seen/table", ["name", "reward", "n"], [["<b>Wren</b>", 0.5, 2], ["鳥", None, 3]], 0),
    ]


WANDB = """
import sys
from lightning.pytorch.loggers import WandbLogger
from toy_pictures import shown

logger = WandbLogger(save_dir=sys.argv[1], offline=True)
shown(sys.argv[1], logger)
logger.experiment.finish()
"""


def test_wandb_gets_pictures_and_tables(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    in_another_process(WANDB, tmp_path, WANDB_MODE="offline", WANDB_SILENT="true")
    check_file(tmp_path)
    media = next((tmp_path / "wandb").glob("offline-run-*/files/media"))
    (picture,) = (media / "images" / "answers").glob("seen_*.png")
    assert size_of(picture) == (40, 30)
    (table,) = (media / "table" / "answers" / "seen").glob("table_*.json")
    said = json.loads(table.read_text())
    assert (said["columns"], said["data"]) == (list(TABLE.columns), [list(row) for row in TABLE.rows])


def test_a_policy_is_shown_photos_within_its_budget_and_any_other_module_as_they_are() -> None:
    photo = Image.new("RGB", (300, 200))
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))
    assert view_of(SFT(config))(photo).size == (84, 56)
    assert view_of(Toy())(photo).size == (300, 200)
