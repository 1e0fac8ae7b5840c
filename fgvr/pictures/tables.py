"""Tables of what was said, for people. A model's text is not trusted here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgvr.pictures.drawing import one_line
from fgvr.types import ScoredGroup, Verdict

LETTERS = 80  # of a name in a table
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of text on one line, of numbers, and None for a number that could not be had; columns are of one kind.

    `title` and `note` stand above and below.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    note: str = ""

    def texts(self) -> list[list[str]]:
        """The rows as plain text, numbers to four places."""
        return [[_shown(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        """Shows every mark of the text as it is, in markdown and in HTML."""
        lines = [f"**{escaped(self.title)}**", ""] if self.title else []
        texts = (
            [escaped(text) if isinstance(cell, str) else text for cell, text in zip(row, shown, strict=True)]
            for row, shown in zip(self.rows, self.texts(), strict=True)
        )
        lines += [_line(map(escaped, self.columns)), "|---" * len(self.columns) + "|", *map(_line, texts)]
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")


def rollout_table(group: ScoredGroup, longest: int = 2000) -> Table:
    """What the completions of a group say in full, with their figures, as they were sampled."""
    names, example, mixed = list(group.components), group.rollout.example, group.rollout.from_positive > 0
    rows: list[tuple[Cell, ...]] = []
    for n, completion in enumerate(group.rollout.completions):
        values = [float(of_all[n]) for of_all in (*group.components.values(), group.rewards, group.advantages)]
        numbers = [None if math.isnan(value) else round(value, 6) for value in values]
        cut = "cut" if completion.truncated else ""
        about = (group.rollout.role_of(n),) * mixed
        rows.append((*numbers, len(completion.ids), cut, *about, shortened(completion.text, longest)))
    title = f"{shortened(example.label)} ({shortened(example.uid)})"
    heads = ("reward", "advantage", "tokens", "cut", *("photo",) * mixed, "completion")
    return Table((*map(shortened, names), *heads), tuple(rows), title)


def class_table(classes: Mapping[str, Mapping[str, int]], most: int = 200) -> Table:
    """The classes, least often exact first; past `most` classes it says how many are left out."""
    worst_first = sorted(classes.items(), key=lambda item: (item[1]["exact"] / item[1]["n"], item[0]))
    rows = [
        (shortened(label), *(row[name] for name in ("n", "exact", "correct", "parse_failures")))
        for label, row in worst_first[:most]
    ]
    left_out = len(classes) - most
    note = f"{left_out} more classes are in per_class.csv." if left_out > 0 else ""
    return Table(("class", "n", "exact", "correct", "no answer"), tuple(rows), note=note)


def confusion_table(rows: Sequence[Mapping[str, Any]], most: int = 20) -> Table:
    """The commonest answers that were not exactly right; the rows are those of answers.jsonl.

    Answers without a verdict are not among them: nobody knows whether they were right.
    """
    right = (str(Verdict.SPECIFIC), str(Verdict.MORE_SPECIFIC))
    judged = [row for row in rows if row["unjudged"] is None and row["verdict"] not in right]
    counted = Counter((row["label"], row["answer"], row["verdict"]) for row in judged)
    commonest = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))[:most]
    counts = [
        (shortened(label or ""), shortened(answer or ""), verdict or "no answer", times)
        for (label, answer, verdict), times in commonest
    ]
    return Table(("class", "answer", "verdict", "times"), tuple(counts))


def shortened(text: str, longest: int = LETTERS) -> str:
    """Untrusted text on one line, without control characters, of at most `longest` letters."""
    line = one_line(text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def escaped(text: str) -> str:
    """One line that markdown and HTML show as it is: every mark is written as an entity."""
    return re.sub(r"[^\w ]|_", lambda mark: f"&#{ord(mark[0])};", text)


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _shown(cell: Cell) -> str:
    return "none" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)
