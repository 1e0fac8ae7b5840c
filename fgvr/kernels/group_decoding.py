"""Decoding a group's completions side by side over one copy of their prompt's keys and values.

As in Hydragen (arXiv 2402.05099) the queries of all completions meet the shared keys in one product of matrices.

Shape legend: B prompts, P longest prompt, S completions of a prompt that are still being written, K key heads, Q heads
that each of them serves, D width of a head, L longest completion, W of its places that are read, N rows that go on
behind prompts, T tokens of the longest of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from fgvr.kernels.attention import AttentionPlan, as_autocast, masked_attention


class PromptCache(AttentionPlan):
    """Reads whole prompts, padded on the right, and keeps every layer's keys and values for those who go on.

    `lengths` are the prompts' tokens. The two values that a rotary embedding turns together (RoFormer, arXiv
    2104.09864, section 3.2) stand side by side in the keys that are kept.
    """

    def __init__(self, lengths: Int[Tensor, " B"]) -> None:
        self.lengths = lengths
        self.layers: list[tuple[Tensor, Tensor]] = []  # keys, values [B K P D], contiguous

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = as_autocast(query, key, value)
        self.layers.append((_operand(in_pairs(key)), _operand(value).contiguous()))
        return masked_attention(query, key, value, None, scale)  # padding stands behind, where nobody looks


class ContinuedCache(PromptCache):
    """Reads what stands behind the beginnings of prompts that were read before, and keeps keys and values of both.

    Row n begins with the first `shared[n]` tokens of prompt `of[n]` of `before` and goes on with `own[n]` tokens, which
    are what is read, padded on the right.
    """

    def __init__(self, before: PromptCache, of: Sequence[int], shared: Sequence[int], own: Sequence[int]) -> None:
        device = before.lengths.device
        self.before, self.of = before, torch.tensor(of, device=device)
        self.shared, self.longest_shared = torch.tensor(shared, device=device), max(shared)
        super().__init__(self.shared + torch.tensor(own, device=device))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = as_autocast(query, key, value)
        places = self.shared[:, None] + torch.arange(query.shape[2], device=query.device)  # [N T], of what is read
        keys, values = (
            self._joined(kept, _operand(read), places)
            for kept, read in zip(self.before.layers[layer], (in_pairs(key), value), strict=True)
        )
        self.layers.append((keys, values))
        seen = torch.arange(keys.shape[2], device=query.device) <= places[:, None, :, None]  # [N 1 T P]
        return masked_attention(_operand(in_pairs(query)), keys, values, seen, scale).to(query.dtype)

    def _joined(
        self, kept: Float[Tensor, "B K P D"], read: Float[Tensor, "N K T D"], places: Int[Tensor, "N T"]
    ) -> Float[Tensor, "N K _ D"]:
        rows, heads, count, width = read.shape
        joined = read.new_zeros(rows, heads, self.longest_shared + count, width)
        joined[:, :, : self.longest_shared] = kept[self.of, :, : self.longest_shared]
        return joined.scatter_(2, places[:, None, :, None].expand(read.shape), read)


class GroupCache:
    """The keys and values that completions meet: their prompt's, which is there once, and their own.

    Everything is allocated here, and what a step does depends on no value: own keys are written at a step that the
    device knows, and the places not yet written are masked. `group` completions of at most `longest` tokens are
    written after each prompt.
    """

    def __init__(self, prompts: PromptCache, group: int, longest: int) -> None:
        self.prompts = prompts.layers  # of each layer keys, values [B K P D]
        keys = self.prompts[0][0]
        batch, heads, read, width = keys.shape
        shape = (2, batch, heads, group, longest, width)
        self.own = [keys.new_zeros(shape) for _ in self.prompts]  # keys and values; zeros, as masked ones are read too
        places = torch.arange(read, device=keys.device)
        padding = places >= prompts.lengths[:, None, None]  # [B 1 P]
        self.unseen = _barred(padding, keys.dtype).repeat_interleave(heads, 0)  # [B*K 1 P]
        steps = torch.arange(longest, device=keys.device)
        self.unwritten = _barred(steps > steps[:, None], keys.dtype)[:, None]  # [L 1 L], of each step
        self.dtype, self.reach = keys.dtype, longest

    def read_up_to(self, reach: int) -> None:
        """Of the completions' own places only the first `reach` are read from now on: the others are not written."""
        self.reach = min(reach, self.unwritten.shape[-1])

    def masked_at(self, step: Int[Tensor, " 1"]) -> Float[Tensor, "1 1 W"]:
        """What is added to the scores of the completions' own places while the token of this step is read."""
        return self.unwritten.index_select(0, step)[..., : self.reach]

    def write(self, layer: int, step: Int[Tensor, " 1"], added: Float[Tensor, "B S 2 K D"]) -> None:
        """Keys and values of the tokens being read."""
        self.own[layer].index_copy_(4, step, added.permute(2, 0, 3, 1, 4)[:, :, :, :, None])

    def attend(
        self, layer: int, query: Float[Tensor, "B K S Q D"], unwritten: Float[Tensor, "1 1 W"], scale: float
    ) -> Float[Tensor, "B K S Q D"]:
        """One softmax over the prompt and a completion's own tokens; scores and answers are float32."""
        query = query.contiguous()
        times, width = query.shape[3:]
        keys, values = (x.flatten(0, 1) for x in self.prompts[layer])  # [B*K P D]
        own_keys, own_values = (x.flatten(0, 2)[:, : self.reach] for x in self.own[layer])  # [B*K*S W D]
        together, alone = query.flatten(0, 1).flatten(1, 2), query.flatten(0, 2)
        to_prompt = product(together, keys.transpose(1, 2), self.unseen, scale)  # [B*K S*Q P]
        to_own = product(alone, own_keys.transpose(1, 2), unwritten, scale).view(*to_prompt.shape[:2], -1)
        weights = torch.cat([to_prompt, to_own], -1).softmax(-1).to(values.dtype)
        read = keys.shape[1]
        answer = product(weights[..., :read], values).view(-1, times, width)
        answer = product(weights[..., read:].reshape(len(alone), times, -1), own_values, answer)
        return answer.view(query.shape)

    def keep(self, prompts: Int[Tensor, " b"], slots: Int[Tensor, "b s"]) -> None:
        """Goes on with these prompts and, of each, these completions only; layer by layer, so that memory is freed."""
        heads = self.prompts[0][0].shape[1]
        self.unseen = self.unseen.unflatten(0, (-1, heads))[prompts].flatten(0, 1)
        at = prompts[:, None]
        for layer, (keys, values) in enumerate(self.prompts):
            self.prompts[layer] = keys[prompts], values[prompts]
            # advanced indexing puts [b, s] first: bring the others back to their places
            self.own[layer] = self.own[layer][:, at, :, slots].permute(2, 0, 3, 1, 4, 5).contiguous()


