"""Thresholds that hold a risk: measured on labelled photos, kept beside the model, chosen for the risk asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fgvr.checkpoints.format import read_object
from fgvr.errors import UserError
from fgvr.metrics.selective import Graded, Operating, choose, curve, enough_for
from fgvr.options.rolled_up import by_node
from fgvr.recogniser.recognition import Recognition
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import sealed, write_whole

FILE, FORMAT = "calibration.json", 1
Mode = Literal["vote", "two_step"]
AGAIN = "python -m fgvr calibrate MODEL"


@dataclass(frozen=True)
class Calibration:
    """What became of the photos of one split at each threshold, answered in one mode by `samples` replies.

    `points` run from the highest threshold down. `checkpoint` is the digest of the weights that answered. `unusable`
    photos are in none of the points.
    """

    mode: Mode
    checkpoint: str
    samples: int
    temperature: float
    seed: int
    dataset: str
    split: str
    cohorts: tuple[str, ...]
    unusable: int
    risk: float
    level: float
    points: tuple[Operating, ...]

    @property
    def holds(self) -> bool:
        """Whether a threshold holds the risk that was calibrated for."""
        return choose(self.points, self.risk, self.level) is not None

    def chosen(self, risk: float | None = None) -> Operating:
        """The threshold for a risk, by default the one that was calibrated for.

        Raises UserError where none holds it.
        """
        risk = self.risk if risk is None else risk
        found = choose(self.points, risk, self.level)
        if found is None:
            n, needed = self.points[0].n if self.points else 0, enough_for(risk, self.level)
            takes = f"takes at least {needed} answers without a mistake" if needed else "no number of answers can show"
            best = min((point for point in self.points if point.answered), key=lambda point: point.risk, default=None)
            told = "none is answered" if best is None else f"the least is {best.risk:.3f}, of {best.answered} answers"
            raise UserError(
                f"no threshold holds a risk of {risk:g} with probability {self.level:g} on the {n} photos it was "
                f"calibrated on, which {takes}; {told}: allow a larger risk, or "
                f"calibrate on more photos with {AGAIN}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"points": [[one.threshold, one.wrong, list(one.depths)] for one in self.points]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        points = tuple(Operating(threshold, wrong, tuple(depths)) for threshold, wrong, depths in content["points"])
        return cls(**{**content, "points": points, "cohorts": tuple(content["cohorts"])})


def graded(found: Recognition, label: str, taxonomy: Taxonomy) -> Graded:
    """The path that was told of a photo, and how much of it holds: nodes above the label, itself, or below it."""
    nodes = by_node(found.path)
    holds = [
        name == label or taxonomy.is_ancestor(name, label) or taxonomy.is_ancestor(label, name) for name, _ in nodes
    ]
    right = holds.index(False) if False in holds else len(holds)
    return Graded(tuple(confidence for _, confidence in nodes), right)


def measured(photos: Sequence[Graded], settings: Calibration) -> Calibration:
    """The calibration with what became of these photos at each share that `samples` replies can give."""
    return replace(settings, points=tuple(curve(photos, settings.samples)))


def read_calibrations(folder: Path) -> dict[Mode, Calibration]:
    """Those that are kept in the folder of a run or an export, by mode. Raises UserError for a damaged file."""
    file = folder / FILE
    if not file.is_file():
        return {}
    content = read_object(file, "modes", dict, f"remove it, and calibrate again with {AGAIN}")
    try:
        return {mode: Calibration.from_dict(one) for mode, one in content["modes"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} must hold calibrations of this version, but {error}: remove it, and calibrate again"
        ) from error


def write_calibrations(folder: Path, calibrations: Mapping[Mode, Calibration]) -> None:
    """calibration.json, with a digest of itself; no file where there are none."""
    if not calibrations:
        return
    modes = {mode: one.to_dict() for mode, one in calibrations.items()}
    write_whole(folder / FILE, sealed({"format": FORMAT, "modes": modes}, indent=1))
