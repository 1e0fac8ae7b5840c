"""Folders with a pretrained model: told apart by their weights, and found again by them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fgvr.checkpoints.kept import BASE, run_of


def folder_digest(folder: Path) -> str:
    """Tells two checkpoints apart: names, sizes and both ends (1 MiB each) of the weight files, and config.json."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(2**20))
            stream.seek(max(0, size - 2**20))
            digest.update(stream.read())
    return digest.hexdigest()


def find_folder(digest: str, was: Path, near: Path) -> Path | None:
    """The folder of that digest: where it was, in the base of the run that `near` is a checkpoint of, or beside it."""
    for folder in _candidates(was, run_of(near)):
        with suppress(OSError):  # one without a config.json holds no model
            if folder_digest(folder) == digest:
                return folder
    return None


def _candidates(was: Path, run: Path) -> Iterator[Path]:
    yield was
    yield from sorted((run / BASE).glob("*/"))
    yield from sorted(run.parent.glob("*/"))
