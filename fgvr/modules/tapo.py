"""TAPO: DAPO whose groups mix answers about two photos of a class, and are kept apart from a class that looks alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from fgvr.errors import UserError
from fgvr.models import PolicyConfig
from fgvr.models.sharding import unsharded
from fgvr.modules.grpo import GRPO
from fgvr.objectives import Triplet, triplet_loss
from fgvr.rewards import Reward, WeightedSum
from fgvr.types import GroupRows, PromptBatch, RolloutRows, UpdateBatch


class TAPO(GRPO):
    """Triplet-augmented policy optimisation (Fine-R1, arXiv 2602.07605, section 4.3) on top of any settings of GRPO.

    Intra-class: `sampling.positives` of the completions answer about the positive, another photo of the class; all of a
    group share one baseline. They are learned from behind the photo they were sampled from ("own", as the released code
    does), or with `positive_conditioning` "anchor" behind the anchor's (as the paper says: off policy, without a
    correction). Inter-class: `triplet` has what keeps answers about the anchor apart from the same answers about the
    negative, at the temperature of `sampling`, as all log-probs. Either is off at 0; with both off this is GRPO.

    An example without a positive answers about itself alone, one without a negative is not kept apart; both are counted
    (`triplets/without_positive`, `triplets/without_negative`). `correct` names the component of the reward by which
    "correct_only" goes, right where it is above 0; None takes the group filter's score, else the first term. `options`
    are GRPO's. Raises UserError for a component that there is not.
    """

    counted = (*GRPO.counted, "divergence", "compared", "own_entropy", "negative_entropy")

    def __init__(
        self,
        policy: PolicyConfig,
        reward: WeightedSum | Reward,
        triplet: Triplet = Triplet(),  # noqa: B008 - frozen
        positive_conditioning: Literal["own", "anchor"] = "own",
        correct: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(policy, reward, **options)
        if positive_conditioning not in ("own", "anchor"):
            raise UserError(f"model.positive_conditioning is own or anchor, got {positive_conditioning!r}")
        if correct is not None and correct not in self.reward.terms:
            raise UserError(
                f"model.correct must be a component of the reward, {sorted(self.reward.terms)}, got {correct!r}"
            )
        by_default = next(iter(self.reward.terms)) if self.group_filter is None else self.group_filter.score
        self.triplet, self.conditioning = triplet, positive_conditioning
        self.negatives = triplet.negative if triplet.compares else None
        self.compare = correct or by_default if triplet.scope == "correct_only" else None
        self.gamma_scale = 1.0  # what a watch over the run has left of gamma
        self._gamma = triplet.gamma

    @property
    def every_group(self) -> bool:
        return super().every_group or self.negatives is not None or self.triplet.eta1 > 0

    def setup(self, stage: str) -> None:
        super().setup(stage)
        unknown_end = self.group_filter is not None and self.trainer.max_steps <= 0
        if stage == "fit" and unknown_end and self.triplet.annealed_over is not None:
            raise UserError(
                "gamma must know the last step to be annealed towards it, but with a group filter an epoch's steps are "
                "not known beforehand: set trainer.max_steps, or leave triplet.annealed_over out"
            )

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        rollouts = self.take_rollouts()  # of each example, about it and about its positive, with one baseline
        updates = self._with_fixed_logprobs(rollouts.updates)  # of the policy as it sampled
        updates = self._with_negative_logprobs(updates)  # the same answers, about the negative
        self._gamma = self._gamma_now()
        self.learn(updates)  # DAPO's loss - gamma x divergence + eta1, eta2 x entropies
        self.log_rollouts(rollouts)

    def besides(self, values: Tensor, logp: Tensor, micro_batch: RolloutRows) -> Tensor:
        if self.negatives is None and self.triplet.eta1 == 0:
            return values
        negative_logp, compared = self._negative_logprobs(micro_batch), micro_batch.compared
        added, divergence = triplet_loss(logp, negative_logp, compared, self._gamma, self.triplet)
        if negative_logp is not None and compared is not None:
            self._count(divergence=divergence, compared=compared)
            self._count(own_entropy=-logp[compared], negative_entropy=-negative_logp)
        elif self.negatives == "full" and self.trainer.world_size > 1:
            return values + added + self._idle_negative()  # others may learn from negatives at the same time
        return values + added

    def idle(self) -> Tensor:
        return super().idle() + (self._idle_negative() if self.negatives == "full" else 0)

    def _idle_negative(self) -> Tensor:
        return 0 * self._behind_negatives(self.idle_groups()).sum()

    def update_figures(self, total: Mapping[str, float]) -> dict[str, float]:
        """Those of GRPO, gamma, and of the completions that were compared what they are under both photos.

        `divergence` is in nats, `triplets/entropy` and `triplets/negative_entropy` are sampled, under the photo that a
        completion is learned from and under the negative.
        """
        figures = super().update_figures(total) | {"triplets/gamma": self._gamma}
        if not total["compared"]:
            return figures
        return figures | {
            "divergence": total["divergence"] / total["compared"],
            "triplets/entropy": total["own_entropy"] / total["compared"],
            "triplets/negative_entropy": total["negative_entropy"] / total["compared"],
        }

    def _gamma_now(self) -> float:
        total = None if self.triplet.annealed_over is None else self._total_steps()
        return self.gamma_scale * self.triplet.gamma_at(self.global_step, total)

    def _with_negative_logprobs(self, updates: list[UpdateBatch]) -> list[UpdateBatch]:
        """Of a negative that is a constant: taken once, before the first step, and not changed by any."""
        if self.negatives == "detached":
            with unsharded(self.trained_policy), torch.no_grad():
                for update in updates:
                    for index, entry in enumerate(update.micro_batches):
                        if entry.negative is not None:
                            found = self._behind_negatives(entry.negative)
                            update.micro_batches[index] = replace(entry, negative_logprobs=found)
        return updates

    def _negative_logprobs(self, micro_batch: RolloutRows) -> Tensor | None:
        if self.negatives == "full" and micro_batch.negative is not None:
            return self._behind_negatives(micro_batch.negative)
        return micro_batch.negative_logprobs

    def _behind_negatives(self, rows: GroupRows) -> Tensor:
        return self.trained_policy.completion_logprobs(rows, self.sampling.temperature)[0]
