"""Supervised fine-tuning: raise the log-probability of the written answer, token by token."""

from __future__ import annotations

import time

from torch import Tensor

from fgvr.models import PolicyConfig
from fgvr.modules.base import Optimizer, PolicyModule
from fgvr.modules.idle import idle_rows
from fgvr.objectives import loss_weights
from fgvr.types import PackedRows, SFTBatch


class SFT(PolicyModule):
    """Negative log-likelihood of the assistant's tokens, averaged over every target token of the global batch.

    Stage 1 of Fine-R1 (arXiv 2602.07605, section 3.1) is this with chain-of-thought responses.
    Departs from common practice in one thing: the mean runs over the whole global batch, all
    micro-batches and ranks together, never over a micro-batch of its own.
    """

    def __init__(self, policy: PolicyConfig, optimizer: Optimizer = Optimizer(), max_new_tokens: int = 64) -> None:  # noqa: B008 - frozen
        super().__init__(policy, optimizer, max_new_tokens)
        self._start_clock()

    def on_train_start(self) -> None:
        self._start_clock()

    def on_validation_end(self) -> None:
        super().on_validation_end()
        self._start_clock()  # what validation took is no part of the training's speed

    def training_step(self, batch: SFTBatch, batch_idx: int) -> Tensor:
        room = sum(rows.input_ids.numel() for rows in batch.micro_batches)
        filled = sum(int((rows.segments > 0).sum()) for rows in batch.micro_batches)
        tokens, examples, *used = self.over_ranks([batch.target_tokens, batch.examples, filled, room], "sum")
        loss = self.accumulate(batch.micro_batches, lambda rows: self._loss(rows, tokens, examples), self._idle)
        self.take_step()
        self._log(loss, tokens, examples, *used)
        return loss

    def _loss(self, rows: PackedRows, tokens: int, examples: int) -> Tensor:
        logp = self.trained_policy(rows)
        world = self.trainer.world_size
        weights = loss_weights(rows.target_sequence, "token", tokens=tokens, sequences=examples, world=world)
        return -(weights * logp).sum()

    def _idle(self) -> Tensor:
        return 0 * self.trained_policy(idle_rows(self.trained_policy).to(self.device)).sum()

    def _log(self, loss: Tensor, tokens: int, examples: int, filled: int, room: int) -> None:
        self.log("loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        self._done = (self._done[0] + filled, self._done[1] + examples)
        if not self.logs_now:
            return
        seconds = max(time.monotonic() - self._clock, 1e-9)
        rates = {"tokens/s": self._done[0] / seconds, "images/s": self._done[1] / seconds}
        self.log_dict(rates, prog_bar=True)
        self.log_dict({"train/target_tokens": float(tokens), "train/padding": 1 - filled / max(1, room)})
        self._start_clock()

    def _start_clock(self) -> None:
        self._clock, self._done = time.monotonic(), (0, 0)
