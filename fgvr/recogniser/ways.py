"""In which ways photos can be named: the settings of `Recogniser.predict`, and of the command of that name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from fgvr.recogniser.restricted import Restricted
from fgvr.rollouts.two_step import TwoStep


class Ways(TypedDict, total=False):
    """What may be said of how photos are named; what is left out or None is as the model has it.

    Args:
        classes: names to answer with, at any rank of the taxonomy; what stands below one counts for it
        within: a name of the taxonomy below which all photos are known to stand
        open_world: let replies count too that name nothing of the taxonomy; these have no path
        two_step: let the model choose among its own likeliest names (DiVE-k, arXiv 2511.18305)
        abstain: answer as finely as the calibrated threshold allows, and not at all where no rank reaches it
        risk: the share of answers that may be wrong, where it is not the one calibrated for; implies abstain
        threshold: a confidence from 0 to 1 in place of the calibrated one; implies abstain
        samples: replies to each photo, at least 2
        temperature: that they are drawn at
        seed: of what is drawn
    """

    classes: Sequence[str] | None
    within: str | None
    open_world: bool
    two_step: bool
    abstain: bool
    risk: float | None
    threshold: float | None
    samples: int | None
    temperature: float | None
    seed: int | None


@dataclass(frozen=True)
class How:
    """`Ways`, checked: by which plan, in one step or two, among which names, from which confidence on."""

    plan: TwoStep
    two_step: bool
    restricted: Restricted
    threshold: float | None
