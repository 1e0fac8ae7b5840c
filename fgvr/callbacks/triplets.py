"""What stands beside the photos that are learned from, to be seen; and what is confused, for the data to know."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.showing import drop_later_pictures, show, view_of
from fgvr.datamodules import TripletData
from fgvr.errors import UserError
from fgvr.pictures.tables import Table
from fgvr.pictures.triplets import rivals_table, triplet_card
from fgvr.types import PromptBatch, RolloutBatch, ScoredGroup
from fgvr.whole_files import write_whole

FOLDER = "triplets"


class TripletLogging(Callback):
    """Shows which classes stand against which, and some triplets; tells the data module what the policy confuses.

    As every `every`-th epoch begins, the pairs of classes with their scores, and the measure these are of, go into
    triplets/epoch-0000.csv in the Trainer's root folder and, as a table, to the loggers, and the first `triplets`
    triplets are drawn as pictures. The wrong answers of all groups that are sampled count, whatever a group filter
    leaves out. Raises UserError for counts below 1 and for another data module than `TripletData`.
    """

    def __init__(self, triplets: int = 4, every: int = 1) -> None:
        if min(triplets, every) < 1:
            raise UserError(f"triplets and every must be 1 or more, got {triplets} and {every}")
        self.triplets, self.every = triplets, every

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            refuse_other_data(getattr(trainer, "datamodule", None))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            drop_later_pictures(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PromptBatch, batch_idx: int
    ) -> None:
        if batch.record.step or batch.record.epoch % self.every or not trainer.is_global_zero:
            return
        data = data_of(trainer)
        tables = {}
        if data.rivals is not None:
            rankings, sources = data.rivals.rankings, data.rivals.sources()
            pairs = rivals_table(rankings, sources, most=10**9)
            write_csv(Path(trainer.default_root_dir) / FOLDER / f"epoch-{batch.record.epoch:04}.csv", pairs)
            tables = {"triplets": rivals_table(rankings, sources)}
        card = triplet_card(batch.examples[: self.triplets], view_of(pl_module))
        show(trainer, {"triplets": card}, tables)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PromptBatch, batch_idx: int
    ) -> None:
        rollouts: RolloutBatch | None = getattr(pl_module, "last_rollouts", None)
        if rollouts is not None:
            data_of(trainer).count_confusions(answers_of(rollouts.sampled))


def refuse_other_data(data: Any) -> None:
    """Raises UserError for a data module without triplets to show."""
    if not isinstance(data, TripletData):
        raise UserError(
            f"TripletLogging shows triplets, but {type(data).__name__} gives none: use fgvr.datamodules.TripletData"
        )


def data_of(trainer: Trainer) -> TripletData:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, TripletData)
    return data


def answers_of(groups: Sequence[ScoredGroup]) -> Iterator[tuple[str, str, str]]:
    """Dataset, label and each answer of these groups."""
    for group in groups:
        example = group.rollout.example
        yield from ((example.dataset, example.label, one.text) for one in group.answers if one is not None)


def write_csv(file: Path, table: Table) -> None:
    """A table as comma-separated values, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    write_whole(file, text.getvalue().encode())
