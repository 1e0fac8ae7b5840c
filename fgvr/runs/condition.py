"""In what condition a run's folder is: read as a start would read it, and never changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fgvr.checkpoints.format import (
    REPLACED,
    STATE,
    SUFFIX,
    CheckpointManifest,
    DamagedCheckpoint,
    best_checkpoint,
    read_manifest,
    read_object,
)
from fgvr.checkpoints.kept import find_checkpoint
from fgvr.checkpoints.manifest import confirm
from fgvr.errors import UserError
from fgvr.runs.claim import Holder, holder_of
from fgvr.runs.finding import read_config
from fgvr.runs.folder import RunFolder
from fgvr.runs.starts import FILE as STARTS
from fgvr.whole_files import unsealed_line

LEDGERS = ("samples", "rollouts")
LEFT = (".*.new-*", ".*.gone-*", f"*{REPLACED}{SUFFIX}")  # of saves and removals that did not come to their end


@dataclass(frozen=True)
class Judged:
    """A checkpoint, and what is wrong with each of its files; `manifest` is None where that cannot be read."""

    path: Path
    manifest: CheckpointManifest | None
    damage: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.damage


@dataclass(frozen=True)
class Rows:
    """A log of one line per step: rows in all, those of steps after the checkpoint, and damaged lines by number.

    `lacks` is true where the step before the checkpoint's next one has no row.
    """

    path: Path
    count: int
    later: int
    damaged: tuple[int, ...]
    lacks: bool


@dataclass(frozen=True)
class Condition:
    """What a run's folder holds; `starts` is how often in a row the run began at one step, where that is counted."""

    run: RunFolder
    checkpoints: tuple[Judged, ...]
    base: tuple[Judged, ...]
    left: tuple[Path, ...]
    holder: Holder | None
    rows: tuple[Rows, ...]
    starts: tuple[int, int] | None
    damage: tuple[str, ...]
    free: int
    writable: bool

    @property
    def newest(self) -> Judged | None:
        """The checkpoint that a start would take."""
        return next((one for one in reversed(self.checkpoints) if one.whole), None)

    @property
    def next_save(self) -> int:
        """Bytes that the next checkpoint takes, as large as the latest; 0 where there is none to go by."""
        return self.newest.manifest.size if self.newest and self.newest.manifest else 0


def examine(folder: Path) -> Condition:
    """Reads every byte of the folder's checkpoints and logs.

    Raises UserError for a folder that is no run's, or may not be read.
    """
    run = RunFolder(_refuse_no_run(folder))
    checkpoints = tuple(judge(path) for path in _by_step(run.checkpoints))
    newest = next((one for one in reversed(checkpoints) if one.whole), None)
    holder = holder_of(run.dir)
    place = None if newest is None else place_of(newest.path)
    logs = sorted(path for stem in LEDGERS for path in run.dir.glob(f"{stem}*.jsonl"))
    starts, damage = _records(run)
    return Condition(
        run=run,
        checkpoints=checkpoints,
        base=tuple(_judge_base(path, newest) for path in _by_step(run.base)),
        left=tuple(sorted(path for where in (run.checkpoints, run.base) for kind in LEFT for path in where.glob(kind))),
        holder=holder,
        rows=tuple(rows_of(path, place) for path in logs),
        starts=starts,
        damage=damage,
        free=shutil.disk_usage(run.dir).free,
        writable=os.access(run.dir, os.W_OK) and not os.statvfs(run.dir).f_flag & os.ST_RDONLY,
    )


def judge(path: Path) -> Judged:
    """A checkpoint by the hashes of all its files, as a start compares them, but not content with the first that is
    wrong.
    """
    try:
        manifest = read_manifest(path)
    except UserError as error:
        return Judged(path, None, (str(error),))
    return Judged(path, manifest, tuple(_damage(path, manifest)))


