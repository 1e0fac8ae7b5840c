"""The figures of each dataset of a cohort, and their means over datasets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fgvr.judges.base import Judged
from fgvr.metrics.verdicts import INTERVALS, binned, intervals, resampled, summary, verdict_values
from fgvr.taxonomy.reserved import refuse_figure_as_dataset


class DatasetCounts:
    """Histograms of verdicts by dataset. Which datasets there are no process knows alone: `figures` takes all `rows`.

    Raises UserError for a dataset whose figures would bear the names of others.
    """

    def __init__(self) -> None:
        self._counts: dict[str, NDArray[np.int64]] = {}

    def update(self, judged: Sequence[Judged]) -> None:
        for name in dict.fromkeys(entry.example.dataset for entry in judged):
            refuse_figure_as_dataset(name)
            counts = binned(verdict_values([entry for entry in judged if entry.example.dataset == name])).numpy()
            self._counts[name] = self._counts.get(name, np.zeros_like(counts)) + counts

    def rows(self) -> list[tuple[str, list[int]]]:
        """What this process has counted."""
        return [(name, counts.tolist()) for name, counts in self._counts.items()]

    @staticmethod
    def figures(rows: Sequence[tuple[str, Sequence[int]]], weights: Sequence[float]) -> dict[str, float]:
        """`DATASET/FIGURE` and `macro_FIGURE`, with intervals, of the rows of all processes; nothing for one dataset.

        A macro figure is the mean over datasets of each one's own figure, whatever their sizes: that of the harmonic
        mean is a mean of harmonic means, as the paper's tables have it. Its interval resamples every dataset apart.
        """
        names = sorted({name for name, _ in rows})
        if len(names) < 2:
            return {}
        figures: dict[str, float] = {}
        points: list[dict[str, float]] = []
        samples: list[dict[str, NDArray[np.float64]]] = []
        for name in names:
            counts = np.array([counts for other, counts in rows if other == name]).sum(0)
            of_all = summary(counts, weights)
            points.append({figure: float(of_all[figure]) for figure in INTERVALS})
            samples.append(resampled(counts, weights, *name.encode("utf-8", "backslashreplace")))
            own = {"n": float(counts.sum()), **points[-1], **intervals(samples[-1])}
            figures |= {f"{name}/{figure}": value for figure, value in own.items()}
        means = {figure: float(np.mean([point[figure] for point in points])) for figure in INTERVALS}
        spread = {figure: np.mean([sample[figure] for sample in samples], 0) for figure in INTERVALS}
        return figures | {f"macro_{figure}": value for figure, value in {**means, **intervals(spread)}.items()}
