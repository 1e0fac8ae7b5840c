"""The sample log: which samples every training step took, written as it happens, and the account of each epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import UserError
from fgvr.retries import patiently
from fgvr.shards.loading import StepLoader
from fgvr.types import ReadRecord
from fgvr.whole_files import sealed_line, unsealed_line

KEYS = frozenset({"epoch", "step", "positions", "uids", "quarantined"})
log = logging.getLogger(__name__)


class SampleLog(Callback):
    """Appends a line per step to samples.jsonl in the run's folder, and closes the account at each epoch's end.

    A line holds epoch, step, positions, uids and quarantined (uid and reason). With several ranks each writes its own
    samples.rankN.jsonl. A resumed run first drops the lines that its checkpoint does not know of. Raises UserError at
    the end of an epoch unless read + quarantined = planned over all ranks. Quarantined samples are named in the
    program's log, in evaluation too; `data/read` and `data/quarantined` are logged per epoch.
    """

    def __init__(self) -> None:
        self._log = RowLog("samples", KEYS)
        self._unusable: dict[int, int] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log.open(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        record: ReadRecord = batch.record
        self._log.write([vars(record)])
        _name(record, "training")
        stream = _stream(trainer)
        # not in on_train_epoch_end: a run saved after the last step of an epoch and resumed never gets there
        if record.step + 1 == len(stream):
            tally = stream.account()
            figures = {"data/read": float(tally.read), "data/quarantined": float(tally.quarantined)}
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unusable = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        bad = _name(batch.record, "evaluation")
        self._unusable[dataloader_idx] = self._unusable.get(dataloader_idx, 0) + bad

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        cohorts = trainer.datamodule.cohorts  # pyright: ignore[reportAttributeAccessIssue]
        for index, count in self._unusable.items():
            pl_module.log(f"data/{cohorts[index]}/quarantined", float(count), sync_dist=True, reduce_fx="sum")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._log.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._log.close()


class RowLog:
    """JSON lines about training steps in the run's folder: STEM.jsonl, or STEM.rankN.jsonl for each of several ranks.

    A row has at least `keys`, epoch and step (the batch within the epoch) among them, and ends in its own checksum.
    Opening it drops the rows of steps that the run does again. Raises UserError without a data module that streams
    shards.
    """

    def __init__(self, stem: str, keys: Set[str]) -> None:
        self.stem, self.keys = stem, keys
        self._file: IO[bytes] | None = None
        self._path, self._end = Path(), 0

    def open(self, trainer: Trainer) -> None:
        """Opens this rank's file for more rows. A collective call."""
        stream, folder = _stream(trainer), Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob(f"{self.stem}*.jsonl")):
                dropped = patiently(partial(drop_rows, path, stream.epoch, stream.step, self.keys), path)
                if dropped:
                    log.warning(
                        "%s: dropped %d lines at or after step %d of epoch %d, which the run does again",
                        path, dropped, stream.step, stream.epoch,
                    )  # fmt: skip
        trainer.strategy.barrier(f"{self.stem} log cut")
        rank = "" if trainer.world_size == 1 else f".rank{trainer.global_rank}"
        self._path = folder / f"{self.stem}{rank}.jsonl"
        self._path.touch()
        self._end = self._path.stat().st_size

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        data = b"".join(map(sealed_line, rows))
        patiently(lambda: self._append(data), self._path)
        self._end += len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _append(self, data: bytes) -> None:
        """Puts the rows behind those that are whole, whatever a call that failed has left there."""
        if self._file is None:
            self._file = self._path.open("r+b")
            self._file.truncate(self._end)
            self._file.seek(self._end)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            error.filename = str(self._path)
            with suppress(OSError):
                self.close()
            self._file = None
            raise


def drop_rows(path: Path, epoch: int, step: int, keys: Set[str] = KEYS) -> int:
    """Cuts a log before the first line at or after this step, or a torn end; returns how many lines went.

    A damaged line with whole ones after it stays where it is, and the program's log names it.
    """
    places: list[tuple[int, int] | None] = []
    ends = [0]
    with path.open("r+b") as file:
        for line in file:
            row = _row(line, keys)
            places.append(None if row is None else (row["epoch"], row["step"]))
            ends.append(ends[-1] + len(line))
        cut = next((n for n, place in enumerate(places) if place is not None and place >= (epoch, step)), len(places))
        while cut and places[cut - 1] is None:
            cut -= 1
        if cut < len(places):
            file.truncate(ends[cut])
    if damaged := [n for n, place in enumerate(places[:cut], start=1) if place is None]:
        log.warning("%s is damaged: its lines %s are not as they were written", path, damaged)
    return len(places) - cut


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of all ranks by epoch and step, each rank's share of a step merged into one, by position.

    Raises UserError for a line that is not whole.
    """
    steps: dict[tuple[int, int], list[tuple[int, str]]] = {}
    quarantined: dict[tuple[int, int], list[list[str]]] = {}
    for path in sorted(Path(folder).glob("samples*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            row = _row(line)
            if row is None:
                raise UserError(f"{path} must hold its lines as they were written, but line {number} is not whole")
            key = row["epoch"], row["step"]
            steps.setdefault(key, []).extend(zip(row["positions"], row["uids"], strict=True))
            quarantined.setdefault(key, []).extend(row["quarantined"])
    rows = []
    for (epoch, step), taken in sorted(steps.items()):
        positions, uids = zip(*sorted(taken), strict=True)
        rows.append({
            "epoch": epoch, "step": step, "positions": list(positions), "uids": list(uids),
            "quarantined": sorted(quarantined[epoch, step]),
        })  # fmt: skip
    return rows


def _row(line: bytes, keys: Set[str] = KEYS) -> Mapping[str, Any] | None:
    try:
        row = unsealed_line(line)
    except (ValueError, RecursionError):
        return None
    return row if keys <= set(row) else None


def _stream(trainer: Trainer) -> StepLoader[Any]:
    stream = getattr(trainer.datamodule, "stream", None)  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(stream, StepLoader):
        raise UserError(
            "a log of what each step took needs a data module that streams shards (fgvr.datamodules): remove its "
            "callback, or use one"
        )
    return stream


def _name(record: ReadRecord, where: str) -> int:
    for uid, reason in record.quarantined:
        log.warning("quarantined in %s: %s (%s)", where, uid, reason)
    return len(record.quarantined)
