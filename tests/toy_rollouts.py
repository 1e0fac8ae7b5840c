"""Scored groups without a model: what the words were worth is what the test says."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import torch
from PIL import Image

from fgvr.types import Answer, Completion, EncodedPrompt, Example, ImageInputs, RolloutGroup, ScoredGroup


def scored_group(
    texts: Sequence[str],
    rewards: Sequence[float],
    uid: str = "u0",
    place: int = 0,
    cut: Sequence[int] = (),
    prompt_tokens: int = 5,
    colour: str = "#123456",
) -> ScoredGroup:
    """A group about one plain photo; a text between answer tags is parsed, and a completion has a token per letter."""
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    example = Example(uid, (data.getvalue(),), "Robin", ("Robin",), "train", "seen", "birds")
    images = ImageInputs(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 3, dtype=torch.long))
    ids = torch.arange(prompt_tokens)
    completions = [
        Completion(torch.arange(len(text)), torch.zeros(len(text)), n in cut, text) for n, text in enumerate(texts)
    ]
    values = torch.tensor(rewards)
    present = [reward for reward in rewards if not math.isnan(reward)]
    advantages = torch.nan_to_num(values - sum(present) / max(1, len(present)))
    return ScoredGroup(
        RolloutGroup(example, place, EncodedPrompt(ids, ids.expand(3, -1), images), completions),
        [Answer(text[8:-9]) if text.startswith("<answer>") else None for text in texts],
        {"exact": values, "format": torch.tensor([float(text.startswith("<answer>")) for text in texts])},
        values,
        advantages,
    )
