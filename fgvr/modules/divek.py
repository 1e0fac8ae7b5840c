"""DiVE-k: GRPO on multiple-choice questions made of the model's own likeliest answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fgvr.errors import UserError
from fgvr.models import PolicyConfig
from fgvr.modules.grpo import GRPO
from fgvr.rewards import Choice, Format, Term, WeightedSum
from fgvr.types import RolloutBatch

NAMES = ("choice", "format")  # of the rewards, in logs and group filters


class DiVEk(GRPO):
    """GRPO on the choice among options (arXiv 2511.18305): no name is compared, an option is right or wrong.

    It is GRPO whose reward is `choice_weight` times a right choice plus `format_weight` times a well-formed reply, and
    has the same losses. `none_of_these` is what passing over a label that was shown earns, `outside` what choosing no
    option does, None for no part in the group (see `Choice`). What the data asks in training must be `ClosedWorld`,
    whose options come from mining. `terms` are further rewards beside these, `options` those of GRPO.

    Questions differ in how many options they show, and with them what guessing earns: logged as `choice/guess_floor`,
    the mean of 1/m (and what a guess of "none of these" earns), and `choice/above_guess`, how far the choices are from
    it on the way to all right (1). Raises UserError for a further term of either name.
    """

    def __init__(
        self,
        policy: PolicyConfig,
        choice_weight: float = 1.0,
        format_weight: float = 1.0,
        none_of_these: float = 0.0,
        outside: float | None = 0.0,
        terms: dict[str, Term] | None = None,
        **options: Any,
    ) -> None:
        if taken := sorted(set(NAMES) & set(terms or {})):
            raise UserError(f"the term {taken[0]!r} is the choice's own: give the further reward another name")
        own = {"choice": Term(Choice(none_of_these, outside), choice_weight), "format": Term(Format(), format_weight)}
        super().__init__(policy, WeightedSum(own | (terms or {})), **options)
        self.none_of_these = none_of_these

    def log_rollouts(self, rollouts: RolloutBatch) -> None:
        guessed = guess_figures(rollouts.figures, self.none_of_these)
        super().log_rollouts(replace(rollouts, figures=rollouts.figures | guessed))


def guess_figures(figures: Mapping[str, float], none_of_these: float = 0.0) -> dict[str, float]:
    """The guess floor of a rollout batch and the distance from it, given the shares of questions by their options.

    Where "none of these" is offered and not right ("label/shown"), a guess that falls on it earns `none_of_these`.
    """
    shares = {int(name.removeprefix("options/")): value for name, value in figures.items() if "options/" in name[:8]}
    if not shares:
        return {}
    once = sum(share / count for count, share in shares.items())  # what one option is worth, where it is worth 1
    floor = once * (1 + none_of_these * figures.get("label/shown", 0.0))
    above = (figures["rewards/choice/mean"] - floor) / (1 - floor)
    return {"choice/guess_floor": floor, "choice/above_guess": above}
