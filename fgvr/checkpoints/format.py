"""Checkpoints that are whole or not there at all.

A checkpoint is a folder `NAME.ckpt/` with `state.pt` (tensors and plain data), `shard-00000.safetensors` and so on
where several processes held the rows of its tensors, and `manifest.json` (size and sha256 of every file). It is written
under a hidden name beside its place and renamed last, so what bears the name is complete, and what the manifest does
not confirm is not loaded.
"""

from __future__ import annotations

import errno
import logging
import pickle
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fgvr.checkpoints.hashed import write_file
from fgvr.checkpoints.manifest import (
    MANIFEST,
    PLAIN,
    STATE,
    CheckpointManifest,
    DamagedCheckpoint,
    FileRecord,
    confirm,
    confirm_file,
    manifest_of,
    open_confined,
    read_manifest,
    unreadable_is_damaged,
)
from fgvr.checkpoints.plain_data import plain
from fgvr.checkpoints.sharded import Part, opened, read_whole
from fgvr.errors import UserError
from fgvr.retries import patiently
from fgvr.whole_files import flush, unsealed

SUFFIX = ".ckpt"
REPLACED = "~replaced"
CHUNK = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """A checkpoint on its way: the processes write their parts to `building`, which is renamed when all are whole.

    What the disk refuses is a UserError; the checkpoints already there are untouched.
    """

    path: Path
    building: Path
    part: Part

    @property
    def leads(self) -> bool:
        """Whether this is the process that makes the folder and completes it."""
        return self.part.state is not None

    def begin(self) -> None:
        """Makes the folder that the parts are written to, beside the checkpoint's place."""
        with self._refusals():
            # its name is nobody else's: one that is there was made by a call that reported a failure all the same
            patiently(lambda: self.building.mkdir(parents=True, exist_ok=True), self.building)

    def write(self) -> dict[str, FileRecord]:
        """The files of this process's part, by name, now on the disk."""
        with self._refusals():
            return self.part.write(self.building)

    def complete(self, files: Mapping[str, FileRecord]) -> None:
        """Gives the finished folder, which holds these files of all processes, its name; for the one that leads."""
        assert self.part.state is not None
        with self._refusals():
            write_file(self.building / MANIFEST, manifest_of(self.part.state, files).dump())
            flush(self.building)
            put_in_place(self.building, self.path)

    def give_up(self) -> None:
        shutil.rmtree(self.building, ignore_errors=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise no_room(f"The checkpoint {self.path} could not be written", self.path.parent, error) from error


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Replaces `path` in one step: killed at any moment, the folder still holds the old checkpoint or the new one.

    Raises UserError when the disk refuses (the checkpoints already there are untouched) or when something in
    `checkpoint` could not be loaded again safely.
    """
    saving = Saving(path, hidden_name(path, "new"), Part(plain(checkpoint)))
    try:
        saving.begin()
        saving.complete(saving.write())
    except BaseException:
        saving.give_up()
        raise


def no_room(what: str, folder: Path, error: OSError) -> UserError:
    """What is said when a disk refuses a checkpoint."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = f"{shutil.disk_usage(there).free / 1e6:.0f} MB are free there"
    if error.errno == errno.EDQUOT:
        free += ", but not for this user: see what the quota says"
    return UserError(
        f"{what} ({error.strerror or error}; {free}). "
        "The checkpoints already saved are untouched: make room or point run.dir elsewhere, then start again."
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's dictionary on the CPU, after every hash has been compared; raises DamagedCheckpoint."""
    return read_whole(open_checkpoint(path))


def open_checkpoint(path: Path, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """The same, but of a tensor that the shards hold a StoredTensor, whose rows are read when they are asked for.

    Where `world` processes open it together each compares the hashes of its share of the files, and none may use it
    before all have come back; they share the pages of a checkpoint without shards, and read what they use of it.
    """
    manifest = read_manifest(path)
    own = sorted(manifest.files)[rank::world]
    confirm(path, manifest.files, [name for name in own if name != STATE])
    with unreadable_is_damaged(path, STATE):
        state = patiently(lambda: _load(path, manifest, STATE in own, world > 1), path / STATE)
    return state if manifest.format == PLAIN else opened(path, manifest, state)


def _load(path: Path, manifest: CheckpointManifest, checks: bool, together: bool) -> dict[str, Any]:
    with open_confined(path, STATE) as file:
        if checks:
            confirm_file(path, STATE, file, manifest.files[STATE])
            file.seek(0)
        shared = together and manifest.format == PLAIN
        try:
            return torch.load(path / STATE if shared else file, map_location="cpu", weights_only=True, mmap=shared)
        except pickle.UnpicklingError as error:
            raise DamagedCheckpoint(
                f"The checkpoint {path} holds more than tensors and plain data and is not opened, "
                "because such a file can run code."
            ) from error
        except (RuntimeError, EOFError) as error:
            raise DamagedCheckpoint(f"The checkpoint {path} cannot be read: {error}.") from error


def verify_checkpoint(path: Path) -> CheckpointManifest:
    """Reads every byte of the checkpoint and compares it with the manifest; raises DamagedCheckpoint."""
    manifest = read_manifest(path)
    confirm(path, manifest.files, manifest.files)
    return manifest


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints whose manifest can be read, oldest step first; nothing is hashed."""
    found: list[tuple[int, bool, str]] = []
    for path in folder.glob(f"[!.]*{SUFFIX}"):
        try:
            found.append((read_manifest(path).step, REPLACED not in path.name, path.name))
        except UserError as damage:
            log.warning("%s It is passed over.", damage)
    return [folder / name for _, _, name in sorted(found)]


def newest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in `folder` that its manifest confirms; says on the log which later ones it passed over."""
    for path in reversed(checkpoints_in(folder)):
        try:
            verify_checkpoint(path)
        except DamagedCheckpoint as damage:
            log.warning("%s It is passed over.", damage)
            continue
        return path
    return None


def best_checkpoint(folder: Path, remedy: str) -> Path:
    """The checkpoint that `best.json` names; raises UserError, with `remedy`, when it names none that is whole."""
    record = folder / "best.json"
    if not record.is_file():
        raise UserError(f"{folder} has no best.json: set run.best to a validation figure before training.")
    path = folder / read_object(record, "checkpoint", str, remedy)["checkpoint"]
    verify_checkpoint(path)
    return path


def read_object(file: Path, key: str, kind: type, remedy: str) -> dict[str, Any]:
    """A JSON object of which `key` at least is there and of the type it must be; raises UserError with `remedy`.

    A digest in it must be its own; an object without one comes from an older version, and the log says so.
    """
    try:
        content, vouched = unsealed(patiently(file.read_bytes, file))
    except ValueError as error:
        raise UserError(f"{file} must be readable JSON, but it is damaged ({error}): {remedy}.") from error
    if not vouched:
        log.info("%s was written by an older version and has no digest: damage to it would pass unnoticed.", file)
    if not isinstance(content.get(key), kind):
        raise UserError(f"{file} must hold an object with a {key}, but it does not: {remedy}.")
    return content


def remove_checkpoint(path: Path) -> None:
    """Takes the name away in one step, then the files; what the disk will not give up is left for `sweep`."""
    try:
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            leaving = hidden_name(path, "gone")
            path.rename(leaving)
            shutil.rmtree(leaving)
    except OSError as error:
        log.warning("The old checkpoint %s could not be removed (%s); it is tried again later.", path, error.strerror)


def sweep(folder: Path) -> list[Path]:
    """Removes what killed processes left half-written or half-removed in `folder`; only for the folder's one writer."""
    swept = [path for kind in ("new", "gone") for path in folder.glob(f".*.{kind}-*")]
    for path in folder.glob(f"*{REPLACED}{SUFFIX}"):
        original = path.with_name(path.name.replace(REPLACED, ""))
        if original.exists():
            swept.append(path)
        else:
            path.rename(original)
    return [path for path in swept if _swept(path)]


def put_in_place(building: Path, path: Path) -> None:
    aside = path.with_name(f"{path.stem}{REPLACED}{SUFFIX}")
    if path.is_symlink():
        path.unlink()
    if path.exists():
        # a folder cannot be renamed over another; the old one stays a valid checkpoint under its other name
        remove_checkpoint(aside)
        path.rename(aside)
        flush(path.parent)
    patiently(lambda: building.rename(path), path)
    flush(path.parent)
    remove_checkpoint(aside)


def _swept(path: Path) -> bool:
    try:
        shutil.rmtree(path)
    except OSError as error:
        log.warning("%s could not be removed (%s); the next start tries it again.", path, error.strerror)
        return False
    return True


def hidden_name(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{uuid.uuid4().hex[:12]}")