def in_pairs(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """The two values that a rotary embedding turns together, side by side; they come half a width apart."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def turn_(x: Float[Tensor, "... D"], turns: Complex[Tensor, "*_"]) -> None:
    """The rotary embedding of values in pairs, in place: each pair is a complex number, and is turned by a product."""
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(turns)


def of_length_one(
    x: Float[Tensor, "*_ D"], floor: Float[Tensor, ""], dtype: torch.dtype | None = None
) -> Float[Tensor, "*_ D"]:
    """x over its length: an RMS norm without the factor sqrt(D) and the gain, which whoever reads it takes in.

    RMS norm is that of arXiv 1910.07467. `floor` is sqrt(D * eps), so that a vector of zeros stays one; in its
    precision the length is measured. The result is rounded to `dtype`.
    """
    lengths = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=floor.dtype), floor)
    return torch.div(x, lengths, out=torch.empty_like(x, dtype=dtype or x.dtype))


def product(
    left: Float[Tensor, "N A D"],
    right: Float[Tensor, "N D E"],
    more: Float[Tensor, "*_"] | None = None,
    scale: float = 1.0,
) -> Float[Tensor, "N A E"]:
    """more + scale * left @ right; of half precision too it is float32, rounded nowhere on the way.

    An attention score of 300 would else be rounded by 1, and its probability be off by a factor.
    """
    if left.dtype in (torch.bfloat16, torch.float16):
        if more is None:
            return torch.bmm(left, right, out_dtype=torch.float32)
        return torch.baddbmm(more, left, right, alpha=scale, out_dtype=torch.float32)
    return torch.bmm(left, right) if more is None else torch.baddbmm(more, left, right, alpha=scale)


def _operand(x: Tensor) -> Tensor:
    """What a product in float32 is made of: on a CPU, which has none of half precision, the same values in float32."""
    return x.float() if x.device.type == "cpu" and x.dtype != torch.float64 else x


def _barred(places: Tensor, dtype: torch.dtype) -> Tensor:
    score = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.zeros(places.shape, dtype=score, device=places.device).masked_fill_(places, -torch.inf)
