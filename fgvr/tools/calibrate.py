"""`python -m fgvr calibrate MODEL`: from which confidence on answers can be trusted, measured on labelled photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image
from rich.console import Console

from fgvr.data.images import open_image
from fgvr.errors import UserError, refuse_below, refuse_no_share, shown
from fgvr.metrics.selective import Graded, Operating, operate
from fgvr.next_steps import after_calibrate
from fgvr.options.rolled_up import levels
from fgvr.pictures.tables import Table
from fgvr.recogniser import Recogniser, Ways, load
from fgvr.recogniser.calibration import Calibration, graded, measured, write_calibrations
from fgvr.recogniser.given import Given, Several
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import key_of, spread_over_classes
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import COHORTS, TRAINED_COHORTS
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.progress_bar import progress_bar
from fgvr.tools.tables import print_table


def calibrate(
    model: Path,
    data: Path | None = None,
    split: Literal["val", "test"] = "val",
    check: Literal["val", "test"] | None = None,
    cohorts: list[str] | None = None,
    examples: int | None = None,
    risk: float = 0.1,
    level: float = 0.9,
    two_step: bool = False,
    samples: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    checkpoint: Literal["last", "best"] = "last",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> str:
    """Choose the confidence from which on a model answers, so that few enough of its answers are wrong.

    Prints coverage and risk at every threshold and keeps them as calibration.json in the folder of the run or the
    export, where `predict --abstain true` finds them; `export` takes them along. Returns what to do next.

    Args:
        model: a run's folder, one of its checkpoints, or an exported folder
        data: the shard set with the labelled photos, by default the one that the run was validated on
        split: the photos that thresholds are chosen on, which must not have been trained on
        check: photos that the chosen threshold is tried on afterwards; none by default
        cohorts: whose photos, by default those of the classes that were trained on
        examples: how many photos, spread over the classes; all by default
        risk: the share of answers that may be wrong
        level: the probability with which that is held
        two_step: let the model choose among its own likeliest names
        samples: replies to each photo
        temperature: that they are drawn at
        seed: of what is drawn
        checkpoint: which of a run's
        device: where the model computes
    """
    refuse_below(1, "calibrate", examples=examples)
    refuse_no_share("calibrate", risk=risk, level=level)
    if check == split:
        raise UserError(f"a threshold must be tried on other photos than it was chosen on, got {split} for both")
    console = Console()
    recogniser = load(model, checkpoint, data, device)
    if recogniser.folder is None:
        raise UserError(f"thresholds are kept in the folder of a run or an export, and {model} is neither")
    folder = _data_of(recogniser, data)
    _refuse_others(Taxonomy.from_dict(load_manifest(folder).taxonomy), recogniser.taxonomy, folder)
    labelled = _Labelled(recogniser, folder, _cohorts(folder, split, cohorts), examples, console)
    ways: Ways = {"two_step": two_step, "samples": samples, "temperature": temperature, "seed": seed}
    found = labelled.calibration(split, ways, risk, level)
    print_table(console, table_of(found, recogniser.taxonomy))
    write_calibrations(recogniser.folder, {**recogniser.calibrations, found.mode: found})
    said = [_chosen(point := found.chosen(), found)]
    if check is not None:
        other, lost = labelled.graded(check, ways)
        said.append(checked(operate(other, point.threshold), found, check, lost))
    said.append(f"Kept in {recogniser.folder}.")
    for sentence in said:
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    return after_calibrate(model, two_step)


@dataclass(frozen=True)
class _Labelled:
    """Photos of a shard set to be named; labels are looked at afterwards."""

    recogniser: Recogniser
    folder: Path
    cohorts: tuple[str, ...]
    examples: int | None
    console: Console

    def calibration(self, split: str, ways: Ways, risk: float, level: float) -> Calibration:
        plan, mode = self.recogniser.how(**ways).plan, ("two_step" if ways.get("two_step") else "vote")
        photos, unusable = self.graded(split, ways)
        made = (plan.samples, plan.temperature, plan.seed, load_manifest(self.folder).dataset, split, self.cohorts)
        empty = Calibration(mode, self.recogniser.carried.checkpoint, *made, unusable, risk, level, ())
        return measured(photos, empty)

    def graded(self, split: str, ways: Ways) -> tuple[list[Graded], int]:
        """Each usable photo of a split graded, and how many could not be used."""
        photos, found, lost = ShardSet(self.folder, split, self.cohorts), list[Graded](), 0
        labels = photos.labels()
        seed = self.recogniser.how(**ways).plan.seed
        numbers = spread_over_classes(labels, self.examples, key_of(seed, split, "calibrate"))
        finest: Ways = {**ways, "threshold": 0.0}
        several = Several([Given(photos.uid(n), partial(_photo, photos, n)) for n in numbers], single=False)
        with progress_bar(self.console) as tell:
            for number, (one, _) in zip(numbers, self.recogniser.each(several, **finest), strict=True):
                if one.error:
                    lost += 1
                else:
                    found.append(graded(one, labels[number], self.recogniser.taxonomy))
                tell(f"{split} photos", len(found) + lost, len(numbers))
        return found, lost


def table_of(found: Calibration, taxonomy: Taxonomy) -> Table:
    """A row for each threshold at which anything is answered: coverage, risk, and how fine the answers are."""
    ranks = levels(taxonomy)
    rows = tuple(
        (
            f"{one.threshold:.3g}",
            f"{one.coverage:.3f}",
            "{:.3f} to {:.3f}".format(*one.coverage_interval),
            f"{one.risk:.3f}",
            "{:.3f} to {:.3f}".format(*one.risk_interval),
            *(f"{_at(one, depth):.3f}" for depth in range(1, len(ranks) + 1)),
        )
        for one in found.points
        if one.answered
    )
    note = "Coverage: the share of photos that is answered. Risk: the share of answers that is wrong. 95 % intervals."
    photos = found.points[0].n if found.points else 0
    title = f"{found.dataset}, {photos} {found.split} photos, {found.samples} replies each"
    heads = ("threshold", "coverage", "interval", "risk", "interval of risk", *(f"at {rank}" for rank in ranks))
    return Table(heads, rows, title, note)


def checked(point: Operating, found: Calibration, split: str, lost: int) -> str:
    """How the chosen threshold does on other photos, and whether that is what was promised."""
    low, high = point.risk_interval
    covered = "{:.3f} ({:.3f} to {:.3f})".format(point.coverage, *point.coverage_interval)
    kept = "holds" if low <= found.risk else "does not hold"
    return (
        f"On {point.n} {split} photos: coverage {covered}, risk {point.risk:.3f} ({low:.3f} to {high:.3f}): the risk "
        f"of {found.risk:g} {kept}{f'; {lost} photos could not be used' if lost else ''}."
    )


def _at(point: Operating, depth: int) -> float:
    """The share of the photos that is answered so many nodes down."""
    return point.depths[depth] / point.n if depth < len(point.depths) else 0.0


def _chosen(point: Operating, found: Calibration) -> str:
    lost = f" {found.unusable} photos could not be used." if found.unusable else ""
    return (
        f"From a confidence of {point.threshold:.3g} on it answers {point.coverage:.1%} of these photos and is wrong "
        f"in {point.risk:.1%} of its answers; with probability {found.level:g} the risk is at most {found.risk:g}."
        f"{lost}"
    )


def _data_of(recogniser: Recogniser, data: Path | None) -> Path:
    if data is not None:
        return data
    if not recogniser.evaluated:
        raise UserError("labelled photos are needed: name a shard set with --data FOLDER")
    first, *others = recogniser.evaluated
    if others:
        names = ", ".join(map(str, recogniser.evaluated))
        raise UserError(f"the run was validated on several shard sets, {names}: name one with --data")
    return first


def _cohorts(data: Path, split: str, cohorts: Sequence[str] | None) -> tuple[str, ...]:
    there = {cohort for cohort in COHORTS if load_manifest(data).samples(split, (cohort,))}
    chosen = tuple(cohorts) if cohorts else tuple(sorted(there & {*TRAINED_COHORTS}))
    if not chosen or not {*chosen} <= there:
        asked = ", ".join(cohorts or TRAINED_COHORTS)
        raise UserError(
            f"there must be {split} photos of the cohorts {asked} in {data}, but it has those of "
            f"{', '.join(sorted(there)) or 'none'}: name others with --cohorts, or another --split"
        )
    return chosen


def _refuse_others(told: Taxonomy, known: Taxonomy, data: Path) -> None:
    lacking = sorted(told.paths.keys() - known.lineage.keys())
    if lacking:
        raise UserError(f"the labels must be names that the model knows, but {data} has {lacking[:3]} besides")


def _photo(photos: ShardSet, number: int) -> Image.Image:
    example = photos.read(number)
    return open_image(example.images[0], example.uid)
