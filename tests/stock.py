"""What transformers says by itself: the slow twin of all that reads a prompt or writes after it."""

from __future__ import annotations

import torch

from fgvr.models import Policy
from fgvr.types import EncodedPrompt


@torch.no_grad()
def stock_logprobs(policy: Policy, asked: EncodedPrompt, ids: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Of a completion's tokens, by transformers' own forward over prompt and completion."""
    row = torch.cat([asked.input_ids, ids])
    logits = policy.base(
        input_ids=row[None],
        mm_token_type_ids=(row[None] == policy.processor.image_token).int(),
        pixel_values=policy.processor.pixel_values(asked.images),
        image_grid_thw=asked.images.grid_thw,
    ).logits[0, len(asked.input_ids) - 1 : -1]
    logits[:, policy.processor.vision_token_ids] = -torch.inf
    return (logits / temperature).log_softmax(-1).gather(1, ids[:, None])[:, 0]
