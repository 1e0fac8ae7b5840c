"""Runs of which there is no more than a checkpoint, for others to begin from."""

from __future__ import annotations

from pathlib import Path

import torch

from fgvr.checkpoints.format import write_checkpoint
from fgvr.models import PixelBudget, Policy
from fgvr.models.saved import policy_card

PIXELS = PixelBudget(28 * 28, 84 * 84)


def noisy(policy: Policy, seed: int = 1) -> Policy:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy.eval()


def save(policy: Policy, run: Path, step: int = 3) -> Path:
    """As a run saves it: what the backbone can give again is left out."""
    state = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    if policy.config.backbone.reloadable:
        kept = {f"policy.{name}" for name, _ in policy.trainable()}
        state = {name: value for name, value in state.items() if name in kept}
    path = run / "checkpoints" / f"step-{step:08d}.ckpt"
    write_checkpoint({"state_dict": state, "fgvr_policy": policy_card(policy, 64), "global_step": step}, path)
    return path
