"""Groups on their way to their rewards: scored together at the end, or beside the sampling where a server does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from fgvr.data.tasks import Task
from fgvr.rewards import AnsweredGroup, Scores, WeightedSum
from fgvr.types import RolloutGroup

THREADS = 64  # groups that wait for a server at the same time
Span = tuple[float, float]


class Scoring:
    """Scores the groups of one batch. A remote reward is asked about each as soon as it is added, in a thread.

    Other rewards are asked once, about all groups, by `scores`. Both give the same scores, for a group's are its own.
    `close` ends the threads; the next group starts them again.
    """

    def __init__(self, task: Task, reward: WeightedSum) -> None:
        self.task, self.reward = task, reward
        self._threads: ThreadPoolExecutor | None = None
        self._given: list[tuple[RolloutGroup, AnsweredGroup]] = []
        self._under_way: list[Future[tuple[Scores, Span]]] = []
        self.spans: list[Span] = []

    def add(self, group: RolloutGroup, epoch: int = 0) -> None:
        """Takes one group, parses its replies and, if the reward is remote, has it scored while others are sampled."""
        said = AnsweredGroup(
            group.example,
            [completion.text for completion in group.completions],
            [self.task.parse(completion.text, group.example) for completion in group.completions],
            [len(completion.ids) for completion in group.completions],
            [completion.truncated for completion in group.completions],
            epoch,
        )
        self._given.append((group, said))
        if self.reward.remote:
            self._threads = self._threads or ThreadPoolExecutor(THREADS, "fgvr-score")
            self._under_way.append(self._threads.submit(_timed, self.reward, [said]))

    def scores(self) -> tuple[list[RolloutGroup], list[AnsweredGroup], Scores | None]:
        """The groups since the last call in the epoch's order, and their scores. Raises what a reward has raised.

        None stands for the scores of no group. `spans` then tells from when to when (`time.perf_counter`) rewards were
        being asked.
        """
        given, under_way, self.spans = self._given, self._under_way, []
        self._given, self._under_way = [], []
        order = sorted(range(len(given)), key=lambda n: given[n][0].place)
        groups, said = [given[n][0] for n in order], [given[n][1] for n in order]
        if not groups:
            return [], [], None
        if not under_way:
            scores, span = _timed(self.reward, said)
            self.spans = [span]
            return groups, said, scores
        try:
            done = [under_way[n].result() for n in order]
        finally:
            for future in under_way:
                future.cancel()
        self.spans = [span for _, span in done]
        return groups, said, Scores.joined([scores for scores, _ in done])

    def drop(self) -> None:
        """Forgets the groups that were given, as when sampling has failed."""
        for future in self._under_way:
            future.cancel()
        self._given, self._under_way = [], []

    def close(self) -> None:
        self.drop()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None


def _timed(reward: WeightedSum, groups: Sequence[AnsweredGroup]) -> tuple[Scores, Span]:
    began = time.perf_counter()
    scores = reward.judge(groups)
    return scores, (began, time.perf_counter())


def covered(spans: Sequence[Span], until: float = float("inf")) -> float:
    """Seconds in which at least one span was open, up to `until`."""
    seconds, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        start, stop = max(start, end), min(stop, until)
        if stop > start:
            seconds, end = seconds + stop - start, stop
    return seconds
