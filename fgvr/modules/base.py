"""What every method shares: the policy, its optimiser and schedule, answers for validation, what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loops.utilities import _block_parallel_sync_behavior
from torch import Tensor

from fgvr.errors import UserError, refuse_below, refuse_no_share
from fgvr.models import Policy, PolicyConfig, Processor
from fgvr.models.attention_choice import choose_attention
from fgvr.models.rows import load_rows
from fgvr.models.saved import card_differences, policy_card
from fgvr.models.sharding import Sharding, place_buffers, shard_policy, whole
from fgvr.models.weight_names import refuse_unreadable
from fgvr.modules.rates import SETTING, Former, Group, groups_of, parameter_groups, rates_now, table_of_rates
from fgvr.modules.spikes import SpikeRule
from fgvr.types import PromptBatch
from fgvr.watchdog.beats import UPDATING, beat

M = TypeVar("M")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimizer:
    """AdamW (arXiv 1711.05101, algorithm 2) with linear warm-up, then a constant, a linearly falling or a cosine rate.

    `lr` is the rate at its highest, `schedule` says what becomes of it then. `rates` are those of weights that have one
    of their own, under the same schedule: of vision, projector, language, or of weights and modules by patterns of
    their whole names, which go before the part that they lie in. `betas`, `eps` and `weight_decay` are
    AdamW's own. `warmup` counts optimiser steps. What falls ends at `floor` x lr at the last step; the cosine
    is that of SGDR (arXiv 1608.03983, eq. 5) without restarts. `max_grad_norm` clips the global norm (arXiv 1211.5063,
    algorithm 1). A step with a gradient that is not finite, or a spike, is skipped and counted; after
    `max_skipped` in a row the run stops. A spike is a norm above max_grad_norm and above `spike` times the median of
    the last 32 (null: nothing is one). Raises UserError outside the ranges.
    """

    lr: float = 1e-5
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: int = 0
    floor: float = 0.0
    max_grad_norm: float = 1.0
    max_skipped: int = 10
    spike: float | None = 100.0
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_unreadable(tuple(self.rates), SETTING)
        rates = ((f"rates {key!r}", rate) for key, rate in self.rates.items())
        for name, value in (("lr", self.lr), ("max_grad_norm", self.max_grad_norm), *rates):
            if not value > 0:
                raise UserError(f"optimizer.{name} must be above 0, got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optimizer.betas must be at least 0 and below 1, got {self.betas}")
        refuse_below(0, "optimizer", weight_decay=self.weight_decay, eps=self.eps)
        refuse_below(0, "optimizer", warmup=self.warmup, max_skipped=self.max_skipped)
        refuse_below(1, "optimizer", spike=self.spike)
        refuse_no_share("optimizer", floor=self.floor)

    def scale(self, step: int, total: int) -> float:
        """The share of lr at optimiser step `step`, counted from 0, of `total`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - self.warmup) / max(1, total - self.warmup))
        left = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.floor + (1 - self.floor) * left


