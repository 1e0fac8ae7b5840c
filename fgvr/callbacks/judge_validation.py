"""Parses, judges and counts the replies of each validation or test, and shows them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fgvr.callbacks.gather import of_all_ranks
from fgvr.callbacks.pictures import answer_grid, class_table, confusion_table, verdict_bars
from fgvr.data.manifest import write_whole
from fgvr.data.tasks import Task
from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judged, judge_completions
from fgvr.metrics import ClassTable, CohortScores
from fgvr.types import PromptBatch


class Evaluation:
    """One pass over the cohorts: scores, answers and the photos to show. Runs without a Trainer.

    The `pictures` photos of a cohort are those whose uids have the smallest hashes, so that each pass shows the same.
    """

    def __init__(self, task: Task, judge: Judge, taxonomy: Taxonomy, cohorts: Sequence[str], pictures: int) -> None:
        self.task, self.judge, self.pictures = task, judge.bind(taxonomy), pictures
        self.scores = {cohort: CohortScores(taxonomy) for cohort in cohorts}
        self.answers: list[dict[str, str | None]] = []
        self.shown: dict[str, list[Judged]] = {cohort: [] for cohort in cohorts}

    def add(self, cohort: str, batch: PromptBatch, completions: Sequence[str]) -> None:
        judged = judge_completions(self.task, self.judge, batch.examples, completions)
        self.scores[cohort].update(judged, unread=len(batch.record.quarantined))
        self.answers += [_as_row(cohort, entry) for entry in judged]
        candidates = sorted([*self.shown[cohort], *judged], key=lambda entry: _hash(entry.example.uid))
        self.shown[cohort] = candidates[: self.pictures]


class JudgeValidation(Callback):
    """Judges what `validation_step` and `test_step` return: the completions as text, one per example of the batch.

    Logs `{cohort}/{figure}` for every figure of `CohortScores`. Writes `per_class.csv` and `answers.jsonl` of the
    latest pass into the Trainer's root folder. A TensorBoard logger also gets bars of verdicts, tables, and `pictures`
    photos a cohort with their answers.
    Does nothing in the sanity check. Raises UserError when `pictures` is negative or there is no datamodule.
    """

    def __init__(self, judge: Judge, pictures: int = 8) -> None:
        if pictures < 0:
            raise UserError(f"pictures must be 0 or more a cohort, got {pictures}")
        self.judge, self.pictures = judge, pictures
        self.evaluation: Evaluation | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        data: Any = getattr(trainer, "datamodule", None)
        if data is None:
            raise UserError(
                "JudgeValidation needs a datamodule with task, taxonomy and cohorts: pass one to the Trainer"
            )
        self.evaluation = Evaluation(data.task, self.judge, data.taxonomy, data.cohorts, self.pictures)
        for scores in self.evaluation.scores.values():
            scores.to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.evaluation is None:
            return
        if not isinstance(outputs, list):
            raise ValueError(f"validation_step must return the list of completions, got {type(outputs).__name__}")
        cohorts = list(self.evaluation.scores)
        self.evaluation.add(cohorts[dataloader_idx], batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evaluation is None:
            return
        evaluation, self.evaluation = self.evaluation, None
        figures = {cohort: scores.figures() for cohort, scores in evaluation.scores.items()}
        classes = {cohort: scores.classes.compute() for cohort, scores in evaluation.scores.items()}
        named = {f"{cohort}/{name}": value for cohort, row in figures.items() for name, value in row.items()}
        # The figures are already those of all processes: their maximum is the value itself, where a mean would round.
        pl_module.log_dict(named, sync_dist=True, reduce_fx="max")
        answers = _gathered(evaluation.answers)
        if trainer.is_global_zero:
            _write_files(Path(trainer.default_root_dir), classes, answers)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    _show(logger.experiment, trainer.global_step, evaluation, figures, classes, answers)

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


def _show(
    writer: Any,
    step: int,
    evaluation: Evaluation,
    figures: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, Mapping[str, Mapping[str, int]]],
    answers: Sequence[Mapping[str, str | None]],
) -> None:
    writer.add_image("verdicts", np.asarray(verdict_bars(figures)), step, dataformats="HWC")
    for cohort, shown in evaluation.shown.items():
        if shown:
            writer.add_image(f"answers/{cohort}", np.asarray(answer_grid(shown)), step, dataformats="HWC")
        writer.add_text(f"classes/{cohort}", class_table(classes[cohort]), step)
        of_cohort = [row for row in answers if row["cohort"] == cohort]
        writer.add_text(f"confusions/{cohort}", confusion_table(of_cohort), step)


def _write_files(
    folder: Path,
    classes: Mapping[str, Mapping[str, Mapping[str, int]]],
    answers: Sequence[Mapping[str, str | None]],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["cohort", "class", *ClassTable.COLUMNS])
    for cohort, by_label in classes.items():
        rows.writerows([cohort, label, *row.values()] for label, row in by_label.items())
    write_whole(folder / "per_class.csv", table.getvalue().encode())
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in answers]
    # A lone surrogate cannot be written as UTF-8; its escape is what json itself would have written.
    write_whole(folder / "answers.jsonl", "".join(lines).encode("utf-8", "backslashreplace"))


def _as_row(cohort: str, entry: Judged) -> dict[str, str | None]:
    example, judgement = entry.example, entry.judgement
    return {
        "uid": example.uid,
        "dataset": example.dataset,
        "split": example.split,
        "cohort": cohort,
        "label": example.label,
        "completion": entry.completion,
        "answer": entry.answer.text if entry.answer else None,
        "verdict": str(judgement.verdict) if judgement else None,
        "node": judgement.node if judgement else None,
    }


def _gathered(answers: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """The answers of all processes, in an order that does not depend on who had which. A collective call."""
    return sorted(of_all_ranks(answers), key=lambda row: (str(row["cohort"]), str(row["dataset"]), str(row["uid"])))


def _hash(uid: str) -> bytes:
    return hashlib.sha256(uid.encode("utf-8", "backslashreplace")).digest()
