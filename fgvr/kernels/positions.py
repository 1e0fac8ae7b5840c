"""M-RoPE positions (time, height, width) of a text with images in it (Qwen2-VL, arXiv 2409.12191, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def mrope_positions(
    input_ids: Int[Tensor, " T"], image_token: int, grids: Sequence[tuple[int, int, int]], merge: int
) -> Int[Tensor, "3 T"]:
    """Text counts up on all three axes; an image spans its grid from where the text stopped; text goes on at max + 1.

    `grids` are (time, height, width) in patches, `merge` patches by `merge` make one token. Raises ValueError when
    the run of image tokens does not match the grids: a truncated prompt or a stray placeholder.
    """
    pieces: list[Tensor] = []
    start, at = 0, 0
    for t, h, w in grids:
        rows, columns = h // merge, w // merge
        found = (input_ids[at:] == image_token).nonzero()
        first = at + int(found[0]) if len(found) else len(input_ids)
        count = t * rows * columns
        if first + count > len(input_ids) or not bool((input_ids[first : first + count] == image_token).all()):
            raise ValueError(
                f"an image of {count} tokens must have as many placeholders in the prompt, from token {first} on"
            )
        pieces.append(torch.arange(start, start + first - at).expand(3, -1))
        start += first - at
        axes = torch.meshgrid(torch.arange(t), torch.arange(rows), torch.arange(columns), indexing="ij")
        pieces.append(torch.stack([axis.reshape(-1) for axis in axes]) + start)
        start += max(rows, columns)
        at = first + count
    if bool((input_ids[at:] == image_token).any()):
        raise ValueError(
            f"the prompt holds image placeholders after its {len(grids)} images: every placeholder needs an image"
        )
    pieces.append(torch.arange(start, start + len(input_ids) - at).expand(3, -1))
    return torch.cat(pieces, dim=1)
