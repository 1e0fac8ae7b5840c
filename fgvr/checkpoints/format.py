"""Checkpoints that are whole or not there at all.

A checkpoint is a folder `NAME.ckpt/` with `state.pt` (tensors and plain data) and `manifest.json` (size and sha256 of
every file). It is written under a hidden name beside its place and renamed last, so what bears the name is complete,
and what the manifest does not confirm is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
import stat
import uuid
from dataclasses import asdict, dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import torch

from fgvr.checkpoints.plain_data import plain
from fgvr.errors import UserError
from fgvr.whole_files import flush, unsealed

FORMAT = 1
SUFFIX = ".ckpt"
STATE = "state.pt"
MANIFEST = "manifest.json"
REPLACED = "~replaced"
CHUNK = 1 << 20

log = logging.getLogger(__name__)


class DamagedCheckpoint(UserError):
    """A checkpoint that its own manifest does not confirm, or that holds more than tensors and plain data."""


@dataclass(frozen=True)
class FileRecord:
    """What a file of a checkpoint must be: `size` in bytes, `sha256` in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """The contents of `manifest.json`, next to a hash of themselves.

    `step` counts optimiser steps; `fingerprint` says what the run was made of.
    """

    step: int
    epoch: int
    files: dict[str, FileRecord]
    fingerprint: dict[str, Any] = field(default_factory=dict[str, Any])
    format: int = FORMAT


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Replaces `path` in one step: killed at any moment, the folder still holds the old checkpoint or the new one.

    Raises UserError when the disk refuses (the checkpoints already there are untouched) or when something in
    `checkpoint` could not be loaded again safely.
    """
    content = plain(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = hidden_name(path, "new")
    try:
        building.mkdir()
        state = _write_state(content, building / STATE)
        manifest = CheckpointManifest(
            step=int(content.get("global_step", 0)),
            epoch=int(content.get("epoch", 0)),
            files={STATE: state},
            fingerprint=content.get("fgvr", {}).get("fingerprint", {}),
        )
        body = asdict(manifest)
        text = json.dumps({**body, "sha256": _own_hash(body)}, indent=1, sort_keys=True)
        _write_file(building / MANIFEST, text.encode())
        flush(building)
        put_in_place(building, path)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise no_room(f"The checkpoint {path} could not be written", path.parent, error) from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def no_room(what: str, folder: Path, error: OSError) -> UserError:
    """What is said when a disk refuses a checkpoint."""
    free = shutil.disk_usage(folder).free / 1e6
    return UserError(
        f"{what} ({error.strerror or error}; {free:.0f} MB are free there). "
        "The checkpoints already saved are untouched: make room or point run.dir elsewhere, then start again."
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's dictionary on the CPU, after every hash has been compared; raises DamagedCheckpoint."""
    manifest = read_manifest(path)
    with open_confined(path, STATE) as file:
        _confirm(path, STATE, file, manifest.files[STATE])
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
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
    for name, record in manifest.files.items():
        with open_confined(path, name) as file:
            _confirm(path, name, file, record)
    return manifest


def read_manifest(path: Path) -> CheckpointManifest:
    """Reads the manifest without the hashes being compared; raises DamagedCheckpoint."""
    if not path.is_dir():
        what = "is not there" if not path.exists() else f"is not a folder with {STATE} and {MANIFEST}"
        raise DamagedCheckpoint(f"The checkpoint {path} {what}.")
    try:
        with open_confined(path, MANIFEST) as file:
            raw = json.loads(file.read())
        if raw.pop("sha256") != _own_hash(raw):
            raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {MANIFEST} does not have its own hash.")
        if raw["format"] != FORMAT:
            raise UserError(
                f"The checkpoint {path} has format {raw['format']}, this version reads {FORMAT}: "
                "use the version of fgvr that wrote it."
            )
        files = {name: FileRecord(int(entry["size"]), str(entry["sha256"])) for name, entry in raw["files"].items()}
        manifest = CheckpointManifest(int(raw["step"]), int(raw["epoch"]), files, dict(raw["fingerprint"]))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"The checkpoint {path} has a damaged {MANIFEST} ({error}).") from error
    if set(files) != {STATE}:
        raise DamagedCheckpoint(f"The checkpoint {path} must list {STATE} alone in its manifest, not {sorted(files)}.")
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
        content, vouched = unsealed(file.read_bytes())
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


class HashingWriter:
    """The stream torch.save writes into: counts and hashes on the way, and keeps the disk's own error."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _write_state(content: dict[str, Any], path: Path) -> FileRecord:
    with path.open("wb") as file:
        writer = HashingWriter(file)
        try:
            torch.save(content, writer)  # pyright: ignore[reportArgumentType]
        except RuntimeError:
            # torch reports a full disk as a failure of its own writer
            if writer.failure is not None:
                raise writer.failure from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(writer.size, writer.digest.hexdigest())


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(building: Path, path: Path) -> None:
    aside = path.with_name(f"{path.stem}{REPLACED}{SUFFIX}")
    if path.is_symlink():
        path.unlink()
    if path.exists():
        # a folder cannot be renamed over another; the old one stays a valid checkpoint under its other name
        remove_checkpoint(aside)
        path.rename(aside)
        flush(path.parent)
    building.rename(path)
    flush(path.parent)
    remove_checkpoint(aside)


def _swept(path: Path) -> bool:
    try:
        shutil.rmtree(path)
    except OSError as error:
        log.warning("%s could not be removed (%s); the next start tries it again.", path, error.strerror)
        return False
    return True


def open_confined(path: Path, name: str) -> BufferedReader:
    """Opens a file of the checkpoint only if neither it nor the checkpoint is a link that leads elsewhere."""
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise DamagedCheckpoint(f"The checkpoint {path} is a link that leads out of its folder and is not followed.")
    try:
        descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise DamagedCheckpoint(f"The checkpoint {path} lacks a readable {name} ({error.strerror}).") from error
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise DamagedCheckpoint(f"The checkpoint {path} must hold {name} as an ordinary file.")
    return file


def _confirm(path: Path, name: str, file: BufferedReader, record: FileRecord) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != record.size:
        raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {name} has {size} bytes instead of {record.size}.")
    if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
        raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {name} does not have the hash of its manifest.")


def _own_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def hidden_name(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{uuid.uuid4().hex[:12]}")
