"""Micro-batches that teach nothing, for a process that has fewer of them than another and must keep in step with it."""

from __future__ import annotations

import torch

from fgvr.data.collate import Sequenced, pack
from fgvr.kernels.group_packing import pack_groups
from fgvr.models import Policy
from fgvr.models.blank import blank_prompt
from fgvr.types import GroupRows, ImageFeatures, PackedRows


def idle_rows(policy: Policy) -> PackedRows:
    """One target behind a prompt of one grey image: every weight takes part, as in any other micro-batch."""
    prompt, target = blank_prompt(policy.processor), _target(policy)
    spatial = torch.cat([prompt.positions, prompt.positions.max() + torch.ones(3, len(target), dtype=torch.long)], 1)
    ids = torch.cat([prompt.input_ids, target])
    sequence = Sequenced(ids, torch.cat([torch.arange(len(ids))[None], spatial]), len(target), prompt.images)
    return pack([sequence], [[0]], policy.processor.padding_token)


def idle_groups(policy: Policy, carry: bool) -> GroupRows:
    """The same as a group of one completion; `carry` puts features in the image's place, as others carry theirs."""
    prompt = blank_prompt(policy.processor)
    features = _blank_features(policy) if carry else None
    return pack_groups([prompt], [[_target(policy)]], [features], policy.processor.padding_token)


def _blank_features(policy: Policy) -> ImageFeatures:
    """In the shape of what the tower makes of an image of one token."""
    config = policy.base.config
    levels = len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
    shape = (1, config.text_config.hidden_size)
    return ImageFeatures(torch.zeros(shape), torch.zeros(levels, *shape) if levels else None)


def _target(policy: Policy) -> torch.Tensor:
    return torch.tensor([policy.processor.end_of_turn])
