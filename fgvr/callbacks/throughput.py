"""How fast the rollouts are learned from: seconds by phase, tokens a second, memory, and work done against the peak."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import UserError
from fgvr.models import Policy
from fgvr.ranks import of_all_ranks
from fgvr.types import GroupRows, RolloutBatch, UpdateBatch

# dense bfloat16 peaks in TFLOP/s, by part of the device's name as CUDA gives it; the first that fits counts
PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A6000": 155.0,
    "A40": 150.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "4090": 165.0,
    "3090": 71.0,
}


@dataclass(frozen=True)
class Costs:
    """What a token and a pair of tokens cost a model: weights are counts, pairs FLOP of one forward pass, all layers.

    `decoder` and `head` are the weights of matrix products, embeddings left out; `tower` and `merger` those that each
    patch passes (a merger's by the share of merged tokens). `full` and `windowed` are what a pair of patches costs in
    the layers of either kind, `window` the patches of one window. A part is `..._trained` when its own weights are.
    """

    decoder: float
    head: float
    pair: float
    tower: float = 0.0
    merger: float = 0.0
    full: float = 0.0
    windowed: float = 0.0
    window: int = 64
    decoder_trained: bool = True
    head_trained: bool = True
    tower_trained: bool = False
    merger_trained: bool = False


def group_flops(
    costs: Costs, prompt: int, completions: Sequence[int], images: Sequence[int] = (), learned: bool = True
) -> float:
    """FLOP of one forward and backward pass over a group in which everything shared is computed once.

    `prompt` and `completions` are in tokens, `images` in patches; leave out images whose features are carried along.
    A forward pass takes 2 per weight and token, the head on completion tokens alone, and each pair of a token and one
    it sees, in its own completion or the prompt. Backward takes as much again for the activations and, where weights
    are trained, as much again for them; a pair always takes both. Adapters, norms and recomputation count nothing. A
    pass that is not `learned` from is forward alone.
    """
    own = sum(completions)
    pairs = prompt * (prompt + 1) / 2 + sum(length * prompt + length * (length + 1) / 2 for length in completions)
    decoder = 2 * costs.decoder * (prompt + own) * ((2 + costs.decoder_trained) if learned else 1)
    head = 2 * costs.head * own * ((2 + costs.head_trained) if learned else 1)
    return decoder + head + (3 if learned else 1) * costs.pair * pairs + vision_flops(costs, images, learned)


def vision_flops(costs: Costs, images: Sequence[int], learned: bool = True) -> float:
    """As `group_flops`, for the tower and the merger behind it. Windows count as whole.

    What lies before all that is trained needs no backward pass. A merger begins with a norm, which is trained with it.
    """
    tower, merger = costs.tower_trained and learned, costs.merger_trained and learned
    patches = sum(images)
    pairs = sum(costs.full * n * n + costs.windowed * n * min(n, costs.window) for n in images)
    back = (tower or merger) + merger  # the merger's: for its activations, and for its weights
    return (2 * costs.tower * patches + pairs) * (3 if tower else 1) + 2 * costs.merger * patches * (1 + back)


def update_flops(costs: Costs, update: UpdateBatch) -> float:
    """As `group_flops`, for all the groups of one optimiser step."""
    return sum(rows_flops(costs, entry.rows) for entry in update.micro_batches)


def rows_flops(costs: Costs, rows: GroupRows, learned: bool = True) -> float:
    """As `group_flops`, for the groups of one micro-batch."""
    seen = rows.images.grid_thw.prod(1).tolist() if rows.images is not None and rows.features is None else []
    flops = vision_flops(costs, seen, learned)
    for segments in rows.segments:
        prompt, *completions = torch.bincount(segments[segments >= 0]).tolist()
        flops += group_flops(costs, prompt, completions, learned=learned)
    return flops


def tokens_of(rows: GroupRows) -> int:
    """Tokens without padding, a prompt's once."""
    return int((rows.segments >= 0).sum())


def negatives_of(updates: Sequence[UpdateBatch]) -> list[GroupRows]:
    """The rows behind negatives, those of each micro-batch that has any."""
    return [entry.negative for update in updates for entry in update.micro_batches if entry.negative is not None]


def costs_of(policy: Policy) -> Costs:
    """The costs of a policy, from its weights and its configuration."""
    model, visual = policy.base.model, policy.base.model.visual
    text, vision = model.language_model.config, visual.config
    decoder, tower, merger = (
        [(name, weight) for name, weight in module.named_parameters() if weight.ndim > 1 and "lora_" not in name]
        for module in (model.language_model.layers, visual, visual)
    )
    tower = [(name, weight) for name, weight in tower if "merger" not in name and "pos_embed" not in name]
    merger = [(name, weight) for name, weight in merger if "merger" in name]
    width = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    size, full = getattr(vision, "window_size", None), getattr(vision, "fullatt_block_indexes", None)
    full_layers = vision.depth if full is None else len(full)
    head = policy.base.lm_head.weight
    return Costs(
        decoder=_count(decoder),
        head=head.numel(),
        pair=4 * width * text.num_hidden_layers,
        tower=_count(tower),
        merger=_count(merger) / vision.spatial_merge_size**2,
        full=4 * vision.hidden_size * full_layers,
        windowed=4 * vision.hidden_size * (vision.depth - full_layers),
        window=(size // vision.patch_size) ** 2 if size else 0,
        decoder_trained=any(weight.requires_grad for _, weight in decoder),
        head_trained=head.requires_grad,
        tower_trained=any(weight.requires_grad for _, weight in tower),
        merger_trained=any(weight.requires_grad for _, weight in merger),
    )


def _count(named: Sequence[tuple[str, torch.Tensor]]) -> int:
    return sum(weight.numel() for _, weight in named)


def peak_of(device: torch.device) -> float | None:
    """The dense bfloat16 peak of a known device in TFLOP/s."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Throughput(Callback):
    """Logs, at each batch that makes optimiser steps, how long it took and what was done in that time, over all ranks.

    `time/sample`, `time/score` and `time/sync` are seconds of making the rollouts, refills included, `time/update`
    those of learning from them, each a mean over ranks. Where a judge is asked while other groups are still sampled,
    `time/score_hidden` are the seconds in which both went on, and `overlap` is their share of all seconds in which it
    was asked; `time/score` is then the wait that is left.

    `step_time` is everything since the step before but validation. `tokens/s` counts the tokens that were sampled and
    those that the updates computed, behind negatives too, a group's prompt once, and `num_tokens` adds them up over the
    run. `unique_mfu` is the FLOP of the updates and of what is read behind negatives (see `group_flops`; passes for old
    and reference log-probs take time and count as no work) over time/update and the bfloat16 peak of the devices,
    `peak_tflops` or that of a known device; without one it is left out. `memory/peak_gb` is the most that any rank's
    tensors took during the step, in GiB; on a CPU the most that its process ever took. Raises UserError for a peak that
    is not above 0.
    """

    def __init__(self, peak_tflops: float | None = None) -> None:
        if peak_tflops is not None and not peak_tflops > 0:
            raise UserError(f"peak_tflops must be above 0, got {peak_tflops}: leave it out where it is not known")
        self.peak_tflops = peak_tflops
        self.num_tokens = 0
        self._costs: Costs | None = None
        self._peak: float | None = None
        self._last_step = 0
        self._clock = self._began = 0.0
        self._step = self._update = self._rolled = 0.0
        self._sampled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        policy = getattr(pl_module, "trained_policy", None)
        self._costs = costs_of(policy) if isinstance(policy, Policy) else None
        self._peak = self.peak_tflops or peak_of(pl_module.device)
        self._last_step, self._step, self._update, self._rolled = trainer.global_step, 0.0, 0.0, 0.0
        self._clock = _now(pl_module.device)
        _take_peak(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # whether the callback that samples stands before this one in the list
        self._sampled = getattr(pl_module, "rollouts", None) is not None
        self._began = _now(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = _now(pl_module.device)
        rollouts: RolloutBatch | None = getattr(pl_module, "last_rollouts", None)
        if rollouts is None:
            return
        rolled = sum(rollouts.seconds.values())  # since the rollout batch was begun, perhaps some batches ago
        self._update += now - self._began - (0.0 if self._sampled else rolled - self._rolled)
        self._step, self._clock, self._rolled = self._step + now - self._clock, now, rolled
        steps = trainer.global_step - self._last_step
        if steps:
            self._log(pl_module, rollouts, steps)
            self._last_step, self._step, self._update, self._rolled = trainer.global_step, 0.0, 0.0, 0.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = _now(pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        return {"num_tokens": self.num_tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_tokens = state_dict["num_tokens"]

    def _log(self, pl_module: LightningModule, rollouts: RolloutBatch, steps: int) -> None:
        done = [update for _, update in zip(range(steps), cycle(rollouts.updates), strict=False)]
        through = getattr(pl_module, "negatives", None) == "full"
        behind = negatives_of(done if through else rollouts.updates)  # else read once, before the first step
        learned = sum(tokens_of(entry.rows) for update in done for entry in update.micro_batches)
        learned += sum(map(tokens_of, behind))
        flops = 0.0
        if self._costs is not None:
            flops = sum(update_flops(self._costs, update) for update in done)
            flops += sum(rows_flops(self._costs, rows, learned=through) for rows in behind)
        overlap = rollouts.overlap
        own = [learned, flops, self._step, _take_peak(pl_module.device), overlap.scoring, overlap.while_sampling]
        own += [self._update, *rollouts.seconds.values()]
        tokens, work, took, memory, scoring, hidden, *phases = zip(*of_all_ranks([own]), strict=True)
        count = int(rollouts.figures.get("rollouts/tokens", 0)) + sum(tokens)
        self.num_tokens += count
        figures = {
            f"time/{phase}": sum(seconds) / len(seconds)
            for phase, seconds in zip(("update", *rollouts.seconds), phases, strict=True)
        }
        if sum(hidden):
            figures["time/score_hidden"] = sum(hidden) / len(hidden)
            figures["overlap"] = sum(hidden) / sum(scoring)
        figures |= {"step_time": max(took), "num_tokens": float(self.num_tokens), "memory/peak_gb": max(memory)}
        if self._costs and self._peak:
            figures["unique_mfu"] = sum(work) / (sum(phases[0]) * self._peak * 1e12)
        pl_module.log_dict(figures)
        pl_module.log("tokens/s", count / max(took), prog_bar=True)


def _now(device: torch.device) -> float:
    """Seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _take_peak(device: torch.device) -> float:
    """GiB at the most since this was last asked of a GPU, or since the process began."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak / 2**30
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)
