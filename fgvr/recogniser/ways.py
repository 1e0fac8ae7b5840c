"""In which ways photos can be named: the settings of `Recogniser.predict`, and of the command of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypedDict

import numpy as np

from fgvr.errors import UserError
from fgvr.recogniser.restricted import Restricted
from fgvr.rollouts.two_step import TwoStep

YES_OR_NO, NUMBER, WHOLE = ((bool, np.bool_), "true or false"), (Real, "a number"), (Integral, "a whole number")
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {  # classes are looked at with the taxonomy
    **dict.fromkeys(("open_world", "two_step", "abstain"), YES_OR_NO),
    **dict.fromkeys(("risk", "threshold", "temperature"), NUMBER),
    **dict.fromkeys(("samples", "seed"), WHOLE),
    "within": (str, "a name"),
}


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


def refuse_unfit(ways: Mapping[str, Any]) -> None:
    """Raises UserError for a setting that there is not, and for a value of another kind than its setting takes."""
    for name, value in ways.items():
        if name not in Ways.__annotations__:
            raise UserError(f"predict has no setting {name!r}: there are {', '.join(Ways.__annotations__)}")
        kind, words = KINDS.get(name, (object, ""))
        truth_for_number = isinstance(value, bool) and kind in (Real, Integral)
        if value is not None and name in KINDS and (truth_for_number or not isinstance(value, kind)):
            raise UserError(f"predict.{name} must be {words}, got {value!r}: give one, or leave it out")


@dataclass(frozen=True)
class How:
    """`Ways`, checked: by which plan, in one step or two, among which names, from which confidence on."""

    plan: TwoStep
    two_step: bool
    restricted: Restricted
    threshold: float | None
