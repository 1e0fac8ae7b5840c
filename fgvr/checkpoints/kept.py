"""What a run began with and cannot do without: kept in its own folder, found by its digest wherever it is now.

runs/NAME/base/0123456789abcdef.ckpt/ is a checkpoint of another run, under the first digits of its digest;
runs/NAME/base/MODEL-01234567/ a folder with a pretrained model.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fgvr.checkpoints.format import CHUNK, SUFFIX, hidden_name, no_room, put_in_place
from fgvr.checkpoints.hashed import hashed
from fgvr.checkpoints.manifest import MANIFEST, DamagedCheckpoint, FileRecord, open_confined, read_manifest
from fgvr.errors import UserError
from fgvr.whole_files import flush

CHECKPOINTS = "checkpoints"  # the folder of a run that holds its own
ASIDE = "set-aside"  # what a folder in it begins with, whose checkpoints a run went back behind
BASE = "base"  # the folder of a run that holds what it began with
OF_BASE = "base"  # the part of a checkpoint's fingerprint that says what its run began with: digest and path

log = logging.getLogger(__name__)


def digest_of(path: Path) -> str:
    """What tells a checkpoint from every other, as its manifest has it."""
    return read_manifest(path).digest


def began_with(checkpoint: Path) -> Mapping[str, str] | None:
    """Digest and path of the weights that a checkpoint's run began with; None where it began with none from a disk."""
    return read_manifest(checkpoint).fingerprint.get(OF_BASE)


def keep_checkpoint(path: Path, run: Path) -> Path:
    """Where the checkpoint `path` is in the folder of `run`, after it has been put there, whole or not at all.

    It is a hard link, which takes no room while the other stays, or a copy whose hash was compared, where the file
    system or its rights allow none. For the folder's one writer. Raises UserError when the disk refuses, and
    DamagedCheckpoint for a copy that is not what the manifest says.
    """
    manifest = read_manifest(path)
    target = run / BASE / f"{manifest.digest[:16]}{SUFFIX}"
    with suppress(UserError):
        if digest_of(target) == manifest.digest:
            return target
    building = hidden_name(target, "new")
    try:
        building.mkdir(parents=True)
        linked = all(link(path / name, building / name) for name in manifest.files)
        for name, record in manifest.files.items() if not linked else ():
            _copy(path, building, name, record)
        with open_confined(path, MANIFEST) as file:
            (building / MANIFEST).write_bytes(file.read())
        flush(building / MANIFEST)
        flush(building)
        put_in_place(building, target)
    except OSError as error:
        what = f"{path}, which the run needs to go on, could not be kept in {target.parent}"
        raise no_room(what, run, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    how = "linked, so it takes room of its own only once the other is removed" if linked else "copied"
    log.info("%s is kept as %s (%.1f MB, %s): the run needs it to go on.", path, target, manifest.size / 1e6, how)
    return target


def find_checkpoint(digest: str, was: Path, near: Path) -> Path | None:
    """The checkpoint of that digest: in the folder of the run that `near` is of, where it was, or beside that folder.

    `near` is a checkpoint itself; of one that lies in no run's folder only where it was. The hash of the state is not
    compared here.
    """
    run = run_of(near)
    for path in _candidates(was, run):
        try:
            if digest_of(path) == digest:
                return path
        except UserError as damage:
            if run is not None and path.parent == run / BASE:
                log.warning("%s It is passed over.", damage)
    return None


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint lies in; None for one that was copied out of it."""
    folder = checkpoint.absolute().parent
    if folder.name.startswith(ASIDE):
        folder = folder.parent
    return folder.parent if folder.name in (CHECKPOINTS, BASE) else None


def how_to_put_back(checkpoint: Path, what: str) -> str:
    """What to do for what the checkpoint's run began with, when it is in none of the places that are looked at."""
    run = run_of(checkpoint)
    if run is None:
        return f"put it back there, or put the checkpoint back into its run, whose {BASE}/ is looked at"
    return f"put it back there or, {what}, into {run / BASE}"


def _candidates(was: Path, run: Path | None) -> Iterator[Path]:
    if run is None:
        yield was
        return
    yield from sorted((run / BASE).glob(f"[!.]*{SUFFIX}"))
    yield was
    if (other := run_of(was)) is not None:  # a folder of runs that was moved as a whole, or to another machine
        yield run.parent / other.name / was.absolute().relative_to(other)
    for folder in (CHECKPOINTS, BASE):
        yield from sorted(run.parent.glob(f"*/{folder}/[!.]*{SUFFIX}"))


def link(source: Path, target: Path) -> bool:
    """Whether the file could be given a second name."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, one without links, or one that refuses them for another's files
        return False
    return True


def _copy(checkpoint: Path, target: Path, name: str, record: FileRecord) -> None:
    (target / name).unlink(missing_ok=True)  # of several files some may have been linked
    with open_confined(checkpoint, name) as source, hashed(target / name) as writer:
        shutil.copyfileobj(source, writer, CHUNK)
    if writer.record != record:
        raise DamagedCheckpoint(f"The checkpoint {checkpoint} is damaged: {name} is not what its manifest says.")
