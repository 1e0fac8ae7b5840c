"""What may take the place of a layer's own attention, and varlen attention under all of it.

Shape legend: R rows, T row length, H heads, K key heads (each serves H / K heads: grouped queries, arXiv 2305.13245), D
width of a head, N query tokens, M key tokens; `bounds` has one entry more than there are sequences.
"""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Varlen = Literal["flash", "torch", "loop"]


class AttentionPlan(ABC):
    """Who sees whom in one forward pass of the language model; made once, used by every layer."""

    @abstractmethod
    def attend(
        self,
        layer: int,
        query: Float[Tensor, "R H T D"],
        key: Float[Tensor, "R K T D"],
        value: Float[Tensor, "R K T D"],
        scale: float,
    ) -> Float[Tensor, "R H T D"]:
        """The attention of one layer; rotary embeddings are already applied."""


@dataclass(frozen=True)
class Spans:
    """Queries and keys of several sequences, one after the other: sequence s is rows bounds[s] to bounds[s + 1]."""

    queries: Int[Tensor, " bounds"]
    keys: Int[Tensor, " bounds"]
    longest_query: int
    longest_key: int


def spans_of(queries: list[int], keys: list[int], device: torch.device) -> Spans:
    """Spans from the sequences' lengths."""
    starts = [
        torch.tensor([0, *lengths], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
        for lengths in (queries, keys)
    ]
    return Spans(starts[0], starts[1], max(queries, default=0), max(keys, default=0))


def varlen_attention(
    query: Float[Tensor, "N H D"],
    key: Float[Tensor, "M K D"],
    value: Float[Tensor, "M K D"],
    spans: Spans,
    scale: float,
    how: Varlen,
) -> Float[Tensor, "N H D"]:
    """Causal attention within each sequence, whose last query stands beside its last key.

    "flash" is flash-attn (FlashAttention-2, arXiv 2307.08691), "torch" torch's own kernel (both on a GPU, in half
    precision), "loop" the slow twin of both.
    """
    if how == "loop":
        return _loop(query, key, value, spans, scale)
    query, key, value = as_autocast(query, key, value)
    lengths = (spans.queries, spans.keys, spans.longest_query, spans.longest_key)
    if how == "flash":
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        exact = torch.are_deterministic_algorithms_enabled()  # torch's own kernel asks by itself
        return flash_attn_varlen_func(
            query, key, value, *lengths, softmax_scale=scale, causal=True, deterministic=exact
        )
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.11 takes fewer key heads than query heads unasked, and knows no such option
    grouped: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    out = varlen_attn(query, key, value, *lengths, scale=scale, window_size=(-1, 0), **grouped)
    assert isinstance(out, Tensor)
    return out


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's precision where it is on: rotary embeddings have widened queries and keys."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


def fastest_varlen() -> Varlen:
    """flash-attn where it can be used, else torch's own kernel."""
    return "torch" if flash_attn_lacks() else "flash"


@cache
def flash_attn_lacks() -> str:
    """Why flash-attn cannot be used; empty where it can."""
    try:
        importlib.import_module("flash_attn")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "flash_attn":
            return "flash-attn is not installed"
        return f"flash-attn cannot be loaded ({str(error).splitlines()[0]})"  # compiled against another torch, say
    return ""


def _loop(query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float) -> Tensor:
    pieces: list[Tensor] = []
    bounds = zip(pairwise(spans.queries.tolist()), pairwise(spans.keys.tolist()), strict=True)
    for (q0, q1), (k0, k1) in bounds:
        q, k, v = (x.transpose(0, 1) for x in (query[q0:q1], key[k0:k1], value[k0:k1]))
        lower = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool, device=query.device).tril(k1 - k0 - (q1 - q0))
        pieces.append(masked_attention(q[None], k[None], v[None], lower[None, None], scale)[0].transpose(0, 1))
    return torch.cat(pieces) if pieces else query


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """torch's attention over [R, heads, tokens, width]; without a mask it is causal."""
    times = query.shape[1] // key.shape[1]
    half = torch.is_autocast_enabled("cuda") or query.dtype in (torch.bfloat16, torch.float16)
    if times > 1 and query.is_cuda and (mask is not None or not half):  # its fast kernels then want as many key heads
        key, value, times = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1), 1
    options = {"is_causal": mask is None, "scale": scale, "enable_gqa": times > 1}
    return F.scaled_dot_product_attention(query, key, value, mask, **options)


class PackedAttention(AttentionPlan):
    """Sequences side by side in rows, each seeing only itself; `segments` numbers them from 1, 0 is padding."""

    def __init__(self, segments: Int[Tensor, "R T"], how: Varlen) -> None:
        self.how: Varlen = how
        numbered = segments + torch.arange(len(segments), device=segments.device)[:, None] * (segments.max() + 1)
        lengths = torch.unique_consecutive(numbered, return_counts=True)[1].tolist()
        self.spans = spans_of(lengths, lengths, segments.device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
        out = varlen_attention(q, k, v, self.spans, scale, self.how)
        return out.unflatten(0, (len(query), -1)).transpose(1, 2)
