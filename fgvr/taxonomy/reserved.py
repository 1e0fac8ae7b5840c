"""Names that the figures of an evaluation bear, which nothing else that has figures of its own may bear too."""

from __future__ import annotations

from collections.abc import Iterable

from fgvr.errors import UserError
from fgvr.types import Verdict

_SHARES = ("correctness", "specificity", "harmonic_mean")
_WITH_INTERVAL = (*_SHARES, *(f"macro_{name}" for name in _SHARES))
FIGURES = frozenset(
    (
        *_WITH_INTERVAL,
        *(f"{name}_{end}" for name in _WITH_INTERVAL for end in ("low", "high")),
        *(verdict.name.lower() for verdict in Verdict),
        *("n", "exact", "validation_reward", "several", "parse_failures", "unjudged", "unread"),
        *("agreement", "kappa", "agreement_n"),
        *("hierarchical_precision", "hierarchical_recall", "hca", "contradicted"),
        *("length", "length_exact", "length_others"),
    )
)
BEFORE_FIGURES = ("best_of", "sampled", "two_step")  # what figures begin with, as they begin with the name of a dataset


def refuse_figures_as_ranks(ranks: Iterable[str]) -> None:
    """Raises UserError for a rank that bears the name of another figure: both would be logged as one."""
    if taken := sorted(FIGURES.intersection(ranks)):
        raise UserError(f"a taxonomy's rank must not be called like a figure, got {taken}: rename it")


def refuse_figure_as_dataset(name: str) -> None:
    """Raises UserError for a dataset whose figures would bear the names of others."""
    if name.split("/")[0] in BEFORE_FIGURES:
        raise UserError(f"a dataset must not be called like a figure, got {name!r}: rename it")
