"""Whether what samples is what learns: their log-probs of the same tokens may differ by rounding, and by no more."""

from __future__ import annotations

import logging
import math
from collections import deque
from statistics import median
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import UserError, refuse_below

DIFFERENCE = "sampling/sampling_logp_difference/mean"
ALARMS = "sampling/drift_alarms"

log = logging.getLogger(__name__)


class DriftWatch(Callback):
    """Compares at each step by how much the engine's log-probs differ from the trainer's, per token, with steps before.

    More than `times` the median of the last `window` steps, and more than `floor`, is an alarm: the engine holds
    weights of another step, or computes otherwise. So is more than `ceiling`, already at a run's first step. The watch
    then warns, or ends the run ("stop"), and counts its alarms as sampling/drift_alarms. What it has seen is in the
    checkpoint. In every run that learns from rollouts there is one. Raises UserError outside the ranges.
    """

    def __init__(
        self,
        action: Literal["warn", "stop"] = "warn",
        times: float = 5.0,
        floor: float = 1e-3,
        ceiling: float = 0.2,
        window: int = 20,
    ) -> None:
        if action not in ("warn", "stop"):
            raise UserError(f"the drift watch's action is warn or stop, got {action!r}")
        refuse_below(1, "drift_watch", times=times, window=window)
        refuse_below(0, "drift_watch", floor=floor, ceiling=ceiling)
        self.action, self.times, self.floor, self.ceiling = action, times, floor, ceiling
        self.alarms = 0
        self._seen: deque[float] = deque(maxlen=window)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        rollouts: Any = getattr(pl_module, "last_rollouts", None)
        if rollouts is None or not rollouts.figures or DIFFERENCE not in trainer.callback_metrics:
            return
        now = float(trainer.callback_metrics[DIFFERENCE])
        usual = median(self._seen) if self._seen else math.inf
        drifted = not now <= self.ceiling or (now > self.floor and now > self.times * usual)
        if math.isfinite(now):
            self._seen.append(now)
        if drifted:
            self._alarm(trainer, pl_module, now, usual)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self._seen), "alarms": self.alarms}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seen.clear()
        self._seen.extend(state_dict["seen"])
        self.alarms = state_dict["alarms"]

    def _alarm(self, trainer: Trainer, pl_module: LightningModule, now: float, usual: float) -> None:
        self.alarms += 1
        pl_module.log(ALARMS, float(self.alarms))
        before = f"{usual:.3g} before" if math.isfinite(usual) else "nothing before to compare with"
        said = (
            f"the engine's log-probs must be the trainer's but for rounding, but at step {trainer.global_step} they "
            f"differ by {now:.3g} per token ({before}): see that the engine has the weights of this step, and samples "
            "with the trainer's temperature, tokens and precision"
        )
        if self.action == "stop":
            raise UserError(said)
        log.warning("%s", said)
