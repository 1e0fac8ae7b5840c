"""Where pictures and tables go: the run's folder, and every logger that can take them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from fgvr.callbacks.steps import steps_behind
from fgvr.data.images import View, as_stored
from fgvr.metrics.lengths import words
from fgvr.modules import PolicyModule
from fgvr.pictures.tables import Table
from fgvr.whole_files import write_whole

FOLDER = "pictures"


def view_of(module: LightningModule) -> View:
    """What the module's model is given of a photo: upright, within the pixel budget."""
    return module.processor.view if isinstance(module, PolicyModule) else as_stored


def length_of(module: LightningModule) -> Callable[[str], int]:
    """Counts the tokens of a reply's text as the module's model has them; its words where there is no model."""
    if not isinstance(module, PolicyModule):
        return words
    tokenizer = module.processor.tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def show(trainer: Trainer, pictures: Mapping[str, Image.Image], tables: Mapping[str, Table]) -> None:
    """Writes pictures/NAME/step-00000100.png into the Trainer's root folder, and hands all to the loggers by name.

    What a test shows is in pictures/test/NAME. TensorBoard takes tables as markdown. Any other logger gets pictures and
    tables when it has W&B's `log_image` and `log_table`, as those of Lightning, SwanLab and fgvr's for Trackio do; one
    without them gets none. For the one process that writes.
    """
    step, root = steps_behind(trainer), Path(trainer.default_root_dir) / FOLDER
    if trainer.state.fn == TrainerFn.TESTING:
        root /= "test"
    for name, picture in pictures.items():
        file = root / name / f"step-{step:08}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        picture.save(data, "PNG")
        write_whole(file, data.getvalue())
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger, pictures, tables, step)
        else:
            _by_interface(logger, pictures, tables, step)


def drop_later_pictures(trainer: Trainer) -> None:
    """Removes what an earlier process drew after the step that this training goes on from."""
    for file in (Path(trainer.default_root_dir) / FOLDER).rglob("step-*.png"):
        found = re.fullmatch(r"step-(\d+)\.png", file.name)
        if found and int(found[1]) > trainer.global_step:
            file.unlink(missing_ok=True)


def _to_tensorboard(
    logger: TensorBoardLogger, pictures: Mapping[str, Image.Image], tables: Mapping[str, Table], step: int
) -> None:
    for name, picture in pictures.items():
        logger.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")
    for name, table in tables.items():
        logger.experiment.add_text(name, table.markdown(), step)


def _by_interface(logger: Logger, pictures: Mapping[str, Image.Image], tables: Mapping[str, Table], step: int) -> None:
    taking: Any = logger
    if hasattr(logger, "log_image"):
        for name, picture in pictures.items():
            taking.log_image(name, [picture], step=step)
    if hasattr(logger, "log_table"):
        for name, table in tables.items():  # under names of their own: a key holds one kind of thing
            taking.log_table(f"{name}/table", list(table.columns), [list(row) for row in table.rows], step=step)
