"""SpeciaRL: answers are compared with the most specific correct one of their own group."""

from __future__ import annotations

from typing import Any

from fgvr.errors import UserError
from fgvr.judges import Judge
from fgvr.models import PolicyConfig
from fgvr.modules.grpo import GRPO
from fgvr.rewards import Specificity, SpecificityReward, Term, WeightedSum

NAME = "specificity"  # of the reward, in logs and group filters


class SpeciaRL(GRPO):
    """GRPO on the verdicts of a judge (arXiv 2603.03197, section 3): `judge` finds them, `specificity` scores them.

    It is GRPO whose reward is `SpecificityReward`, as the term "specificity", and has the same losses. `terms` are
    further rewards beside it (DAPO's length penalty), `options` those of GRPO. Raises UserError for a further term of
    that name.
    """

    def __init__(
        self,
        policy: PolicyConfig,
        judge: Judge,
        specificity: Specificity = Specificity(),  # noqa: B008 - frozen
        terms: dict[str, Term] | None = None,
        **options: Any,
    ) -> None:
        if NAME in (terms or {}):
            raise UserError(f"the term {NAME!r} is the judge's own: give the further reward another name")
        own = {NAME: Term(SpecificityReward(judge, specificity))}
        super().__init__(policy, WeightedSum(own | (terms or {})), **options)
