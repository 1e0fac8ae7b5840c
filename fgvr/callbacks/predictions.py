"""What a model says of photos without labels, as a table with a row for every photo given."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.two_step import TwoStepInference
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardDataModule
from fgvr.errors import UserError
from fgvr.pictures.spreadsheet import heads, spreadsheet
from fgvr.ranks import of_all_ranks
from fgvr.taxonomy.branch import Branch
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PromptBatch
from fgvr.whole_files import write_whole

FILE = "predictions.csv"
FIRST, LAST = ("file", "answer"), ("completion", "error")
NAMED = 20  # unusable photos that the log names
NOT_ASKED = "it was not asked about: leave limit_predict_batches and fast_dev_run out of the trainer"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What became of one photo: a completion, with the answer read in it ("" for none), or the error that kept it."""

    file: str
    answer: str = ""
    completion: str = ""
    error: str = ""


class Predictions(Callback):
    """Writes predictions.csv into the Trainer's root folder from the completions that `predict_step` returns.

    Its columns are those of `as_csv`, its rows the data module's `photos`, in their order, from all ranks. Where photos
    are named in two steps the answer is what these decided, "" where they abstained, and the completion still the one
    without sampling. Within a branch (the data's `within`) an answer that names something else is left out and counted,
    and one that names what stands above the branch becomes its name. Photos that could not be used are named in the log
    too. Raises UserError without a `ShardDataModule`.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Prediction] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _data(trainer)
        self.rows = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, list):
            raise ValueError(f"predict_step must return the list of completions, got {type(outputs).__name__}")
        self.rows |= predictions(_data(trainer).task, batch, outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, own = _data(trainer), {place: _decided(row, trainer) for place, row in self.rows.items()}
        found = dict(of_all_ranks(list(own.items())))
        self.rows = {}
        if not trainer.is_global_zero:
            return
        rows = [found.get(n) or Prediction(name, error=NOT_ASKED) for n, name in enumerate(data.photos.names)]
        kept = rows if data.branch is None else within(rows, data.branch)
        file = Path(trainer.default_root_dir) / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, as_csv(kept, data.taxonomy))
        outside = sum(bool(row.answer) for row in rows) - sum(bool(row.answer) for row in kept)
        if data.branch is not None:
            log.info("Within %s: %d answers name nothing of it, and are left out.", data.branch.node, outside)
        _tell(kept, data.taxonomy, file, outside)


def predictions(task: Task, batch: PromptBatch, completions: Sequence[str]) -> dict[int, Prediction]:
    """The batch's photos by their places in the epoch's order. Raises ValueError unless each has its completion."""
    examples, unusable = batch.examples, dict(batch.record.quarantined)
    if len(examples) != len(completions):
        raise ValueError(
            f"there must be one completion per example, got {len(completions)} for {len(examples)} examples"
        )
    rows = {uid: Prediction(uid, error=reason) for uid, reason in unusable.items()}
    for example, text in zip(examples, completions, strict=True):
        answer = task.parse(text, example)
        rows[example.uid] = Prediction(example.uid, answer.text if answer else "", text)
    return {place: rows[uid] for place, uid in zip(batch.record.positions, batch.record.uids, strict=True)}


def within(rows: Sequence[Prediction], branch: Branch) -> list[Prediction]:
    """The rows with the answers that name something of the branch; what stands above it means the whole of it."""
    names = Names(branch.taxonomy)
    kept: list[Prediction] = []
    for row in rows:
        node = names.find(row.answer)
        narrowed = branch.narrowed(node)
        kept.append(row if node is not None and narrowed == node else replace(row, answer=narrowed or ""))
    return kept


def _decided(row: Prediction, trainer: Trainer) -> Prediction:
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    named = {uid: name for one in callbacks if isinstance(one, TwoStepInference) for uid, name in one.named.items()}
    return replace(row, answer=named[row.file] or "") if row.file in named else row


def as_csv(rows: Sequence[Prediction], taxonomy: Taxonomy) -> bytes:
    """UTF-8 with the columns file, answer, one per rank, completion and error; every cell in quotation marks.

    Under a rank stands the name of the taxonomy's node that the answer means, or of its ancestor at that rank; nothing
    where the answer means no node, or one above that rank. Cells are those of `spreadsheet`.
    """
    names, table = Names(taxonomy), [heads(FIRST, taxonomy.ranks, LAST)]
    for row in rows:
        cells = asdict(row)
        node = names.find(row.answer)
        path = [(taxonomy.at_rank(node, rank) if node is not None else None) or "" for rank in taxonomy.ranks]
        table.append([*(cells[key] for key in FIRST), *path, *(cells[key] for key in LAST)])
    return spreadsheet(table)


def _tell(rows: Sequence[Prediction], taxonomy: Taxonomy, file: Path, outside: int) -> None:
    unusable = [row for row in rows if row.error]
    for row in unusable[:NAMED]:
        log.warning("not used: %s (%s)", row.file, row.error)
    if len(unusable) > NAMED:
        log.warning("not used: %d more, named in %s", len(unusable) - NAMED, file)
    names = Names(taxonomy)
    known = sum(names.find(row.answer) is not None for row in rows)
    answered = sum(bool(row.answer) for row in rows)
    log.info(
        "Of %d photos, %d got a name of the taxonomy, %d another answer, %d none that can be read, and %d could not be "
        "used: see %s.",
        len(rows),
        known,
        answered - known,
        len(rows) - answered - len(unusable) - outside,
        len(unusable),
        file,
    )
    if not answered and len(unusable) + outside < len(rows):
        log.warning(
            "No reply could be read, so no photo was named: ask what the model was taught (data.init_args.task as the "
            "run had it whose checkpoint this is), or give it room to finish (model.init_args.max_new_tokens). What it "
            "said is in the column completion."
        )


def _data(trainer: Trainer) -> ShardDataModule:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ShardDataModule):
        raise UserError(
            "Predictions needs a data module with photos, task and taxonomy (fgvr.datamodules): pass one to the Trainer"
        )
    return data
