"""One pass over the photos to be answered: parsed, judged and counted. Runs without a Trainer."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from fgvr.data.images import View, as_stored
from fgvr.data.tasks import Task
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judged, judge_completions
from fgvr.metrics import SPECIFICITY_WEIGHTS, CohortScores
from fgvr.metrics.confusions import Confusion, Confusions
from fgvr.metrics.hits import is_exact
from fgvr.metrics.lengths import Stretch, by_length, length_figures, words
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.shards.order import key_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, PromptBatch

THREADS = 8  # batches that a remote judge is asked about at the same time
WAITING = 16  # batches whose verdicts may be outstanding; their photos stay in memory
REASONS = 3  # spelt out in one sentence
Row = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """What a pass has come to over all ranks, by cohort; `answers` are the rows of answers.jsonl."""

    figures: dict[str, dict[str, float]]
    classes: dict[str, dict[str, dict[str, int]]]
    confusions: dict[str, list[Confusion]]
    lengths: dict[str, list[Stretch]]
    answers: list[Row]


@dataclass
class Outage:
    """How many answers one judge was given, and why it gave no verdict on some."""

    answers: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def count(self, judged: Sequence[Judged]) -> None:
        self.answers += len(judged)
        self.reasons.update(entry.unjudged for entry in judged if entry.unjudged is not None)


@dataclass(frozen=True)
class _Asked:
    """A batch whose verdicts are on their way."""

    cohort: str
    unread: int
    greedy: Future[list[Judged]]
    second: Future[list[Judged]] | None
    sampled: Future[list[Judged]] | None

    @property
    def done(self) -> bool:
        return all(one.done() for one in (self.greedy, self.second, self.sampled) if one is not None)


class Evaluation:
    """One pass over the cohorts: scores, answers and the photos to show.

    `judge` and `second` are bound to the taxonomy. A remote judge is asked in threads while further batches are
    answered, any other at once. `sampled` is the number of sampled answers per photo that `add` is given besides. The
    `pictures` photos of a cohort are those whose uids have the smallest hashes, so that each pass shows the same;
    `view` is what the model is given of a photo, `length` counts a reply's tokens.
    """

    def __init__(
        self,
        task: Task,
        judge: Judge,
        taxonomy: Taxonomy,
        cohorts: Sequence[str],
        pictures: int,
        second: Judge | None = None,
        sampled: int = 0,
        weights: Sequence[float] = SPECIFICITY_WEIGHTS,
        max_unjudged: float = 0.01,
        view: View = as_stored,
        length: Callable[[str], int] = words,
    ) -> None:
        self.length = length
        self.task, self.judge, self.second, self.pictures = task, judge, second, pictures
        self.sampled, self.max_unjudged = sampled, max_unjudged
        self.scores = {cohort: CohortScores(taxonomy, weights, sampled, second is not None) for cohort in cohorts}
        self.shown: dict[str, list[Judged]] = {cohort: [] for cohort in cohorts}
        self._answers: list[Row] = []
        self._confusions = {cohort: Confusions(taxonomy, pictures, view) for cohort in cohorts}
        self._outages = {"answers": Outage(), "sampled answers": Outage(), "answers to the second judge": Outage()}
        self._waiting: deque[_Asked] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._failed: UserError | None = None

    def add(
        self,
        cohort: str,
        batch: PromptBatch,
        completions: Sequence[str],
        sampled: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Takes the answers to a batch, one per example, and the sampled ones, `sampled` per example.

        A UserError that a judge raises comes out here or in a later call, among several processes only in `finish`:
        the others would wait there for this one. Raises ValueError when there are more or fewer answers than that.
        """
        if self._failed is not None:
            return
        try:
            self._add(cohort, batch, completions, sampled)
        except UserError as error:
            if not (dist.is_available() and dist.is_initialized()):
                raise
            self._failed = error

    def _add(
        self,
        cohort: str,
        batch: PromptBatch,
        completions: Sequence[str],
        sampled: Sequence[Sequence[str]] | None,
    ) -> None:
        examples = list(batch.examples)
        drawn = None
        if self.sampled:
            each = [text for texts in sampled or () for text in texts]
            drawn = self._ask(self.judge, [one for one in examples for _ in range(self.sampled)], each)
        second = self._ask(self.second, examples, completions) if self.second is not None else None
        greedy = self._ask(self.judge, examples, completions)
        self._waiting.append(_Asked(cohort, len(batch.record.quarantined), greedy, second, drawn))
        while self._waiting and (self._waiting[0].done or len(self._waiting) > WAITING):
            self._take(self._waiting.popleft())

    def finish(self) -> Findings:
        """Waits for all verdicts and brings together what the ranks have found. A collective call.

        Raises UserError on every rank when one rank's judge raised it, and when more than the share `max_unjudged` of
        the answers got no verdict: a judge that fails must not look like a model that does.
        """
        Ranks(gather=of_all_ranks).agree(self._wait)
        for what, outage in self._outages.items():
            _weigh_outage(what, of_all_ranks([outage]), self.max_unjudged)
        # in an order that does not depend on who had which
        answers = sorted(of_all_ranks(self._answers), key=lambda row: (row["cohort"], row["dataset"], row["uid"]))
        replies: dict[str, list[tuple[int, bool]]] = {cohort: [] for cohort in self.scores}
        for row in answers:
            replies[row["cohort"]].append((row["length"], row["exact"]))
        return Findings(
            {one: scores.figures(of_all_ranks) | length_figures(replies[one]) for one, scores in self.scores.items()},
            {cohort: scores.classes.compute() for cohort, scores in self.scores.items()},
            {cohort: confusions.commonest() for cohort, confusions in self._confusions.items()},
            {cohort: by_length(of_cohort) for cohort, of_cohort in replies.items()},
            answers,
        )

    def close(self) -> None:
        """Ends the threads; verdicts that are still on their way are forgotten."""
        self._waiting.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None

    def _ask(self, judge: Judge, examples: Sequence[Example], completions: Sequence[str]) -> Future[list[Judged]]:
        if judge.remote:
            self._threads = self._threads or ThreadPoolExecutor(THREADS, "fgvr-validation")
            return self._threads.submit(judge_completions, self.task, judge, examples, completions)
        found: Future[list[Judged]] = Future()
        found.set_result(judge_completions(self.task, judge, examples, completions))
        return found

    def _wait(self) -> None:
        if self._failed is not None:
            raise self._failed
        while self._waiting:
            self._take(self._waiting.popleft())

    def _take(self, asked: _Asked) -> None:
        judged, cohort = asked.greedy.result(), asked.cohort
        second, sampled = (one.result() if one is not None else None for one in (asked.second, asked.sampled))
        self.scores[cohort].update(judged, asked.unread, second, sampled)
        for outage, found in zip(self._outages.values(), (judged, sampled, second), strict=True):
            outage.count(found or [])
        others = second if second is not None else [None] * len(judged)
        self._answers += [
            _as_row(cohort, entry, other, self.length(entry.completion))
            for entry, other in zip(judged, others, strict=True)
        ]
        candidates = sorted([*self.shown[cohort], *judged], key=lambda entry: key_of(entry.example.uid))
        self.shown[cohort] = candidates[: self.pictures]
        self._confusions[cohort].add(judged)


