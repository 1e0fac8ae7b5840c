"""Parses, judges and counts the replies of each validation or test, and shows them."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.showing import drop_later_pictures, length_of, show, view_of
from fgvr.data.images import View
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judged
from fgvr.metrics import SPECIFICITY_WEIGHTS, Agreement, ClassTable, VerdictHistogram
from fgvr.metrics.evaluation import Evaluation, Findings
from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.modules import PolicyModule
from fgvr.pictures.cards import answer_grid
from fgvr.pictures.charts import best_of_curves, confusion_grid, length_curves, verdict_bars
from fgvr.pictures.tables import class_table, confusion_table
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.shards.order import key_of
from fgvr.taxonomy.branch import Branch
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.reserved import FIGURES
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PromptBatch
from fgvr.whole_files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """`n` answers per photo from `engine`, to see what the best of several would come to.

    Without an engine the policy itself samples, with `InProcess`. `max_new_tokens` None takes the module's. A photo's
    random numbers are those of `seed` and its uid in each pass, so that two passes differ by their weights alone.
    Raises UserError when n is below 1, and outside the ranges of `Sampling`.
    """

    engine: RolloutEngine | None = None
    n: int = 8
    temperature: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"samples.n must be at least 1, got {self.n}: leave samples out for greedy answers alone")
        self.sampling(1)

    def sync(self, policy: Policy) -> None:
        """Tells the engine of the policy's weights."""
        if self.engine is not None:
            self.engine.sync(policy)

    def sampling(self, max_new_tokens: int) -> Sampling:
        return Sampling(
            self.n, self.temperature, max_new_tokens if self.max_new_tokens is None else self.max_new_tokens
        )

    @torch.no_grad()
    def draw(self, policy: Policy, batch: PromptBatch, max_new_tokens: int) -> list[list[str]]:
        """The n texts of each example, in the batch's order. Raises ValueError when the engine leaves one out."""
        seeds = [key_of(self.seed, "validation", example.uid) for example in batch.examples]
        engine = self.engine or InProcess()
        groups = engine.sample(policy, batch, self.sampling(max_new_tokens), seeds)
        texts = {group.place: [completion.text for completion in group.completions] for group in groups}
        sizes = [len(texts.get(place, ())) for place in batch.places]
        if sizes != [self.n] * len(batch.examples):
            raise ValueError(f"the engine must give {self.n} completions for each prompt, got {sizes}")
        return [texts[place] for place in batch.places]


