"""The curves of a run, out of TensorBoard's event files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST = 600  # points of a curve that are drawn


@dataclass(frozen=True)
class Curve:
    """A figure over optimiser steps, in their order; both lists are as long. What is no number was left out."""

    steps: list[int]
    values: list[float]

    def thinned(self, most: int = MOST) -> Curve:
        """At most `most` points: the mean of each stretch of as many points, at the step of its last one."""
        if len(self.steps) <= most:
            return self
        wide = math.ceil(len(self.steps) / most)
        starts = range(0, len(self.steps), wide)
        means = [math.fsum(part) / len(part) for part in (self.values[at : at + wide] for at in starts)]
        return Curve([self.steps[min(at + wide, len(self.steps)) - 1] for at in starts], means)

    def smoothed(self, wide: int) -> Curve:
        """The running mean over the last `wide` points, fewer at the beginning."""
        means: list[float] = []
        total = 0.0
        for place, value in enumerate(self.values):
            total += value - (self.values[place - wide] if place >= wide else 0.0)
            means.append(total / min(place + 1, wide))
        return Curve(self.steps, means)


Curves = dict[str, Curve]


def read_curves(folder: Path) -> Curves:
    """Every scalar of a folder of event files; where a run went on, what it did again counts once. {} without any."""
    if not folder.is_dir() or not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    few = dict.fromkeys(("images", "audio", "histograms", "tensors", "compressedHistograms"), 1)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, **few})
    events.Reload()
    found: Curves = {}
    for name in events.Tags()["scalars"]:
        at = {event.step: float(event.value) for event in events.Scalars(name)}  # the latest of a step
        present = [(step, value) for step, value in sorted(at.items()) if math.isfinite(value)]
        if present:
            found[name] = curve_of(present)
    return found


def curve_of(points: Sequence[tuple[int, float]]) -> Curve:
    return Curve([step for step, _ in points], [value for _, value in points])
