"""Whether a policy is kept apart from its negatives by better answers, or by writing what no photo would explain."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import UserError, refuse_below
from fgvr.modules import TAPO
from fgvr.types import RolloutBatch

DIVERGENCE, REWARD, CLIPPED = "divergence", "reward", "clip_ratio/high_mean"
ENTROPIES = ("triplets/entropy", "triplets/negative_entropy")
WATCHED = (DIVERGENCE, REWARD, CLIPPED, *ENTROPIES)

log = logging.getLogger(__name__)


class CollapseWatch(Callback):
    """Compares the last `window` rollout batches with as many before them, and acts when TAPO hacks its divergence.

    The signs, all at once (PAPO, arXiv 2507.06448, calls them KL hacking): the divergence has grown by more than the
    share `divergence_rise`, the reward has fallen by more than `reward_fall`, both entropies and, where a rollout batch
    makes several updates, the share of targets that the upper bound clips have grown by more than the share `rise`.
    The watch then warns, also multiplies gamma by `factor` ("back_off"), or ends the run ("stop"), and begins anew: the
    next sign takes two windows more. What it has seen and left of gamma is in the checkpoint. Without a divergence it
    has nothing to say. Raises UserError outside the ranges, and for a module other than TAPO.
    """

    def __init__(
        self,
        action: Literal["warn", "back_off", "stop"] = "warn",
        window: int = 20,
        divergence_rise: float = 0.5,
        reward_fall: float = 0.02,
        rise: float = 0.1,
        factor: float = 0.5,
    ) -> None:
        if action not in ("warn", "back_off", "stop"):
            raise UserError(f"the collapse watch's action is warn, back_off or stop, got {action!r}")
        refuse_below(1, "collapse_watch", window=window)
        refuse_below(0, "collapse_watch", divergence_rise=divergence_rise, reward_fall=reward_fall, rise=rise)
        if not 0 <= factor < 1:
            raise UserError(f"collapse_watch.factor lowers gamma, so it must be at least 0 and below 1, got {factor}")
        self.action, self.window, self.factor = action, window, factor
        self.divergence_rise, self.reward_fall, self.rise = divergence_rise, reward_fall, rise
        self.gamma_scale = 1.0
        self._seen: deque[list[float]] = deque(maxlen=2 * window)  # the figures of `WATCHED`, batch by batch

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        refuse_other_module(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TAPO)
        pl_module.gamma_scale = self.gamma_scale

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TAPO)
        rollouts: RolloutBatch | None = pl_module.last_rollouts
        figures = trainer.callback_metrics
        if pl_module.negatives is None or rollouts is None or not rollouts.figures:
            return
        if all(name in figures and math.isfinite(float(figures[name])) for name in WATCHED):
            self._seen.append([float(figures[name]) for name in WATCHED])
        if len(self._seen) == 2 * self.window and self._has_collapsed(pl_module.steps_per_batch > 1):
            self._act(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self._seen), "gamma_scale": self.gamma_scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seen.clear()  # which an evaluation of the start may have filled from the same checkpoint
        self._seen.extend(state_dict["seen"])
        self.gamma_scale = state_dict["gamma_scale"]

    def _means(self) -> tuple[dict[str, float], dict[str, float]]:
        """The figures over the first window and over the second."""
        rows = list(self._seen)
        return _means_of(rows[: self.window]), _means_of(rows[self.window :])

    def _has_collapsed(self, clips: bool) -> bool:
        before, now = self._means()
        grown = [*ENTROPIES, CLIPPED] if clips else ENTROPIES
        return (
            now[DIVERGENCE] > (1 + self.divergence_rise) * before[DIVERGENCE]
            and now[REWARD] < before[REWARD] - self.reward_fall
            and all(now[name] > (1 + self.rise) * before[name] for name in grown)
        )

    def _act(self, trainer: Trainer, pl_module: TAPO) -> None:
        before, now = self._means()
        said = ", ".join(f"{name} {before[name]:.4g} -> {now[name]:.4g}" for name in WATCHED)
        signs = (
            f"the policy drives its divergence from the negatives up and loses reward: {said} in {self.window} batches"
        )
        remedy = "lower triplet.gamma, raise triplet.eta1, or add a kl term"
        self._seen.clear()
        if self.action == "stop":
            raise UserError(f"at step {trainer.global_step} {signs}; go on from an earlier checkpoint, and {remedy}")
        if self.action == "back_off":
            self.gamma_scale *= self.factor
            pl_module.gamma_scale = self.gamma_scale
            remedy = f"gamma is {self.gamma_scale:.4g} times what it was set to from here on"
        log.warning("at step %d %s; %s", trainer.global_step, signs, remedy)


def refuse_other_module(module: LightningModule) -> None:
    """Raises UserError for a module without a divergence to watch."""
    if not isinstance(module, TAPO):
        raise UserError(
            f"the collapse watch looks at a divergence from negatives, which {type(module).__name__} has not: "
            "leave fgvr.callbacks.CollapseWatch out, or train fgvr.modules.TAPO"
        )


def _means_of(rows: list[list[float]]) -> dict[str, float]:
    sums = map(sum, zip(*rows, strict=True))
    return {name: total / len(rows) for name, total in zip(WATCHED, sums, strict=True)}
