"""Group-relative policy optimisation: raise what did better than its group, lower what did worse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from fgvr.errors import UserError, refuse_below, refuse_no_share
from fgvr.models import Policy, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import unsharded
from fgvr.modules.base import Optimizer, PolicyModule
from fgvr.modules.idle import idle_groups
from fgvr.objectives import KL, Advantage, Clip, GroupFilter, Reduction, kl_penalty, policy_loss
from fgvr.rewards import Reward, Term, WeightedSum
from fgvr.types import GroupRows, PromptBatch, RolloutBatch, RolloutRows, UpdateBatch
from fgvr.watchdog.beats import UPDATING, beat

ON_BAR = (
    *("reward", "completions/mean_length", "completions/clipped_ratio", "entropy", "kl", "divergence"),
    "frac_reward_zero_std",
)


class GRPO(PolicyModule):
    """GRPO (arXiv 2402.03300, eq. 3) on groups of completions that share their prompt's computation.

    DAPO (arXiv 2503.14476), Dr.GRPO (arXiv 2503.20783) and RLOO (arXiv 2402.14740) are values of these arguments, see
    configs/. `reward` scores a completion (a single one counts under its own name), `advantage` compares it with its
    group, `clip` bounds how far one rollout batch moves the policy, `kl` holds it near the policy the run began with (a
    frozen copy; under LoRA the one without adapters, for which what is trained in full is put back). `reduction` is
    that of `loss_weights`; "constant" divides by sampling.max_new_tokens. `group_filter` drops uninformative groups and
    samples others in their place.
    `entropy_coefficient` is added times the exact entropy to what is maximised. With `mask_truncated` completions that
    were cut off are left out. Each rollout batch is split into `updates` optimiser steps. It is gone through
    `epochs` times.

    `sampling` says how many completions a prompt gets, and how. `micro_batch_tokens` bounds what a forward pass holds,
    as far as whole groups allow: lower it when memory runs out. Where more than the share `max_start_failures` of the
    start's validation answers cannot be read, nothing is trained.

    Rollouts are put into `rollouts` by the callback RolloutGeneration. Raises UserError for groups of one completion.
    """

    counted: tuple[str, ...] = ("targets", "entropy", "gap", "sampled", "kl", "ratios", "ratio", "low", "high", "dual")
    conditioning: Literal["own", "anchor"] = "own"  # the prompt behind which answers about a positive are learned from
    negatives: Literal["detached", "full"] | None = None  # whether, and how, answers are read behind negatives too
    compare: str | None = None  # the reward's component that says which answers are; None is all

    def __init__(
        self,
        policy: PolicyConfig,
        reward: WeightedSum | Reward,
        optimizer: Optimizer = Optimizer(lr=1e-6, schedule="constant"),  # noqa: B008 - frozen
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        advantage: Advantage = Advantage(),  # noqa: B008 - frozen
        clip: Clip = Clip(),  # noqa: B008 - frozen
        kl: KL | None = None,
        reduction: Reduction = "sequence",
        group_filter: GroupFilter | None = None,
        entropy_coefficient: float = 0.0,
        mask_truncated: bool = False,
        updates: int = 1,
        epochs: int = 1,
        micro_batch_tokens: int = 8192,
        max_new_tokens: int = 64,
        max_start_failures: float = 0.95,
    ) -> None:
        super().__init__(policy, optimizer, max_new_tokens)
        if isinstance(reward, Reward):
            reward = WeightedSum({type(reward).__name__.removesuffix("Reward").lower(): Term(reward)})
        if sampling.group_size < 2:
            raise UserError(
                "a completion is compared with the others of its group, so sampling.group_size must be at least 2, got "
                f"{sampling.group_size}"
            )
        refuse_below(1, "model", updates=updates, epochs=epochs, micro_batch_tokens=micro_batch_tokens)
        refuse_no_share("model", max_start_failures=max_start_failures)
        if group_filter is not None and group_filter.score not in reward.terms:
            raise UserError(
                f"the group filter's score must be a component of the reward, {sorted(reward.terms)}, got "
                f"{group_filter.score!r}"
            )
        self.reward, self.sampling, self.advantage, self.clip, self.kl = reward, sampling, advantage, clip, kl
        self.reduction: Reduction = reduction
        self.group_filter, self.entropy_coefficient, self.mask_truncated = (
            group_filter,
            entropy_coefficient,
            mask_truncated,
        )
        self.updates, self.epochs, self.micro_batch_tokens = updates, epochs, micro_batch_tokens
        self.max_start_failures = max_start_failures
        self.steps_per_batch = updates * epochs
        self.rollouts: RolloutBatch | None = None
        self.last_rollouts: RolloutBatch | None = None
        self._frozen: list[Policy] = []  # in a list, so that it is no part of this module's weights
        self._sums: dict[str, float] = {}
        self._widest = 0.0
        self._carry = False  # whether rows carry what a frozen tower made of their images
        self._drawn: set[str] = set()  # the figures of rollouts that were logged

    @property
    def scores_start(self) -> bool:
        return True  # even random weights: a start that cannot be read is said before hours are spent on it

    @property
    def needs_start(self) -> bool:
        return super().needs_start or self.kl is not None  # the reference

    def check_start(self, figures: Mapping[str, float]) -> None:
        """Raises UserError when hardly a reply can be read: every group would earn the same, which teaches nothing."""
        failed = {name: value for name, value in figures.items() if name.endswith("/parse_failures")}
        if not failed or min(failed.values()) <= self.max_start_failures:
            return
        said = ", ".join(f"{name} {value:.3f}" for name, value in failed.items())
        raise UserError(
            f"Most replies of the start must be of the form that the task asks for, but {said} break it, and a group "
            "whose replies all earn nothing teaches nothing: ask what its first run was taught (leave "
            "data.init_args.task out), give it room to finish (max_new_tokens, now "
            f"{self.max_new_tokens}), teach it the form by fgvr.modules.SFT first, or set "
            "model.init_args.max_start_failures to 1.0 to train all the same"
        )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        unknown_end = self.group_filter is not None and self.trainer.max_steps <= 0
        if stage == "fit" and unknown_end and self.optimizer_config.schedule != "constant":
            raise UserError(
                f"a {self.optimizer_config.schedule} rate must know its last step, but with a group filter an epoch's "
                "steps are not known beforehand: set trainer.max_steps, or optimizer.schedule to constant"
            )

    def configure_model(self) -> None:
        built_already = self.policy is not None
        super().configure_model()
        if self.kl is not None and not built_already:  # before a checkpoint is loaded
            self.trained_policy.keep_start()

    def on_fit_start(self) -> None:
        if self.kl is not None and self.policy_config.lora is None and not self._frozen:
            if self.policy_config.backbone.stands_in:
                raise UserError(
                    "the KL term needs the weights that the run began with as its reference, but they are gone: put "
                    f"their checkpoint into {self.trainer.default_root_dir}/base, or leave kl out"
                )
            copy = self.built(replace(self.policy_config, gradient_checkpointing=False), trains=False).eval()
            self._frozen = [copy.to(self.device) if self.device_mesh is None else copy]

    @property
    def logs_now(self) -> bool:
        return True  # a step takes seconds, its figures nothing

    @property
    def every_group(self) -> bool:
        """Whether something besides the advantage is learned from, so that completions of advantage 0 are too."""
        return self.kl is not None or self.entropy_coefficient != 0

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        rollouts = self.take_rollouts()
        self.learn(self._with_fixed_logprobs(rollouts.updates))
        self.log_rollouts(rollouts)

    def take_rollouts(self) -> RolloutBatch:
        """What RolloutGeneration has left for this step. Raises UserError where there is nothing."""
        rollouts, self.rollouts = self.rollouts, None
        if rollouts is None:
            raise UserError(
                f"{type(self).__name__} learns from rollouts and there are none: add fgvr.callbacks.RolloutGeneration "
                "to trainer.callbacks"
            )
        self.last_rollouts = rollouts
        self._sums, self._widest = defaultdict(float), 0.0
        return rollouts

    def learn(self, updates: list[UpdateBatch]) -> None:
        """One optimiser step per update, `epochs` times over, unless the run ends within the rollout batch."""
        carry = any(entry.rows.features is not None for update in updates for entry in update.micro_batches)
        self._carry = bool(self.over_ranks([int(carry)], "max")[0])
        for update in updates * self.epochs:
            if self.global_step == self.trainer.max_steps:
                break
            loss = self.accumulate(update.micro_batches, self._loss, self.idle)
            self.take_step()
            self.log("loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)

    def _loss(self, micro_batch: RolloutRows) -> Tensor:
        rows = micro_batch.rows
        logp, entropy = self.trained_policy.completion_logprobs(rows, self.sampling.temperature)
        old = logp.detach() if micro_batch.old_logprobs is None else micro_batch.old_logprobs
        surrogate = policy_loss(logp, old, micro_batch.advantages, self.clip, rows.target_sequence)
        values = surrogate.values
        if self.entropy_coefficient:
            values = values - self.entropy_coefficient * entropy
        if self.kl is not None and micro_batch.ref_logprobs is not None:
            divergence = kl_penalty(logp, micro_batch.ref_logprobs, self.kl)
            values = values + self.kl.coefficient * divergence
            self._count(kl=divergence)
        self._count(entropy=entropy, targets=torch.ones_like(entropy))
        own = ~micro_batch.sampled_logprobs.isnan()
        gap = (old.detach() - micro_batch.sampled_logprobs)[own].abs()
        self._count(gap=gap, sampled=own)
        self._widest = max(self._widest, float(gap.max()) if len(gap) else 0.0)
        once = self._one_per_ratio(rows.target_sequence)
        self._count(ratios=once, ratio=surrogate.ratio * once, low=surrogate.low & once, high=surrogate.high & once)
        self._count(dual=surrogate.dual & once)
        return (micro_batch.weights * self.besides(values, logp, micro_batch)).sum()

    def idle(self) -> Tensor:
        """0, by way of every pass that a micro-batch takes."""
        return 0 * self.trained_policy.completion_logprobs(self.idle_groups(), self.sampling.temperature)[0].sum()

    def idle_groups(self) -> GroupRows:
        """Rows to be computed for nothing, with features of images where this step's rows carry theirs."""
        return idle_groups(self.trained_policy, self._carry).to(self.device)

    def besides(self, values: Tensor, logp: Tensor, micro_batch: RolloutRows) -> Tensor:
        """The loss of each target [N], given GRPO's, for what is built on it to add to."""
        return values

    def _one_per_ratio(self, sequence: Tensor) -> Tensor:
        """True at one target of each ratio: every target, or each sequence's first."""
        if self.clip.level == "token":
            return torch.ones_like(sequence, dtype=torch.bool)
        return torch.diff(sequence, prepend=sequence[:1] - 1) != 0

    def _with_fixed_logprobs(self, updates: list[UpdateBatch]) -> list[UpdateBatch]:
        """The log-probs that stay as they are while the policy moves: its own before the first step, the reference's.

        With a single step the former are the current ones, which need no pass of their own. All passes share one
        layout, so that rounding cancels between them.
        """
        several = len(updates) * self.epochs > 1
        moved = [UpdateBatch([entry.to(self.device) for entry in update.micro_batches]) for update in updates]
        if not several and self.kl is None:
            return moved
        if several:
            with unsharded(self.trained_policy):
                moved = [self._with(update, "old_logprobs", self.trained_policy) for update in moved]
        with self._reference() as reference:
            if reference is not None:
                moved = [self._with(update, "ref_logprobs", reference) for update in moved]
        return moved

    @torch.no_grad()
    def _with(self, update: UpdateBatch, name: Literal["old_logprobs", "ref_logprobs"], policy: Policy) -> UpdateBatch:
        """An update whose micro-batches have their log-probs under `policy`, by that name."""
        own: list[RolloutRows] = []
        for entry in update.micro_batches:
            beat(UPDATING)
            logprobs = policy.completion_logprobs(entry.rows, self.sampling.temperature)[0]
            own.append(replace(entry, **{name: logprobs}))
        return UpdateBatch(own)

    @contextmanager
    def _reference(self) -> Iterator[Policy | None]:
        if self.kl is None:
            yield None
        elif self._frozen:
            with unsharded(self._frozen[0]):
                yield self._frozen[0]
        else:
            with self.trained_policy.at_start():
                yield self.trained_policy

    def _count(self, **values: Tensor) -> None:
        for name, entry in values.items():
            self._sums[name] += float(entry.detach().double().sum())

    def log_rollouts(self, rollouts: RolloutBatch) -> None:
        """Figures of sampling, and of the updates: sums over ranks and all targets that were computed, divided once.

        `entropy` is estimated from every token that was sampled, `entropy/learned` exact over those computed here. The
        differences of log-probs are those between the engine and the trainer before the update.
        """
        if not rollouts.figures:
            return
        sums = torch.tensor([self._sums[name] for name in self.counted], dtype=torch.float64, device=self.device)
        widest = torch.tensor(self._widest, device=self.device)
        if self.trainer.world_size > 1:
            reduce: Any = self.trainer.strategy.reduce
            sums, widest = reduce(sums, reduce_op="sum"), reduce(widest, reduce_op="max")
        figures: dict[str, Any] = dict(rollouts.figures)
        total = dict(zip(self.counted, sums.tolist(), strict=True))
        if total["targets"]:
            figures |= self.update_figures(total)
            figures["sampling/sampling_logp_difference/max"] = float(widest)
        self._forget(figures)
        for name, value in figures.items():
            shown = name in ON_BAR or (name.startswith("rewards/") and name.endswith("/mean"))
            self.log(name, value, prog_bar=shown)

    def _forget(self, figures: Mapping[str, float]) -> None:
        """Figures of earlier batches that this one has none of: Lightning would draw their last values again."""
        results = self.trainer._results
        for result in results.values() if results is not None else ():
            if result.meta.name in self._drawn and result.meta.name not in figures:
                result.reset()
        self._drawn.update(figures)

    def update_figures(self, total: Mapping[str, float]) -> dict[str, float]:
        """Means of what was `counted`, by the names they are logged under; there is at least one target."""
        targets, ratios = total["targets"], total["ratios"]
        figures = {
            "entropy/learned": total["entropy"] / targets,
            "sampling/sampling_logp_difference/mean": total["gap"] / max(total["sampled"], 1),
            "ratio": total["ratio"] / ratios,
            "clip_ratio/low_mean": total["low"] / ratios,
            "clip_ratio/high_mean": total["high"] / ratios,
            "clip_ratio/dual_mean": total["dual"] / ratios,
            "clip_ratio/region_mean": (total["low"] + total["high"]) / ratios,
        }
        return figures if self.kl is None else figures | {"kl": total["kl"] / targets}
