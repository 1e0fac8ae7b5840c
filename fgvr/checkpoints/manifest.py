"""What a checkpoint consists of, and how its files are opened: none that leads elsewhere, none that was altered."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.retries import patiently

PLAIN, SHARDED = 1, 2  # formats: all in one file, or the rows of tensors in files of the processes that held them
STATE = "state.pt"
MANIFEST = "manifest.json"
SHARD_FORM = re.compile(r"shard-\d{5}\.safetensors")


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
    format: int = PLAIN

    @property
    def digest(self) -> str:
        """What tells a checkpoint from every other: the sha256 of its state, or of the hashes of all its files."""
        if self.format == PLAIN:
            return self.files[STATE].sha256
        hashes = sorted((name, record.sha256) for name, record in self.files.items())
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(record.size for record in self.files.values())

    def dump(self) -> bytes:
        """The text of the file, with the hash of itself."""
        body = asdict(self)
        return json.dumps({**body, "sha256": _own_hash(body)}, indent=1, sort_keys=True).encode()


def manifest_of(content: Mapping[str, Any], files: Mapping[str, FileRecord]) -> CheckpointManifest:
    """The manifest of a checkpoint's dictionary and the files that were made of it."""
    return CheckpointManifest(
        step=int(content.get("global_step", 0)),
        epoch=int(content.get("epoch", 0)),
        files=dict(files),
        fingerprint=content.get("fgvr", {}).get("fingerprint", {}),
        format=PLAIN if set(files) == {STATE} else SHARDED,
    )


def read_manifest(path: Path) -> CheckpointManifest:
    """Reads the manifest without the hashes being compared; raises DamagedCheckpoint."""
    if not path.is_dir():
        what = "is not there" if not path.exists() else f"is not a folder with {STATE} and {MANIFEST}"
        raise DamagedCheckpoint(f"The checkpoint {path} {what}.")
    try:
        raw = json.loads(patiently(lambda: _bytes_of(path, MANIFEST), path / MANIFEST))
        if raw.pop("sha256") != _own_hash(raw):
            raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {MANIFEST} does not have its own hash.")
        if raw["format"] not in (PLAIN, SHARDED):
            raise UserError(
                f"The checkpoint {path} has format {raw['format']}, this version reads {PLAIN} and {SHARDED}: "
                "use the version of fgvr that wrote it."
            )
        files = {name: FileRecord(int(entry["size"]), str(entry["sha256"])) for name, entry in raw["files"].items()}
        step, epoch = int(raw["step"]), int(raw["epoch"])
        manifest = CheckpointManifest(step, epoch, files, dict(raw["fingerprint"]), raw["format"])
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
        raise DamagedCheckpoint(f"The checkpoint {path} has a damaged {MANIFEST} ({what}).") from error
    _refuse_other_files(path, manifest)
    return manifest


def confirm(path: Path, files: Mapping[str, FileRecord], names: Collection[str]) -> None:
    """Reads every byte of these files of a checkpoint and compares it with their records; raises DamagedCheckpoint."""

    def read(name: str) -> None:
        with open_confined(path, name) as file:
            confirm_file(path, name, file, files[name])

    for name in names:
        with unreadable_is_damaged(path, name):
            patiently(partial(read, name), path / name)


@contextmanager
def unreadable_is_damaged(path: Path, name: str) -> Iterator[None]:
    """A file of a checkpoint that the disk does not give back is as good as one that has changed."""
    try:
        yield
    except OSError as error:
        raise DamagedCheckpoint(f"The checkpoint {path} lacks a readable {name} ({error.strerror}).") from error


def confirm_file(path: Path, name: str, file: BufferedReader, record: FileRecord) -> None:
    """The same for a file that is open."""
    size = os.fstat(file.fileno()).st_size
    if size != record.size:
        raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {name} has {size} bytes instead of {record.size}.")
    if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
        raise DamagedCheckpoint(f"The checkpoint {path} is damaged: {name} does not have the hash of its manifest.")


def open_confined(path: Path, name: str) -> BufferedReader:
    """Opens a file of the checkpoint only if neither it nor the checkpoint is a link that leads elsewhere."""
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise DamagedCheckpoint(f"The checkpoint {path} is a link that leads out of its folder and is not followed.")
    with unreadable_is_damaged(path, name):
        descriptor = patiently(lambda: os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW), path / name)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise DamagedCheckpoint(f"The checkpoint {path} must hold {name} as an ordinary file.")
    return file


def _bytes_of(path: Path, name: str) -> bytes:
    with open_confined(path, name) as file:
        return file.read()


def _refuse_other_files(path: Path, manifest: CheckpointManifest) -> None:
    names = sorted(manifest.files)
    if manifest.format == PLAIN and names != [STATE]:
        raise DamagedCheckpoint(f"The checkpoint {path} must list {STATE} alone in its manifest, not {names}.")
    shards = [name for name in names if SHARD_FORM.fullmatch(name)]
    if manifest.format == SHARDED and (not shards or names != [*shards, STATE]):
        raise DamagedCheckpoint(f"The checkpoint {path} must list {STATE} and its shards in its manifest, not {names}.")


def _own_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
