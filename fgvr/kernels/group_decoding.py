"""Decoding a group's completions side by side over one copy of their prompt's keys and values.

Shape legend: B prompts, P longest prompt, S completions of a prompt that are still being written, H heads, K key heads,
D width of a head, L longest completion.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from fgvr.kernels.attention import AttentionPlan, as_autocast, masked_attention


class GroupCache(AttentionPlan):
    """First takes whole prompts, padded on the right; then one token of every completion at a time.

    A completion's query meets the prompt's keys and its own in one softmax. `lengths` are the prompts' tokens. The rows
    of a decoding step are [B * S], prompt by prompt.
    """

    def __init__(self, lengths: Int[Tensor, " B"], group: int, longest: int) -> None:
        self.lengths, self.group, self.longest = lengths, group, longest
        self.step = -1  # the token being written; -1 while prompts are read
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}  # layer to keys, values [B K P D]
        self.own: dict[int, tuple[Tensor, Tensor]] = {}  # layer to keys, values [B K S L D]
        padding = torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]
        self.unseen = padding[:, None] if bool(padding.any()) else None  # [B 1 P]; None where nothing is padded

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = as_autocast(query, key, value)
        if self.step < 0:
            self.prompts[layer] = key, value
            return masked_attention(query, key, value, None, scale)  # padding stands behind, where nobody looks
        return self._decode(layer, query, key, value, scale)

    def next_step(self) -> None:
        """Called before each token."""
        self.step += 1

    def keep(self, prompts: Int[Tensor, " b"], slots: Int[Tensor, "b s"]) -> None:
        """Goes on with these prompts and, of each, these completions only."""
        self.group = slots.shape[1]
        self.lengths = self.lengths[prompts]
        self.unseen = None if self.unseen is None else self.unseen[prompts]
        self.prompts = {layer: (k[prompts], v[prompts]) for layer, (k, v) in self.prompts.items()}
        at = prompts[:, None]
        # advanced indexing puts [b, s] first: bring the key heads back between them
        self.own = {
            layer: (k[at, :, slots].transpose(1, 2).contiguous(), v[at, :, slots].transpose(1, 2).contiguous())
            for layer, (k, v) in self.own.items()
        }

    def _decode(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        prompt_keys, prompt_values = self.prompts[layer]
        batch, heads, read, width = prompt_keys.shape
        if layer not in self.own:
            shape = (batch, heads, self.group, self.longest, width)
            self.own[layer] = key.new_empty(shape), value.new_empty(shape)
        keys, values = self.own[layer]
        keys[:, :, :, self.step] = key.view(batch, self.group, heads, width).transpose(1, 2)
        values[:, :, :, self.step] = value.view(batch, self.group, heads, width).transpose(1, 2)
        written = self.step + 1
        keys, values = keys[:, :, :, :written], values[:, :, :, :written]  # [B K S L D]
        asking = (query * scale).view(batch, self.group, heads, -1, width).transpose(1, 2)  # [B K S H/K D]
        to_prompt = asking.flatten(2, 3) @ prompt_keys.transpose(-1, -2)  # [B K S*H/K P]
        if self.unseen is not None:
            to_prompt = to_prompt.masked_fill(self.unseen[:, None], -torch.inf)
        to_own = (asking @ keys.transpose(-1, -2)).flatten(2, 3)
        weights = torch.cat([to_prompt, to_own], -1).softmax(-1)
        answer = weights[..., :read] @ prompt_values
        own = weights[..., read:].unflatten(2, (self.group, -1)) @ values  # [B K S H/K D]
        answer = answer.view_as(own) + own
        return answer.transpose(1, 2).reshape(query.shape)
