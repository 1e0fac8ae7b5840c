"""Open-world figures of Fine-R1's tables: text inclusion, and the semantic similarity of what was said (2602.07605)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fgvr.metrics.protocol.replies import RELEASED
from fgvr.sources.base import TRAINED_COHORTS

TextEncoder = Callable[[Sequence[str]], Float[Tensor, "N D"]]


@dataclass(frozen=True, order=True)
class Said:
    """One free answer: the `text` in its tags, or the whole reply where there are none, and what `name` was asked."""

    cohort: str
    dataset: str
    uid: str
    label: str
    text: str


def said_in(reply: str) -> str:
    """What lies between the first opening and the last closing answer tag; the whole reply where there are none."""
    found = RELEASED.search(reply)
    return (found[1] if found else reply).strip()


def included(text: str, label: str, dropped: int = 0) -> bool:
    """Text inclusion: the label, without its last `dropped` words, is somewhere in the text, past case.

    The released code drops two of the names of cars (body and year). Of a name with no more words than that the first
    is kept.
    """
    words = label.replace("_", " ").lower().split()
    return " ".join(words[: max(1, len(words) - dropped)]) in text.lower()


def relative_similarity(answer: float, parent: float) -> float:
    """max(0, (s - p) / (1 - p)): s the cosine of answer and label, p that of the super-category's word and the label.

    1 is the label itself, 0 no better than the word for everything ("bird"). Where that word is the label (p = 1) only
    the same direction earns 1.
    """
    if parent >= 1 - 1e-6:
        return float(answer >= 1 - 1e-6)
    return max(0.0, (answer - parent) / (1 - parent))


def open_figures(
    rows: Sequence[Said], encode: TextEncoder | None, root: str, dropped: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """`text inclusion` and, with an encoder, `semantic similarity`, each as means over data sets: seen, unseen, all.

    `root` is the word for everything, `dropped` how many words of its names' ends a data set does without.
    """
    rows = sorted(rows)
    inclusion = [float(included(row.text, row.label, dropped.get(row.dataset, 0))) for row in rows]
    figures = {"text inclusion": _averaged(rows, inclusion)}
    if encode is not None:
        texts = sorted({text for row in rows for text in (row.text, row.label)} | {root})
        table = torch.cat(
            [encode([text]) for text in texts]
        ).double()  # one by one, so that no text has a say in others
        vectors = dict(zip(texts, normalize(table, dim=-1), strict=True))
        cosine = [(float(vectors[r.text] @ vectors[r.label]), float(vectors[root] @ vectors[r.label])) for r in rows]
        figures["semantic similarity"] = _averaged(rows, [relative_similarity(*pair) for pair in cosine])
    return figures


def _averaged(rows: Sequence[Said], values: Sequence[float]) -> dict[str, float]:
    groups: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for row, value in zip(rows, values, strict=True):
        groups[row.cohort in TRAINED_COHORTS, row.dataset].append(value)
    means: dict[str, float] = {}
    for name, trained in (("seen", True), ("unseen", False)):
        own = [sum(found) / len(found) for (kind, _), found in groups.items() if kind == trained]
        if own:
            means[name] = sum(own) / len(own)
    return means | ({"all": sum(means.values()) / len(means)} if means else {})
