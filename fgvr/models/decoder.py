"""A policy's language model laid out for writing: one token of every completion at a time, in few operations.

Shape legend: M rows, B prompts, S completions of each (M = B * S), D width of the model, I of what lies between two of
its layers' products, H heads, K key heads, Q heads that each of these serves, E width of a head, F half of it, V
vocabulary, L longest completion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from fgvr.kernels.group_decoding import GroupCache, of_length_one, turn_
from fgvr.kernels.token_logprobs import head_dtype, product_in


@dataclass(frozen=True)
class Layer:
    """One layer's weights. Those that read a norm have taken in its gain, and those that read the same are one.

    `asking` makes queries, keys and values, with rotary pairs side by side; `gains` are those of the norms of queries
    and keys, where there are any.
    """

    asking: Float[Tensor, "D asked"]
    asking_bias: Float[Tensor, " asked"] | None
    gains: Float[Tensor, "turning E"] | None
    answering: Float[Tensor, "answered D"]
    answering_bias: Float[Tensor, " D"] | None
    opening: Float[Tensor, "D twoI"]  # the gate, then what it lets through
    closing: Float[Tensor, "I D"]


class Decoder:
    """What a transformers language model computes for the next token, from weights as they were when this was made.

    Adapters are merged in, and `suppression` is added to the scores of tokens. Under autocast the layers' products are
    made in its precision, from weights that are cast once, here; what is added up from layer to layer, norms, rotary
    embeddings and attention scores are float32, as in training. So are the scores of tokens, of a head in `head_dtype`.
    """

    def __init__(self, model: Any, suppression: Float[Tensor, " V"]) -> None:
        language, first = model.model.language_model, model.model.language_model.layers[0]
        self.embeddings: Tensor = language.embed_tokens.weight.detach()
        self.device, whole = self.embeddings.device, self.embeddings.dtype
        kind = self.device.type
        self.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else whole
        self.heads: int = language.config.num_attention_heads
        self.key_heads: int = language.config.num_key_value_heads
        self.width: int = first.self_attn.head_dim
        self.scale: float = first.self_attn.scaling
        self.activation: nn.Module = first.mlp.act_fn
        self.rotary: nn.Module = language.rotary_emb
        eps = first.input_layernorm.variance_epsilon
        self.floor, self.head_floor = (
            torch.tensor(math.sqrt(size * eps), dtype=whole, device=self.device)
            for size in (self.embeddings.shape[1], self.width)
        )
        multiplied_in = head_dtype(self.embeddings)
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            self.layers = [self._laid_out(layer) for layer in language.layers]
            self.gain = self._gain(language.norm)
            self.head = model.lm_head.weight.detach().to(multiplied_in).t()  # [D V]
            self.bias = suppression.to(torch.promote_types(whole, torch.float32))

    def turns(self, after: Int[Tensor, " B"], longest: int) -> Complex[Tensor, "L B 1 1 F"]:
        """The rotary embeddings of completions whose prompts end at these positions, the same on all three axes."""
        positions = after[:, None] + torch.arange(longest, device=after.device)
        cos, sin = self.rotary(self.embeddings, positions.expand(3, -1, -1))  # [B L E], one half like the other
        turns = torch.complex(cos[..., : self.width // 2].contiguous(), sin[..., : self.width // 2].contiguous())
        return turns.transpose(0, 1)[:, :, None, None].contiguous()

    def read(
        self,
        tokens: Int[Tensor, " M"],
        turns: Complex[Tensor, "B 1 1 F"],
        step: Int[Tensor, " 1"],
        cache: GroupCache,
    ) -> Float[Tensor, "M D"]:
        """One more token of each completion, at its `step`, and the hidden state that predicts the next."""
        hidden = self.embeddings.index_select(0, tokens)
        unwritten = cache.masked_at(step)
        for number, layer in enumerate(self.layers):
            asked = self._asked(layer, hidden, turns).to(cache.dtype)  # [B S H+2K E]
            cache.write(number, step, asked[:, :, self.heads :].unflatten(2, (2, -1)))
            query = asked[:, :, : self.heads].unflatten(2, (self.key_heads, -1)).transpose(1, 2)  # [B K S Q E]
            answer = cache.attend(number, query, unwritten, self.scale)
            _add(hidden, _rows(answer.transpose(1, 2), self.dtype), layer.answering, layer.answering_bias)
            opened = torch.mm(of_length_one(hidden, self.floor, self.dtype), layer.opening)
            gate, through = opened.chunk(2, -1)
            _add(hidden, self.activation(gate).mul_(through), layer.closing, None)
        return of_length_one(hidden, self.floor).mul_(self.gain)

    def scores(self, hidden: Float[Tensor, "M D"], temperature: float = 1.0) -> Float[Tensor, "M V"]:
        """Unnormalised log-probs of the next tokens, those that are suppressed at -inf."""
        hidden = hidden.to(self.head.dtype)
        if self.head.dtype == self.bias.dtype:
            return torch.addmm(self.bias, hidden, self.head, alpha=1 / temperature)
        return product_in(self.bias.dtype, hidden, self.head).mul_(1 / temperature).add_(self.bias)

    def _asked(self, layer: Layer, hidden: Tensor, turns: Tensor) -> Tensor:
        product = _product(of_length_one(hidden, self.floor, self.dtype), layer.asking, layer.asking_bias)
        asked = product.view(len(turns), -1, self.heads + 2 * self.key_heads, self.width)
        given = asked[:, :, : self.heads + self.key_heads]
        whole = given.dtype == hidden.dtype
        turning = given if whole else torch.empty_like(given, dtype=hidden.dtype)
        if layer.gains is not None:
            torch.mul(of_length_one(given, self.head_floor, hidden.dtype), layer.gains, out=turning)
        elif not whole:
            turning.copy_(given)
        turn_(turning, turns)
        if not whole:
            given.copy_(turning)
        return asked

    def _laid_out(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        (query, query_bias), (key, key_bias), (value, value_bias) = (
            self._merged(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        asking = torch.cat([self._paired(query), self._paired(key), value]).mul_(self._gain(layer.input_layernorm))
        opening = torch.cat([self._merged(mlp.gate_proj)[0], self._merged(mlp.up_proj)[0]])
        answering, answering_bias = self._merged(attention.o_proj)
        bias = None
        if query_bias is not None and key_bias is not None and value_bias is not None:
            bias = torch.cat([self._paired(query_bias), self._paired(key_bias), value_bias]).to(self.dtype)
        gains = None
        if hasattr(attention, "q_norm"):
            own = [self._paired(self._gain(norm)) for norm in (attention.q_norm, attention.k_norm)]
            gains = torch.cat([own[0].expand(self.heads, -1), own[1].expand(self.key_heads, -1)])
        return Layer(
            asking.to(self.dtype).t(),
            bias,
            gains,
            answering.to(self.dtype).t(),
            answering_bias,
            opening.mul_(self._gain(layer.post_attention_layernorm)).to(self.dtype).t(),
            self._merged(mlp.down_proj)[0].to(self.dtype).t(),
        )

    def _merged(self, linear: Any) -> tuple[Tensor, Tensor | None]:
        return merged(linear, self.embeddings.dtype)

    def _gain(self, norm: Any) -> Tensor:
        """What a vector of length one is multiplied with to be what the norm makes of it."""
        return norm.weight.detach().to(self.embeddings.dtype) * math.sqrt(norm.weight.numel())

    def _paired(self, rows: Tensor) -> Tensor:
        """Rows of queries or keys, the two that a rotary embedding turns together side by side."""
        return rows.unflatten(0, (-1, 2, self.width // 2)).transpose(1, 2).flatten(0, 2)


def merged(linear: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """A linear layer's weight and bias in `dtype`, with what its active adapters add to the weight."""
    if not isinstance(linear, LoraLayer):
        return linear.weight.detach().to(dtype), None if linear.bias is None else linear.bias.detach().to(dtype)
    adapted: Any = linear
    base = adapted.get_base_layer()
    weight = base.weight.detach().to(dtype)
    for name in [] if adapted.disable_adapters else adapted.active_adapters:
        if name in adapted.lora_variant:  # DoRA
            weight = adapted.lora_variant[name].merge_safe(adapted, name, weight)
        elif name in adapted.lora_A:
            weight = weight + adapted.get_delta_weight(name)
    return weight, None if base.bias is None else base.bias.detach().to(dtype)


def _product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(left, right) if bias is None else torch.addmm(bias, left, right)


def _add(hidden: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> None:
    """Adds a product to the hidden states, which may be more precise than it."""
    if hidden.dtype == left.dtype:
        hidden.addmm_(left, right)
    else:
        hidden.add_(torch.mm(left, right))
    if bias is not None:
        hidden.add_(bias)


def _rows(answer: Float[Tensor, "B S K Q E"], dtype: torch.dtype) -> Float[Tensor, "M _"]:
    return torch.empty(answer.shape, dtype=dtype, device=answer.device).copy_(answer).flatten(0, 1).flatten(1)
