"""Which columns of a table are ranks of a taxonomy: those that sort the labels into a tree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

NEARLY_ALL = 0.9  # of a table's rows say of their label what most rows of it say; the others are mistakes


def rank_columns(labels: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The longest chain of columns, coarse to fine, in which each sorts the next, and the last of them the labels.

    A column sorts the labels when nearly all rows of a label agree in it and it has several values, but fewer than
    there are labels; one that repeats the labels ends the chain. A text, a photographer or a second name of each label
    does not. Of chains as long the one whose columns come first is taken.
    """
    sorts: dict[str, dict[str, str]] = {}
    for name, cells in columns.items():
        values = _values(labels, cells)
        if values is not None:
            sorts[name] = values
    chains: dict[str, list[str]] = {}
    for name in sorted(sorts, key=lambda name: len(set(sorts[name].values()))):
        above = [chain for last, chain in chains.items() if _sorts(sorts[last], sorts[name])]
        chains[name] = [*max(above, key=len, default=[]), name]
    return max(chains.values(), key=len, default=[])


def _values(labels: Sequence[str], cells: Sequence[str]) -> dict[str, str] | None:
    """What the column says of each label, or None for a column that cannot be a rank."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for label, cell in zip(labels, cells, strict=True):
        said[label][cell] += 1
    values = {label: counts.most_common(1)[0][0] for label, counts in said.items()}
    agreeing = sum(counts[values[label]] for label, counts in said.items())
    repeats = bool(values) and all(label == value for label, value in values.items())
    several = 1 < len(set(values.values())) < len(values)
    return values if agreeing >= NEARLY_ALL * len(labels) and (repeats or several) else None


def _sorts(coarse: Mapping[str, str], fine: Mapping[str, str]) -> bool:
    """True when every value of the finer column stands under one of the coarser."""
    parents: dict[str, str] = {}
    return all(parents.setdefault(value, coarse[label]) == coarse[label] for label, value in fine.items())