def _weigh_outage(what: str, parts: Sequence[Outage], most: float) -> None:
    answers, reasons = sum(part.answers for part in parts), sum((part.reasons for part in parts), Counter[str]())
    lost = reasons.total()
    if not lost:
        return
    said = "; ".join(f"{times} x {reason}" for reason, times in reasons.most_common(REASONS))
    if len(reasons) > REASONS:
        said += f"; and {len(reasons) - REASONS} other reasons"
    if lost > most * answers:
        raise UserError(
            f"at most {most:.1%} of a validation's {what} may go without a verdict, but {lost} of {answers} did: "
            f"{said}. See that the judge can be reached and answers, or raise max_unjudged."
        )
    log.warning("%d of %d %s got no verdict and count as unjudged: %s", lost, answers, what, said)


def _as_row(cohort: str, entry: Judged, second: Judged | None, length: int) -> Row:
    example, judgement = entry.example, entry.judgement
    spread = judgement.distribution if judgement else None
    row: Row = {
        "uid": example.uid,
        "dataset": example.dataset,
        "split": example.split,
        "cohort": cohort,
        "label": example.label,
        "completion": entry.completion,
        "length": length,
        "answer": entry.answer.text if entry.answer else None,
        "verdict": str(judgement.verdict) if judgement else None,
        "node": judgement.node if judgement else None,
        "exact": is_exact(entry),
        "several": judgement.several if judgement else False,
        "unjudged": entry.unjudged,
        "distribution": {str(verdict): share for verdict, share in spread.items()} if spread is not None else None,
    }
    if second is not None:
        row["second_verdict"] = str(second.judgement.verdict) if second.judgement else None
    return row