def place_of(checkpoint: Path) -> tuple[int, int] | None:
    """Epoch, and batch within it, that a run would read next; None where no stream of shards was saved."""
    state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True, mmap=True)
    streams = [value for value in state.values() if isinstance(value, dict) and {"epoch", "step", "read"} <= {*value}]
    return (streams[0]["epoch"], streams[0]["step"]) if streams else None


def rows_of(path: Path, place: tuple[int, int] | None) -> Rows:
    """A log's rows, told apart by whether a run that goes on at `place` would drop them."""
    damaged: list[int] = []
    places: list[tuple[int, int]] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        try:
            row = unsealed_line(line)
            places.append((int(row["epoch"]), int(row["step"])))
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged.append(number)
    later = sum(place is not None and one >= place for one in places)
    before = {one for one in places if place is not None and one < place}
    lacks = place is not None and place[1] > 0 and (place[0], place[1] - 1) not in before and not damaged
    return Rows(path, len(places), later, tuple(damaged), lacks and path.name.startswith("samples"))


def _refuse_no_run(folder: Path) -> Path:
    try:
        if not folder.exists():
            what = "is a link that leads nowhere" if folder.is_symlink() else "is not there"
            raise UserError(f"A run's folder must be given, but {folder} {what}: give run.dir of a run.")
        if not folder.is_dir():
            raise UserError(f"A run's folder must be given, but {folder} is a file: give run.dir of a run.")
        within = {entry.name for entry in os.scandir(folder)}
        checkpoints = folder / RunFolder(folder).checkpoints.name
        if checkpoints.is_dir():
            os.scandir(checkpoints).close()
    except OSError as error:
        raise UserError(f"A run's folder must be readable, but {error.filename} is not ({error.strerror}).") from error
    if {"checkpoints", "config.yaml"} & within and not {"state.pt", "manifest.json"} <= within:
        return folder
    above = next((one for one in folder.absolute().parents if (one / "checkpoints").is_dir()), None)
    hint = f"give {above}" if above else "there is neither checkpoints/ nor config.yaml in it; give run.dir of a run"
    raise UserError(f"A run's folder must be given, but {folder} is none: {hint}.")


def _by_step(folder: Path) -> list[Path]:
    """As a start orders them, those without a readable step first."""

    def key(path: Path) -> tuple[int, bool, str]:
        try:
            return read_manifest(path).step, REPLACED not in path.name, path.name
        except UserError:
            return -1, False, path.name

    return sorted(folder.glob(f"[!.]*{SUFFIX}"), key=key)


def _damage(path: Path, manifest: CheckpointManifest) -> Iterator[str]:
    for name in sorted(manifest.files):
        try:
            confirm(path, manifest.files, [name])
        except DamagedCheckpoint as damage:
            yield str(damage)


def _judge_base(path: Path, newest: Judged | None) -> Judged:
    """Damage does not count where the same checkpoint is whole in another place that a start looks at."""
    judged = judge(path)
    if judged.whole or judged.manifest is None or newest is None or newest.manifest is None:
        return judged
    began = newest.manifest.fingerprint.get("base") or {}
    other = find_checkpoint(judged.manifest.digest, Path(began.get("path", path)), path)
    return Judged(path, judged.manifest, ()) if other and other != path and judge(other).whole else judged


def _records(run: RunFolder) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The counted starts, and what is damaged of the records beside the checkpoints."""
    starts, damage = None, list[str]()
    try:
        read_config(run.dir)
    except UserError as error:
        damage.append(str(error))
    if (run.dir / STARTS).exists():
        try:
            known = read_object(run.dir / STARTS, "step", int, "remove it, and the count begins anew")
            starts = int(known["starts"]), int(known["step"])
        except UserError as error:
            damage.append(str(error))
    if (run.checkpoints / "best.json").exists():
        try:
            best_checkpoint(run.checkpoints, "the next best figure writes it again")
        except UserError as error:
            damage.append(str(error))
    return starts, tuple(damage)
