"""Every attention over whole groups against the dense one in float32: log-probs, entropies and gradients of a policy.

Run by check.sh, which says where the other benchmarks are.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import torch
from figures import Figures
from grpo_turns import TASK, example
from jsonargparse import auto_cli
from torch import Tensor

from fgvr.data.collate import PromptEncode
from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.prefix_attention import Backend
from fgvr.models import PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.types import GroupRows

LENGTHS = ((64, 17, 40, 64), (5, 128, 1, 90), (33,))  # of completions, group by group
PIXELS = PixelBudget(28 * 28, 224 * 224)


def tiny_policy(device: torch.device) -> Policy:
    backbone = TinyQwen(["."], hidden=256, layers=3, heads=4, tokens=1)  # heads of 64, two of them for keys
    return Policy(PolicyConfig(backbone, PIXELS), backbone.processor(PIXELS)).to(device)


def groups(policy: Policy) -> GroupRows:
    """Prompts of one picture each, with completions of random ids."""
    generator = torch.Generator().manual_seed(0)
    words = torch.tensor([i for i in range(260) if i not in policy.processor.vision_token_ids])
    encode = PromptEncode(policy.processor, TASK)
    prompts = [encode(example(n, 224 - 56 * n), random.Random(0))[1] for n in range(len(LENGTHS))]
    drawn = [[words[torch.randint(len(words), (n,), generator=generator)] for n in group] for group in LENGTHS]
    return pack_groups(prompts, drawn, [None] * len(prompts), policy.processor.padding_token)


def learned(policy: Policy, rows: GroupRows, backend: Backend, half: bool) -> list[Tensor]:
    """Log-probs, entropies, and all gradients in one, in float32 weights under bfloat16 arithmetic or without it."""
    policy.zero_grad()
    policy.prefix_backend = backend
    with torch.autocast(rows.input_ids.device.type, torch.bfloat16) if half else nullcontext():
        logp, entropy = policy.completion_logprobs(rows)
    upstream = torch.linspace(-1, 1, len(logp), device=logp.device)
    ((logp * upstream).sum() + 0.3 * (entropy * upstream).sum()).backward()
    gradients = torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])
    return [logp.detach(), entropy.detach(), gradients]


def compare(figures: Path, device: str = "cuda") -> None:
    """Writes how far each attention is off: at the most, and of the gradients by their norm."""
    found = Figures(figures, "attention")
    policy = tiny_policy(torch.device(device))
    rows = groups(policy).to(torch.device(device))
    logp, entropy, gradient = learned(policy, rows, "dense", half=False)
    backends: tuple[Backend, ...] = ("dense", "split", "flex", "varlen") if device == "cuda" else ("dense", "split")
    for half in (False, True):
        for backend in backends:
            if backend == "varlen" and not half:
                continue  # its kernels compute in half precision only
            what = f"{backend}, {'bfloat16' if half else 'float32'}"
            try:
                ours = learned(policy, rows, backend, half)
            except Exception as error:  # one that fails must not hide the others
                found.add(what, f"FAILED, {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
                continue
            off = (ours[2] - gradient).norm() / gradient.norm()
            found.add(
                what,
                f"log-probs within {(ours[0] - logp).abs().max():.1e}, entropies within "
                f"{(ours[1] - entropy).abs().max():.1e}, gradient off by {off:.1e}",
            )


if __name__ == "__main__":
    auto_cli(compare)