class PolicyModule(LightningModule):
    """A policy under training, whose optimiser steps are taken in micro-batches.

    `policy` is what is trained, `optimizer` says how its steps are taken. `max_new_tokens` bounds the answers given at
    validation. The weights a run begins with are evaluated too, unless they are random. Raises UserError for
    answers of no token.
    """

    steps_per_batch = 1
    policy: Policy | None
    skipped: Tensor  # steps skipped for their gradient: in all, and in a row up to now

    def __init__(self, policy: PolicyConfig, optimizer: Optimizer, max_new_tokens: int = 64) -> None:
        super().__init__()
        refuse_below(1, "model", max_new_tokens=max_new_tokens)
        self.automatic_optimization = False
        self.policy_config, self.optimizer_config, self.max_new_tokens = policy, optimizer, max_new_tokens
        self.policy = None
        self.register_buffer("skipped", torch.zeros(2, dtype=torch.long))
        self.spikes = SpikeRule(optimizer.spike, optimizer.max_grad_norm)

    @property
    def scores_start(self) -> bool:
        """Whether the weights a run begins with are worth evaluating, as what it is compared with at its end."""
        return self.policy_config.backbone.learned

    @property
    def needs_start(self) -> bool:
        """Whether a run that goes on asks again for weights it began with: its checkpoints leave frozen ones out."""
        return self.policy_config.lora is not None or bool(self.policy_config.freeze)

    def check_start(self, figures: Mapping[str, float]) -> None:
        """Raises UserError when what the start scored says that the training would be in vain."""
        return

    @cached_property
    def processor(self) -> Processor:
        return self.policy_config.backbone.processor(self.policy_config.pixels)

    def setup(self, stage: str) -> None:
        """Settles, before the model is built, what attention is computed with, and refuses what cannot be."""
        if self.policy is not None:
            self.policy.weights_stay(False)  # a validation that came to no end may have left it so
        config, trainer = self.policy_config, self.trainer
        attention, why = choose_attention(
            config.attention,
            config.prefix_attention,
            trainer.strategy.root_device,
            str(trainer.precision),
            trains=stage == "fit",
        )
        if self.policy is None:
            self.policy_config = replace(config, attention=attention)
            if stage == "fit":
                log.info(why)

    def configure_model(self) -> None:
        if self.policy is None:
            self.policy = self.built(self.policy_config)
            if self._trainer is not None and self.trainer.state.fn == "fit":
                log.info(self.policy.what_is_trained())
                for line in table_of_rates(self.policy, self.groups()):
                    log.info("  %s", line)

    def built(self, config: PolicyConfig, trains: bool = True) -> Policy:
        """The policy with its weights, of which this process holds its part where the strategy has them in parts.

        Then it never held more than that and a layer, where the weights can be read so. What is not trained is frozen.
        """
        in_parts = self.device_mesh is not None
        # DoRA's magnitudes are made of whole weights
        readable = in_parts and not (config.lora is not None and config.lora.dora)
        source = config.backbone.rows() if readable else None
        policy = Policy(config, self.processor, empty=source is not None)
        if not trains:
            policy.requires_grad_(False)
        if not in_parts:
            return policy
        strategy: Any = self.trainer.strategy
        sharding: Sharding | None = getattr(strategy, "sharding", None)
        if sharding is None:
            raise UserError(
                "a model whose devices have a part each is trained with fgvr.strategies.FSDP2Strategy, got "
                f"{type(self.trainer.strategy).__name__}: give the Trainer that one"
            )
        shard_policy(policy, sharding)
        if source is not None:
            device = torch.device("cpu") if sharding.offload else strategy.root_device
            load_rows(policy, source, torch.initial_seed(), device)
        place_buffers(policy, strategy.root_device)
        return policy

    @property
    def trained_policy(self) -> Policy:
        if self.policy is None:
            raise ValueError(
                "the policy is built by configure_model(), which has not run yet: call it, or let the Trainer"
            )
        return self.policy

    def configure_optimizers(self) -> Any:
        config, total = self.optimizer_config, self._total_steps()
        options = {"betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}
        optimizer = torch.optim.AdamW(parameter_groups(self.groups()), lr=config.lr, fused=True, **options)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.scale(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def groups(self) -> list[Group]:
        """The weights that are trained, with their rates. Raises UserError for rates that the policy has no use for."""
        return groups_of(self.trained_policy, self.optimizer_config.lr, self.optimizer_config.rates)

    def _total_steps(self) -> int:
        # Not trainer.estimated_stepping_batches: reading it here makes Lightning forget the loader's state on resume.
        if self.trainer.max_steps > 0:
            return self.trainer.max_steps
        per_epoch = getattr(self.trainer.datamodule, "steps_per_epoch", None)  # pyright: ignore[reportAttributeAccessIssue]
        if per_epoch is None or not self.trainer.max_epochs or self.trainer.max_epochs < 0:
            raise UserError("the schedule must know where it ends: set trainer.max_steps, or trainer.max_epochs")
        return per_epoch * self.steps_per_batch * self.trainer.max_epochs

    @property
    def logs_now(self) -> bool:
        """True at the steps whose figures are written; at the others logging them would only cost time."""
        return self.global_step % self.trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]

    def accumulate(self, micro_batches: Sequence[M], loss: Callable[[M], Tensor], idle: Callable[[], Tensor]) -> Tensor:
        """Backward through every micro-batch; returns the sum of the losses, detached.

        A rank with fewer micro-batches than another keeps in step with it by idle ones: `idle` runs the same passes as
        a `loss` does, of which every weight is a part, and gives a loss of zero.
        """
        total = torch.zeros((), device=self.device)
        (passes,) = self.over_ranks([len(micro_batches)], "max")
        for index in range(passes):
            with _block_parallel_sync_behavior(self.trainer.strategy, block=index < passes - 1):
                beat(UPDATING)
                part = loss(micro_batches[index]) if index < len(micro_batches) else idle()
                self.manual_backward(part)
            total += part.detach()
        return total

    def over_ranks(self, counts: list[int], how: Literal["sum", "max"]) -> list[int]:
        """Counts of all ranks, added up or the largest of each. A collective call."""
        if self.trainer.world_size == 1:
            return counts
        return self.trainer.strategy.reduce(torch.tensor(counts, device=self.device), reduce_op=how).tolist()  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]

    def take_step(self) -> None:
        """Clips, steps and schedules; a gradient that no step is taken with skips the update on every rank alike."""
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        parameters = [parameter for _, parameter in self.trained_policy.trainable()]
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_config.max_grad_norm))
        if self._skips(float(norm)):
            optimizer.zero_grad()
        rate, rates = optimizer.param_groups[0]["lr"], rates_now(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if self.logs_now:
            skipped = {"train/skipped_steps": self.skipped[0].float(), "train/spikes": self.spikes.count.float()}
            self.log_dict({"train/grad_norm": norm, **skipped, **rates})
            self.log("lr", rate, prog_bar=True)

    def _skips(self, norm: float) -> bool:
        """Whether all ranks leave out a step with a gradient of that norm: a collective call. Raises UserError where
        they have done so too often in a row."""
        broken, spike = not math.isfinite(norm), self.spikes.is_spike(norm)
        # of copies one may be broken alone
        broken, spike = map(bool, self.over_ranks([int(broken), int(spike)], "max"))
        spike = spike and not broken
        skips = broken or spike
        if not broken:
            usual = self.spikes.usual()
            self.spikes.saw(norm, spike)
            if spike:
                log.warning(
                    "step %d is skipped: its gradient's norm is %.3g, where the median of those before is %.3g "
                    "(optimizer.spike is %g); samples.jsonl names its samples",
                    self.global_step, norm, usual, self.spikes.times,
                )  # fmt: skip
        total, run = self.skipped.tolist()
        self.skipped.copy_(torch.tensor([total + skips, run + 1 if skips else 0]))
        if skips and run + 1 > self.optimizer_config.max_skipped:
            raise UserError(
                f"gradients must be {'finite' if broken else 'near those of the steps before'}, but {run + 1} steps in "
                f"a row, up to {self.global_step}, had others: lower the learning rate, look in samples.jsonl at the "
                f"data of these steps{'' if broken else ', or give a larger optimizer.spike'}"
            )
        return skips

    def on_validation_start(self) -> None:
        self.trained_policy.weights_stay(True)

    def on_validation_end(self) -> None:
        self.trained_policy.weights_stay(False)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        """Greedy completions, one per example, for the callback that judges them."""
        if not batch.examples:
            return []
        return [self.processor.decode(ids) for ids in self.trained_policy.generate(batch, self.max_new_tokens)]

    def test_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out frozen weights that the backbone can give again, and adds what rebuilding the policy takes."""
        policy = self.trained_policy
        if policy.config.backbone.reloadable:
            # under every name a parameter goes by: a head may share its weight with the embeddings
            named = policy.named_parameters(remove_duplicate=False)
            kept = {f"policy.{name}" for name, parameter in named if parameter.requires_grad}
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if k in kept or not k.startswith("policy.")}
        checkpoint["fgvr_policy"] = policy_card(policy, self.max_new_tokens)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another model, tokenizer or base, and in evaluation of another pixel budget."""
        state, own = checkpoint["state_dict"], self.state_dict()
        unknown = sorted(set(state) - set(own))
        lacking = {f"policy.{name}" for name, _ in self.trained_policy.trainable()} - set(state)
        if unknown or lacking:
            raise UserError(
                "a checkpoint must hold the weights that this configuration trains, but it lacks "
                f"{sorted(lacking)[:3]} and has {unknown[:3]} besides: resume with the configuration it was made with"
            )
        own_card = policy_card(self.trained_policy, self.max_new_tokens)
        differing = card_differences(checkpoint["fgvr_policy"], own_card)
        if self.trainer.state.fn == "fit":  # there the run's fingerprint speaks of settings
            differing.pop("pixels", None)
        if differing:
            raise UserError(
                "a checkpoint must meet the tokenizer, the chat template, the pixel budget and the base weights it was "
                "made with, but these differ: "
                + "; ".join(f"{name} ({then} then, {now} now)" for name, (then, now) in differing.items())
                + ": put back what it was made with, or start again with --run.fresh true"
            )
        # Frozen weights that were left out are those configure_model() has just loaded.
        checkpoint["state_dict"] = own | state
        if self.trainer.state.fn == "fit" and checkpoint.get("optimizer_states"):
            self._go_on_with_own_rates(checkpoint)

    def _go_on_with_own_rates(self, checkpoint: dict[str, Any]) -> None:
        """Lays out what the optimizer knows for the rates of these settings, where it was kept with others."""
        (optimizer,), (schedule,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        former, groups = Former(optimizer, schedule, checkpoint["fgvr_policy"]["trained"]), self.groups()
        if former.goes_on_as(groups):
            return
        log.info(former.changes(groups))
        total = self._total_steps()
        state, schedule = former.under(groups, lambda step: self.optimizer_config.scale(step, total))
        checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [state], [schedule]
