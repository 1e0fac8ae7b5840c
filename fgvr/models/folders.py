"""Folders with a pretrained model: told apart by their weights, found again by them, and kept by who needs them."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fgvr.checkpoints.format import hidden_name, no_room, remove_checkpoint
from fgvr.checkpoints.kept import BASE, link, run_of
from fgvr.whole_files import flush

log = logging.getLogger(__name__)


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
    return next((folder for folder in _candidates(was, run_of(near)) if _holds(folder, digest)), None)


def keep_folder(folder: Path, run: Path) -> None:
    """Has the folder's files in that of `run` as well, as hard links: they take no room while the others stay.

    Where there can be none, between two file systems say, nothing is copied, since a model is large, and the log says
    what must stay. For the folder's one writer. Raises UserError when the disk refuses.
    """
    digest = folder_digest(folder)
    if any(_holds(kept, digest) for kept in _kept(run)):
        return
    target = run / BASE / f"{folder.resolve().name.lstrip('.')}-{digest[:8]}"  # hidden ones are half-made
    building = hidden_name(target, "new")
    try:
        building.mkdir(parents=True)
        linked = all(link(file.resolve(), building / file.name) for file in folder.iterdir() if file.is_file())
        if linked:
            flush(building)
            remove_checkpoint(target)
            building.rename(target)
            flush(target.parent)
    except OSError as error:
        raise no_room(
            f"{folder}, which the run needs to go on, could not be kept in {target.parent}", run, error
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    if linked:
        log.info("%s is kept as %s (linked): the run needs it to go on.", folder, target)
    else:
        log.info("%s cannot be linked into %s: leave it where it is, the run needs it to go on.", folder, target.parent)
        with suppress(OSError):  # others are kept there
            target.parent.rmdir()


def _holds(folder: Path, digest: str) -> bool:
    try:
        return folder_digest(folder) == digest
    except OSError:  # without a config.json it holds no model
        return False


def _kept(run: Path) -> list[Path]:
    return sorted((run / BASE).glob("[!.]*/"))


def _candidates(was: Path, run: Path | None) -> Iterator[Path]:
    yield was
    if run is not None:
        yield from _kept(run)
        yield from sorted(run.parent.glob("*/"))
