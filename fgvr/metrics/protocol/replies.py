"""What was answered to closed-world questions, and the figures of it, which no order or batch changes.

Shape legend: P photos of a group (one cohort of one data set), S questions about each, B bootstrap samples.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgvr.data.closed_world import ClosedWorld
from fgvr.metrics.verdicts import COVERAGE, RESAMPLES
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.types import Example

UNREAD, OUTSIDE, UNASKED = -1, -2, -3  # in place of a chosen option's place
RELEASED = re.compile(r"<answer>(.*)</answer>", re.DOTALL)  # from the first opening to the last closing tag
Rule = Callable[["Reply"], bool]


@dataclass(frozen=True, order=True)
class Reply:
    """One answer to one question. `chosen` and `label_place` are places among the `options` shown, from 0.

    `chosen` is UNREAD where the reply did not parse, OUTSIDE where it names no single option, UNASKED where the
    question could not be made; `released` says whether the released rule finds it right.
    """

    variant: str
    cohort: str
    dataset: str
    uid: str
    seed: int
    options: int
    label_place: int
    chosen: int
    released: bool

    @property
    def strict(self) -> bool:
        """Right by our rule: one option is named, and it is the label."""
        return self.chosen >= 0 and self.chosen == self.label_place


def released_rule(text: str, label: str) -> bool:
    """Fine-R1's released evaluation: the label, in lower case, is somewhere in the answer (arXiv 2602.07605, its code).

    Underscores of the label count as spaces. The answer lies between the first opening and the last closing tag. A list
    of all options is right, as is a longer name that holds the label's.
    """
    found = RELEASED.search(text)
    return found is not None and label.replace("_", " ").lower() in found[1].lower()


def read_reply(task: ClosedWorld, variant: str, seed: int | None, example: Example, text: str | None) -> Reply:
    """What a reply to an example with its options `shown` comes to; None is a question that could not be made."""
    shown = tuple(example.extra.get("shown", ()))
    answer = None if text is None else task.parse(text, example)
    chosen = UNASKED if text is None else UNREAD
    if answer is not None:
        chosen = shown.index(answer.text) if answer.text in shown else OUTSIDE
    return Reply(
        variant,
        example.cohort,
        example.dataset,
        example.uid,
        -1 if seed is None else seed,
        len(shown),
        shown.index(example.label) if shown else -1,
        chosen,
        text is not None
        and released_rule(_spelt_out(task, answer.text if answer else None, shown, text), example.label),
    )


def _spelt_out(task: ClosedWorld, named: str | None, shown: Sequence[str], text: str) -> str:
    """The reply as the released rule reads it: where options go by letters, the name of the one chosen is written."""
    return f"<answer>{named}</answer>" if task.letters and named in shown else text


@dataclass(frozen=True)
class Scores:
    """Figures of one variant, shares from 0 to 1, each with a 95 % bootstrap interval over photos.

    `groups` are by (cohort, data set); `seen` and `unseen` their unweighted means over data sets, for classes that were
    trained on and for those that were not, `all` the mean of these two, or the one that there is (Fine-R1, section 4).
    `unread`, `outside` and `unasked` are shares of all questions: they are wrong, and stay in the denominator.
    """

    n: int
    groups: dict[tuple[str, str], tuple[float, float, float]]
    means: dict[str, tuple[float, float, float]]
    micro: float
    unread: float
    outside: float
    unasked: float
    position_bias: float
    by_place: tuple[float, ...]


def scores(replies: Iterable[Reply], rule: Rule = lambda reply: reply.strict) -> Scores:
    """The figures of one variant's replies, in whatever order they come. Raises ValueError when there are none."""
    rows = sorted(replies)
    if not rows:
        raise ValueError("the figures of a protocol need replies, got none")
    photos: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        photos[row.cohort, row.dataset][row.uid].append(rule(row))
    points = {group: _mean([_share(hits) for hits in by_uid.values()]) for group, by_uid in photos.items()}
    samples = {group: _resampled([_share(hits) for hits in by_uid.values()], group) for group, by_uid in photos.items()}
    means: dict[str, tuple[float, NDArray[np.float64]]] = {}
    for name, trained in (("seen", True), ("unseen", False)):
        own = [group for group in points if (group[0] in TRAINED_COHORTS) == trained]
        if own:
            means[name] = (
                _mean([points[group] for group in own]),
                np.asarray(np.mean([samples[group] for group in own], 0)),
            )
    total = (
        _mean([point for point, _ in means.values()]),
        np.asarray(np.mean([drawn for _, drawn in means.values()], 0)),
    )
    means["all"] = total
    unread, outside, unasked = (_share([row.chosen == kind for row in rows]) for kind in (UNREAD, OUTSIDE, UNASKED))
    return Scores(
        n=len(rows),
        groups={group: _interval(points[group], samples[group]) for group in points},
        means={name: _interval(*pair) for name, pair in means.items()},
        micro=_share([rule(row) for row in rows]),
        unread=unread,
        outside=outside,
        unasked=unasked,
        position_bias=position_bias(rows),
        by_place=_by_place(rows, rule),
    )


def position_bias(replies: Sequence[Reply]) -> float:
    """1/2 sum_k |p_k - q_k|: p_k the share of choices at place k, q_k the share of labels there; 0 is none.

    Over the answers that choose an option; a policy that always takes the first of n equally placed ones has
    1 - 1/n. Of a few answers it is never quite 0: beside it stands the accuracy by place.
    """
    chosen = [row for row in replies if row.chosen >= 0]
    places = range(max((row.options for row in chosen), default=0))
    gaps = [sum(row.chosen == k for row in chosen) - sum(row.label_place == k for row in chosen) for k in places]
    return sum(map(abs, gaps)) / (2 * len(chosen)) if chosen else 0.0


def _by_place(rows: Sequence[Reply], rule: Rule) -> tuple[float, ...]:
    """The accuracy where the label stands first, second, and so on."""
    places = range(max(row.options for row in rows))
    return tuple(_share([rule(row) for row in rows if row.label_place == k]) for k in places)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _resampled(values: Sequence[float], group: tuple[str, str]) -> NDArray[np.float64]:
    """Means of RESAMPLES bootstrap samples of photos [B]; the group's name decides which.

    Drawn from the histogram of values, which is the same as to draw photos, and does not depend on their order.
    """
    kinds, counts = np.unique(np.asarray(values), return_counts=True)
    draw = np.random.default_rng([*"/".join(group).encode("utf-8", "backslashreplace")])
    return draw.multinomial(len(values), counts / len(values), RESAMPLES) @ kinds / len(values)


def _interval(point: float, drawn: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return point, float(low), float(high)
