"""Groups laid out so that what their completions share is there once.

Shape legend: R rows (groups), T row length, P prompt tokens, C tokens of one completion, N target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from fgvr.kernels.packing import without_padding
from fgvr.types import EncodedPrompt, GroupRows, ImageFeatures, ImageInputs


def pack_groups(
    prompts: Sequence[EncodedPrompt],
    completions: Sequence[Sequence[Int[Tensor, " _"]]],
    features: Sequence[ImageFeatures | None],
    padding_token: int,
) -> GroupRows:
    """One row per group, [prompt | completion 1 | ... | completion G], each completion's positions after the prompt's.

    `features` go along when every prompt has them, else the images do. Raises ValueError for a group without
    completions and for an empty completion, which has nothing to learn from.
    """
    lengths = [[len(ids) for ids in group] for group in completions]
    if not lengths or not all(group and min(group) > 0 for group in lengths):
        raise ValueError(f"every group must have completions of at least one token, got lengths {lengths}")
    width = max(len(p.input_ids) + sum(group) for p, group in zip(prompts, lengths, strict=True))
    input_ids = torch.full((len(prompts), width), padding_token)
    segments = torch.full((len(prompts), width), -1)
    positions = torch.zeros(3, len(prompts), width, dtype=torch.long)
    index: list[Tensor] = []
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        at, after = len(prompt.input_ids), int(prompt.positions.max()) + 1
        input_ids[row, :at], segments[row, :at], positions[:, row, :at] = prompt.input_ids, 0, prompt.positions
        last = row * width + at - 1
        for number, ids in enumerate(group, start=1):
            end = at + len(ids)
            input_ids[row, at:end], segments[row, at:end] = ids, number
            positions[:, row, at:end] = torch.arange(after, after + len(ids))
            index += [torch.tensor([last]), torch.arange(row * width + at, row * width + end - 1)]
            at = end
    counts = torch.tensor([count for group in lengths for count in group])
    whole = all(feature is not None for feature in features)
    return GroupRows(
        input_ids,
        segments,
        positions,
        target_index=torch.cat(index),
        target_ids=torch.cat([ids for group in completions for ids in group]),
        target_sequence=torch.repeat_interleave(torch.arange(len(counts)), counts),
        images=None if whole else join_images([prompt.images for prompt in prompts]),
        features=join_features([feature for feature in features if feature is not None]) if whole else None,
    )


def one_row_per_completion(
    prompts: Sequence[EncodedPrompt], completions: Sequence[Sequence[Int[Tensor, " _"]]], padding_token: int
) -> GroupRows:
    """The same targets with a copy of the prompt and its images for each completion: the slow twin."""
    copies = [prompt for prompt, group in zip(prompts, completions, strict=True) for _ in group]
    alone = [[ids] for group in completions for ids in group]
    return pack_groups(copies, alone, [None] * len(copies), padding_token)


def groups_in_one_row(rows: GroupRows) -> GroupRows:
    """The same groups, one after the other in a single row without padding: each begins where segment 0 comes back."""
    return without_padding(rows, rows.segments >= 0)


def join_images(images: Sequence[ImageInputs]) -> ImageInputs:
    """Patches of several prompts, one after the other in the prompts' order."""
    return ImageInputs(torch.cat([i.patches for i in images]), torch.cat([i.grid_thw for i in images]))


def join_features(features: Sequence[ImageFeatures]) -> ImageFeatures:
    """Features of several prompts, one after the other in the prompts' order."""
    levels = [feature.deepstack for feature in features if feature.deepstack is not None]
    return ImageFeatures(torch.cat([f.tokens for f in features]), torch.cat(levels, 1) if levels else None)


def split_features(features: ImageFeatures, counts: Sequence[int]) -> list[ImageFeatures]:
    """Features of several prompts, each with its own `counts` image tokens."""
    tokens = features.tokens.split(list(counts))
    if features.deepstack is None:
        return [ImageFeatures(part, None) for part in tokens]
    levels = features.deepstack.split(list(counts), 1)
    return [replace(features, tokens=part, deepstack=level) for part, level in zip(tokens, levels, strict=True)]


def common_prefix(prompt: EncodedPrompt, other: EncodedPrompt) -> int:
    """How many tokens the two begin with in common, ids and positions; at least one of the `other` is left over."""
    upto = min(len(prompt.input_ids), len(other.input_ids) - 1)
    ids = prompt.input_ids[:upto] == other.input_ids[:upto]
    positions = (prompt.positions[:, :upto] == other.positions[:, :upto]).all(0)
    return int((ids & positions).int().cumprod(0).sum())
