"""One picture and one table for any loggers, and what must come of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from PIL import Image

from fgvr.callbacks.showing import show
from fgvr.pictures.tables import Table

TABLE = Table(("name", "reward", "n"), (("<b>Wren</b>", 0.5, 2), ("鳥", None, 3)), title="Robin")


def shown(folder: Path | str, *loggers: Logger) -> None:
    trainer = Trainer(logger=list(loggers), default_root_dir=folder, accelerator="cpu", enable_checkpointing=False)
    show(trainer, {"answers/seen": Image.new("RGB", (40, 30), "#123456")}, {"answers/seen": TABLE})
    for logger in loggers:
        logger.finalize("success")


def check_file(folder: Path) -> None:
    (file,) = (folder / "pictures").rglob("*.*")
    assert file == folder / "pictures" / "answers" / "seen" / "step-00000000.png"
    with Image.open(file) as picture:
        assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (40, 30), (0x12, 0x34, 0x56))


def in_another_process(code: str, folder: Path, **environment: str) -> None:
    """A logger that leaves threads and open files behind takes them along when its process ends."""
    own = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(folder)], env=os.environ | own | environment, check=True)


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size