class JudgeValidation(Callback):
    """Judges what `validation_step` and `test_step` return: the completions as text, one per example of the batch.

    Logs `{cohort}/{figure}` for every figure of `CohortScores`, and the judge's own counts
    ("validation_judge/requests"; those of the second as "validation_second_judge/requests"). Writes `per_class.csv` and
    `answers.jsonl` of the latest pass into the Trainer's root folder. Shows bars of verdicts, accuracy against length,
    tables, and a cohort's `pictures` photos with their answers and as many of its commonest confusions; `show` says
    where they go.

    `judge` decides every figure. `samples` has several answers drawn for each photo besides. `second` judges the same
    answers, to see how far the two agree. `weights` are those of `summary`. A pass in which more than the share
    `max_unjudged` of the answers gets no verdict ends in a UserError. The sanity check only tries the judge. A run that
    has no pictures to validate on is told so. Raises UserError when `pictures` is negative or a share outside [0, 1],
    for a judge that cannot work, and when there is no datamodule.
    """

    def __init__(
        self,
        judge: Judge,
        pictures: int = 8,
        samples: Samples | None = None,
        second: Judge | None = None,
        max_unjudged: float = 0.01,
        weights: tuple[float, float, float, float] = SPECIFICITY_WEIGHTS,
    ) -> None:
        if pictures < 0:
            raise UserError(f"pictures must be 0 or more a cohort, got {pictures}")
        if not 0 <= max_unjudged <= 1:
            raise UserError(f"max_unjudged is a share and must be between 0 and 1, got {max_unjudged}")
        try:
            VerdictHistogram(weights)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.judge, self.pictures, self.samples, self.second = judge, pictures, samples, second
        self.max_unjudged, self.weights = max_unjudged, weights
        self.evaluation: Evaluation | None = None
        self._told = False  # that there is nothing to judge
        self._judges: list[Judge] = []  # bound to the taxonomy, from the first pass to the end of the Trainer's work

    def figures(self, data: Any) -> set[str]:
        """What a pass over all cohorts of a data module logs of its answers, but for data sets and several samples."""
        compared = set() if self.second else {*Agreement.FIGURES}
        names = {name for name in FIGURES if not name.startswith("macro_")} - compared
        return {f"{cohort}/{name}" for cohort in data.cohorts for name in (*names, *data.taxonomy.ranks)}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        validates = stage == "validate" or (stage == "fit" and trainer.limit_val_batches != 0)
        if validates and getattr(data, "cohorts", None) == [] and not self._told:
            self._told = True
            log.warning(
                "JudgeValidation has nothing to judge, as no shard set has pictures of the split val: name one that "
                "has some in data.val, or set trainer.limit_val_batches to 0"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            drop_later_pictures(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if data is None:
            raise UserError(
                "JudgeValidation needs a datamodule with task, taxonomy and cohorts: pass one to the Trainer"
            )
        if self.samples is not None and not isinstance(pl_module, PolicyModule):
            raise UserError(
                f"samples are drawn from a policy, and {type(pl_module).__name__} has none: leave samples out"
            )
        if not self._judges:
            Ranks(gather=of_all_ranks).agree(lambda: self._open(data.taxonomy))
        if trainer.sanity_checking:
            return
        judge, *second = self._judges
        self.evaluation = Evaluation(
            data.task,
            judge,
            data.taxonomy,
            data.cohorts,
            self.pictures,
            second[0] if second else None,
            self.samples.n if self.samples else 0,
            self.weights,
            self.max_unjudged,
            view_of(pl_module),
            length_of(pl_module),
        )
        for scores in self.evaluation.scores.values():
            scores.to(pl_module.device)
        if self.samples is not None and isinstance(pl_module, PolicyModule):
            self.samples.sync(pl_module.trained_policy)  # the weights stay as they are for the whole pass

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
        sampled = None
        if self.samples is not None and isinstance(pl_module, PolicyModule):
            with trainer.precision_plugin.forward_context():
                sampled = self.samples.draw(pl_module.trained_policy, batch, pl_module.max_new_tokens)
        self.evaluation.add(cohorts[dataloader_idx], batch, outputs, sampled)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evaluation is None:
            return
        findings = self.evaluation.finish()
        shown = self.evaluation.shown
        self._end_pass()
        named = {f"{cohort}/{name}": value for cohort, row in findings.figures.items() for name, value in row.items()}
        # The figures are already those of all processes: their maximum is the value itself, where a mean would round.
        pl_module.log_dict(named | self._tally(), sync_dist=True, reduce_fx="max")
        if trainer.is_global_zero:
            _say_outside(trainer, findings)
            _write_files(Path(trainer.default_root_dir), findings)
            _show(trainer, findings, shown, view_of(pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._end_pass()
        for judge in self._judges:
            judge.release()
        self._judges = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "")

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _open(self, taxonomy: Taxonomy) -> None:
        self._judges = [judge.bind(taxonomy) for judge in (self.judge, self.second) if judge is not None]
        for judge in self._judges:
            judge.check()

    def _end_pass(self) -> None:
        evaluation, self.evaluation = self.evaluation, None
        if evaluation is not None:
            evaluation.close()

    def _tally(self) -> dict[str, float]:
        """What the judges have counted since the last pass, over all ranks. A collective call."""
        own: Counter[str] = Counter()
        for prefix, judge in zip(("validation_", "validation_second_"), self._judges, strict=False):
            own.update({f"{prefix}{name}": count for name, count in judge.tally().items()})
        counts: Counter[str] = Counter()
        for part in of_all_ranks([own]):
            counts.update(part)
        return {name: float(count) for name, count in sorted(counts.items())}


def _show(trainer: Trainer, findings: Findings, shown: dict[str, list[Judged]], view: View) -> None:
    pages = {"verdicts": verdict_bars(findings.figures)}
    if any("best_of/1/correctness" in row for row in findings.figures.values()):
        pages["best_of"] = best_of_curves(findings.figures)
    if any(findings.lengths.values()):
        pages["lengths"] = length_curves(findings.lengths)
    pages |= {f"answers/{cohort}": answer_grid(judged, view) for cohort, judged in shown.items() if judged}
    pages |= {f"confusions/{cohort}": confusion_grid(found) for cohort, found in findings.confusions.items() if found}
    tables = {f"classes/{cohort}": class_table(findings.classes[cohort]) for cohort in shown}
    for cohort in shown:
        of_cohort = [row for row in findings.answers if row["cohort"] == cohort]
        tables[f"confusions/{cohort}"] = confusion_table(of_cohort)
    show(trainer, pages, tables)


def _say_outside(trainer: Trainer, findings: Findings) -> None:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    branch: Branch | None = getattr(data, "branch", None)
    if branch is not None:
        names = Names(branch.taxonomy)
        said = [row["answer"] for row in findings.answers if row["answer"]]
        outside = sum(branch.narrowed(names.find(answer)) is None for answer in said)
        log.info("Within %s: %d of %d answers name nothing of it.", branch.node, outside, len(said))


def _write_files(folder: Path, findings: Findings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["cohort", "class", *ClassTable.COLUMNS])
    for cohort, by_label in findings.classes.items():
        rows.writerows([cohort, label, *row.values()] for label, row in by_label.items())
    write_whole(folder / "per_class.csv", table.getvalue().encode())
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in findings.answers]
    # A lone surrogate cannot be written as UTF-8; its escape is what json itself would have written.
    write_whole(folder / "answers.jsonl", "".join(lines).encode("utf-8", "backslashreplace"))
