"""What a training holds in memory, part by part, reckoned from the model's config: nothing is loaded for it.

Weights, gradients and AdamW's means are counted, as are the decoder's copy and its cache; what layers keep between
their forward and backward passes is traced on the meta device (`fgvr.models.layer_traces`). Sizes are bytes of one
rank. Not in them: the driver's own memory, and what an allocator holds in pieces too small to use, a tenth as a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from fgvr.kernels.prefix_attention import SplitPrefix
from fgvr.models.attention import plan_attention
from fgvr.models.layer_traces import Pass, trace
from fgvr.models.outline import outline
from fgvr.models.policy import PolicyConfig

MEANS = 8  # bytes of AdamW's two means of a weight
TILE_ROWS, TILE_TOKENS, TILE_COPIES = 1024, 16_384, 3.5  # of the chunked head, in float32
SCORES = 4  # tensors of a decoding step that are as large as its scores
Kinds = list[tuple[nn.Module, int]]  # layers that are alike, one of them and how many there are


@dataclass(frozen=True)
class Rows:
    """A micro-batch: `rows` of `width` tokens each, padding included, of which `targets` in all are learned.

    Of groups a row is `prompt` tokens and `group` completions of equal length; packed rows have a group of 0. `images`
    of `patches` patches each pass the tower in it; none do where features are carried along. `masked` says that
    attention is computed under a mask.
    """

    rows: int
    width: int
    targets: int
    prompt: int = 0
    group: int = 0
    images: int = 0
    patches: int = 0
    masked: bool = True


@dataclass(frozen=True)
class Written:
    """What is written side by side: `group` completions of `longest` tokens after each of `prompts` prompts.

    A prompt has `tokens` tokens and images of `patches` patches.
    """

    prompts: int
    group: int
    tokens: int
    longest: int
    patches: int


@dataclass(frozen=True)
class Spread:
    """How a training lies on its ranks: `world` of them, and `shards` that hold one copy of the weights together.

    `offload` keeps weights, gradients and optimizer on the host. `prefetch` units are gathered ahead of the one that
    computes. `half` says that products are made in bfloat16, `gpu` where.
    """

    world: int = 1
    shards: int = 1
    offload: bool = False
    prefetch: int = 1
    half: bool = False
    gpu: bool = False


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank by part. `weights`, `optimizer` and `reference` stay; an update or a sampling comes on top.

    `casts` are weights in half precision, `gathered` the units that a sharded model has whole for a while, `head` what
    the log-probs take beside the layers' `activations`. `first` is an update's first micro-batch, in which there are no
    gradients yet. Of a sampling `decoder` is its copy of the weights, `cache` keys and values, `reading` and `scores`
    what is needed for a moment, to read the prompts and to write a token. `host` is what is held there instead.
    """

    weights: int
    optimizer: int
    reference: int
    gradients: int
    casts: int
    gathered: int
    activations: int
    head: int
    first: int
    decoder: int
    cache: int
    reading: int
    scores: int
    whole: int
    host: int

    @property
    def held(self) -> int:
        return self.weights + self.optimizer + self.reference

    @property
    def update(self) -> int:
        """The most at one moment of an update, all that stays included."""
        later = self.gradients + self.activations + self.head
        return self.held + self.casts + self.gathered + max(later, self.first)

    @property
    def sampling(self) -> int:
        """The most at one moment of sampling or validating, all that stays included."""
        return self.held + self.casts + self.whole + self.decoder + self.cache + max(self.reading, self.scores)

    @property
    def peak(self) -> int:
        return max(self.update, self.sampling)


@dataclass(frozen=True)
class Model:
    """The outline of what is trained, counted and traced; made once for whatever is asked about it."""

    config: PretrainedConfig
    policy: PolicyConfig

    @cached_property
    def base(self) -> Any:
        model = outline(self.config, self.policy.freeze, self.policy.lora)
        base = model if self.policy.lora is None else model.get_base_model()
        plan_attention(base.model.language_model)
        return base

    @cached_property
    def weights(self) -> int:
        return _numbers(self.base.parameters())

    @cached_property
    def trained(self) -> int:
        return _numbers(x for x in self.base.parameters() if x.requires_grad)

    @property
    def tower(self) -> Any:
        return self.base.model.visual

    @property
    def tower_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.tower.parameters())

    @cached_property
    def layers(self) -> Kinds:
        return _kinds(self.base.model.language_model.layers)

    @cached_property
    def blocks(self) -> Kinds:
        return _kinds(self.tower.blocks)

    @cached_property
    def largest_unit(self) -> int:
        return max(_numbers(unit.parameters()) for unit, _ in (*self.layers, *self.blocks))

    @cached_property
    def root(self) -> int:
        """Weights that are in no layer and no block: embeddings, head, norms, projector."""
        return self.weights - sum(_numbers(unit.parameters()) * count for unit, count in (*self.layers, *self.blocks))

    @cached_property
    def linear(self) -> int:
        """Weights of the language layers' products."""
        return sum(_numbers(_linear(unit)) * count for unit, count in self.layers)

    @cached_property
    def cast_when_trained(self) -> int:
        """Trained weights of products, of which autocast keeps a copy; the head casts its own in tiles."""
        units = (*self.layers, *self.blocks, *((part, 1) for part in self.tower.children() if part is not self._list))
        return sum(_numbers(x for x in _linear(unit) if x.requires_grad) * count for unit, count in units)

    @property
    def _list(self) -> nn.Module:
        return self.tower.blocks

    @property
    def head(self) -> Tensor:
        return self.base.lm_head.weight


