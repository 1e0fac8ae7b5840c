"""A picture of nothing, for passes that are run only because other processes run theirs."""

from __future__ import annotations

import torch

from fgvr.kernels.positions import mrope_positions
from fgvr.models.processor import Processor
from fgvr.types import EncodedPrompt, ImageInputs


def blank_prompt(processor: Processor) -> EncodedPrompt:
    """A grey image of one token, between two tokens of text."""
    edge, patch = processor.merge, int(processor.image_processor.patch_size)
    grid = (1, edge, edge)
    images = ImageInputs(torch.full((edge**2, 3 * patch**2), 128, dtype=torch.uint8), torch.tensor([grid]))
    ids = torch.tensor([processor.end_of_turn, processor.image_token, processor.end_of_turn])
    return EncodedPrompt(ids, mrope_positions(ids, processor.image_token, (grid,), edge), images)