def footprint(model: Model, updates: Sequence[Rows], written: Sequence[Written], spread: Spread, kl: bool) -> Footprint:
    """Of a training whose step has these micro-batches and writes these completions; `kl` is a term to a frozen copy."""
    sharded, compute = spread.shards > 1, 2 if spread.half else 4
    weights, means = model.weights * 4 // spread.shards, model.trained * MEANS // spread.shards
    gradients = model.trained * 4 // spread.shards
    reference = 4 * (model.weights // spread.shards) if kl and model.policy.lora is None else 0
    casts = 2 * model.cast_when_trained if spread.half and not sharded else 0
    units = model.root + (1 + spread.prefetch) * model.largest_unit
    reducing = (compute + 4) * model.largest_unit + compute * model.root if model.trained else 0
    passes = [_update(model, rows, spread) for rows in updates]
    sampled = [_sampling(model, one, spread) for one in written]
    decoder, cache, reading, scores = max(sampled, key=lambda parts: sum(parts[:2]) + max(parts[2:]), default=(0,) * 4)
    whole = compute * model.weights if sharded and written else 0
    host = weights + means + gradients if spread.offload else 0
    largest = max(passes[1:] or passes, key=sum)
    return Footprint(
        weights=0 if spread.offload else weights,
        optimizer=0 if spread.offload else means,
        reference=reference,
        gradients=0 if spread.offload else gradients,
        casts=casts,
        gathered=compute * units + reducing if sharded else 0,
        activations=largest[0],
        head=largest[1],
        first=sum(passes[0]),
        decoder=decoder,
        cache=cache,
        reading=reading,
        scores=scores,
        whole=whole,
        host=host,
    )


def _update(model: Model, rows: Rows, spread: Spread) -> tuple[int, int]:
    """What a micro-batch's layers keep and need, and beyond that its head."""
    kept, over = _layers(model, rows, spread)
    kept += _tower(model, rows, spread)
    head = _head(model, rows, spread)
    return kept + max(over, 0), max(head - over, 0)


def _layers(model: Model, rows: Rows, spread: Spread) -> tuple[int, int]:
    """Bytes that all language layers keep, and what one of them needs besides at its busiest moment."""
    language = model.base.model.language_model
    hidden = torch.empty(rows.rows, rows.width, model.head.shape[1], device="meta")
    passes = [(_layer(language, layer, hidden, rows, spread), count) for layer, count in model.layers]
    return _kept(passes, model.policy.gradient_checkpointing, hidden.nbytes)


def _layer(language: Any, layer: Any, hidden: Tensor, rows: Rows, spread: Spread) -> Pass:
    positions = torch.zeros(3, *hidden.shape[:2], dtype=torch.long, device="meta")
    turns = language.rotary_emb(hidden, positions)
    plan, mask = None, None
    if rows.group:
        plan = SplitPrefix(_segments(rows))
    elif rows.masked:
        mask = torch.empty(rows.rows, 1, rows.width, rows.width, dtype=torch.bool, device="meta")

    def run(x: Tensor) -> Tensor:
        return layer(x, position_embeddings=turns, attention_mask=mask, plan=plan)

    return trace(layer, run, [hidden], _half(spread), repeats_heads=spread.gpu and rows.masked)


def _tower(model: Model, rows: Rows, spread: Spread) -> int:
    """Bytes that tower and projector keep for their backward pass; nothing where no part of them is trained."""
    count = rows.images * rows.patches
    if not count or not model.tower_trained:
        return 0
    patches = torch.empty(count, model.tower.config.hidden_size, device="meta")
    first = any(x.requires_grad for part in (model.tower.patch_embed, model.tower.blocks) for x in part.parameters())
    merging = trace(model.tower.merger, model.tower.merger, [patches], _half(spread)).kept
    if not first:
        return merging
    passes = [(_block(model, block, patches, rows.images, spread), times) for block, times in model.blocks]
    kept, over = _kept(passes, model.policy.gradient_checkpointing, patches.nbytes)
    return kept + merging + (max(over, 0) if model.policy.gradient_checkpointing else 0)


def _block(model: Model, block: Any, patches: Tensor, images: int, spread: Spread) -> Pass:
    width = model.tower.config.hidden_size // model.tower.config.num_heads
    turns = torch.empty(len(patches), width, device="meta")
    bounds = torch.linspace(0, len(patches), images + 1).long()
    return trace(
        block, lambda x: block(x, cu_seqlens=bounds, position_embeddings=(turns, turns)), [patches], _half(spread)
    )


def _kept(passes: Sequence[tuple[Pass, int]], checkpointed: bool, given: int) -> tuple[int, int]:
    """Of a stack of layers: bytes kept from forward to backward, and the most that one of them needs besides."""
    if checkpointed:  # only what each layer is given; one at a time computes again
        return given * (1 + sum(count for _, count in passes)), max(one.most - given for one, _ in passes)
    kept = given + sum((one.kept + one.cast) * count for one, count in passes)
    return kept, max(one.most - one.kept - one.cast for one, _ in passes)


def _head(model: Model, rows: Rows, spread: Spread) -> int:
    """Hidden states of the targets with their gradients, the head's gradient, and tiles of logits."""
    vocabulary, width = model.head.shape
    half = 2 if spread.half and spread.gpu else 0
    states = rows.targets * width * (8 + half) + rows.rows * rows.width * width * 8
    own = 4 * model.head.numel() if model.head.requires_grad else 0
    tile = min(rows.targets, TILE_ROWS) * min(vocabulary, TILE_TOKENS) * 4 * TILE_COPIES
    return states + own + int(tile) + min(vocabulary, TILE_TOKENS) * width * (half or 4)


def _sampling(model: Model, written: Written, spread: Spread) -> tuple[int, int, int, int]:
    """The decoder's copy of the weights, keys and values, and what reading prompts and writing a token need."""
    text: Any = model.base.model.language_model.config
    layers, vocabulary, copy = text.num_hidden_layers, len(model.head), 2 if spread.half else 4
    rows, heads = written.prompts * written.group, text.num_attention_heads
    # on a CPU operands are float32 whatever the precision; there products that are not joined need no copy
    operand = 2 if spread.half and spread.gpu else 4
    joined = model.linear if spread.half else _joined(model)
    decoder = copy * joined + (operand * model.head.numel() if operand == 2 else 0)
    pair = 2 * text.num_key_value_heads * _head_width(text) * operand * layers
    cache = pair * (written.prompts * written.tokens + rows * written.longest)
    scores = rows * (SCORES * 4 * vocabulary + 3 * 4 * heads * (written.tokens + written.longest))
    prompts = Rows(written.prompts, written.tokens, 0, masked=False)
    hidden = torch.empty(written.prompts, written.tokens, model.head.shape[1], device="meta")
    language = model.base.model.language_model
    reading = max(_layer(language, layer, hidden, prompts, spread).forward for layer, _ in model.layers)
    return decoder, cache, max(reading + 2 * hidden.nbytes, _seeing(model, written, spread)), scores


def _seeing(model: Model, written: Written, spread: Spread) -> int:
    """What the tower needs at its busiest moment, of the images of all prompts."""
    count = written.prompts * written.patches
    if not count:
        return 0
    patches = torch.empty(count, model.tower.config.hidden_size, device="meta")
    passes = [_block(model, block, patches, written.prompts, spread) for block, _ in model.blocks]
    return max(one.forward for one in passes) + 2 * patches.nbytes


def _joined(model: Model) -> int:
    """Weights of the products that the decoder makes of several: queries with keys and values, gates with the rest."""
    parts = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    return sum(
        count * sum(_numbers([_weight(x)]) for name, x in layer.named_modules() if name.endswith(parts))
        for layer, count in model.layers
    )


def _weight(linear: Any) -> Tensor:
    return linear.get_base_layer().weight if hasattr(linear, "get_base_layer") else linear.weight


def _head_width(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _segments(rows: Rows) -> Tensor:
    """Groups of equal completions, as rows number them."""
    longest = (rows.width - rows.prompt) // rows.group
    numbers = torch.arange(1, rows.group + 1).repeat_interleave(longest)
    return torch.cat([torch.zeros(rows.prompt, dtype=torch.long), numbers]).expand(rows.rows, -1)


def _kinds(layers: Iterable[nn.Module]) -> Kinds:
    """One layer of each shape and tuning, with how many there are."""
    found: dict[tuple[Any, ...], nn.Module] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for layer in layers:
        kind = tuple((name, x.shape, x.requires_grad) for name, x in layer.named_parameters())
        found.setdefault(kind, layer)
        counts[kind] += 1
    return [(found[kind], count) for kind, count in counts.items()]


def _linear(module: nn.Module) -> list[nn.Parameter]:
    return [part.weight for part in module.modules() if isinstance(part, nn.Linear | nn.Conv3d)]


def _numbers(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _half(spread: Spread) -> torch.dtype | None:
    return torch.bfloat16 if spread.half else None


def checkpointed(model: Model) -> Model:
    """The same with gradient checkpointing."""
    return replace(model, policy=replace(model.policy, gradient_checkpointing=True))
