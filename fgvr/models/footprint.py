"""What a training holds in memory, part by part, reckoned from the model's config: nothing is loaded for it.

Weights, gradients and AdamW's means are counted, as are the decoder's copy and its cache; what layers keep between
their forward and backward passes is traced on the meta device (`fgvr.models.layer_traces`). Sizes are bytes of one
rank. Not in them: the driver's own memory, and what an allocator holds in pieces too small to use, a tenth as a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fgvr.kernels.prefix_attention import SplitPrefix
from fgvr.models.anatomy import Anatomy, count, count_trained, products
from fgvr.models.layer_traces import Pass, most_of_forward, trace

MEANS = 8  # bytes of AdamW's two means of a weight
TILE_ROWS, TILE_TOKENS, TILE_COPIES = 1024, 16_384, 3.5  # of the chunked head, in float32
SCORES = 4  # tensors of a decoding step that are as large as its scores


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
    the log-probs take beside the layers' `activations`. `first` are both of an update's first micro-batch, in which
    there are no gradients yet. Of a sampling `decoder` is its copy of the weights, `cache` keys and values, `whole` the
    weights gathered for it, `reading` and `scores` what is needed for a moment, to read the prompts and to write a
    token. `host` is what lies there instead.
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


def footprint(
    model: Anatomy, updates: Sequence[Rows], written: Sequence[Written], spread: Spread, kl: bool
) -> Footprint:
    """Of a training whose step has these micro-batches and writes these completions; `kl` is a term to a frozen copy.

    The step has no gradients in its first micro-batch, and all of them in the later ones.
    """
    means, gradients = model.trained * MEANS // spread.shards, model.trained * 4 // spread.shards
    weights = _weights(model, spread, model.frozen_linear)
    every_linear = sum(count(products(unit)) * times for unit, times in model.units)
    reference = 0
    if kl:  # a frozen copy; beside adapters of no more than what is trained in full
        adapted = model.policy.lora is not None
        reference = 4 * model.trained_in_full // spread.shards if adapted else _weights(model, spread, every_linear)
    found = {rows: _update(model, rows, spread) for rows in dict.fromkeys(updates)}
    passes = [found[rows] for rows in updates]
    later = max(passes[1:], key=sum, default=(0, 0))
    sampled = [_sampling(model, one, spread) for one in written]
    decoder, cache, reading, scores = max(sampled, key=lambda parts: sum(parts[:2]) + max(parts[2:]), default=(0,) * 4)
    staying = weights + means + gradients + reference
    on_device = not spread.offload
    return Footprint(
        weights=weights * on_device,
        optimizer=means * on_device,
        reference=reference * on_device,
        gradients=gradients * on_device,
        casts=2 * model.cast_when_trained if spread.half and spread.shards == 1 else 0,
        gathered=_gathered(model, spread),
        activations=later[0],
        head=later[1],
        first=sum(passes[0]),
        decoder=decoder,
        cache=cache,
        reading=reading,
        scores=scores,
        whole=_in_units(model, spread) + 4 * model.root[0] if spread.shards > 1 and written else 0,
        host=0 if on_device else staying,
    )


def _weights(model: Anatomy, spread: Spread, halved: int) -> int:
    """A rank's part of all weights, of which a sharded model keeps `halved` in half precision."""
    return (4 * model.weights - (2 * halved if spread.half and spread.shards > 1 else 0)) // spread.shards


def _in_units(model: Anatomy, spread: Spread) -> int:
    return (2 if spread.half else 4) * (model.weights - model.root[0])


def _gathered(model: Anatomy, spread: Spread) -> int:
    """The root and as many units as are whole at a time, with gradients: one unit's, and the root's to the end."""
    if spread.shards == 1:
        return 0
    compute, (root, root_trained) = 2 if spread.half else 4, model.root
    unit, trained = count(model.largest.parameters()), count_trained(model.largest)
    return 4 * (root + root_trained) + compute * (1 + spread.prefetch) * unit + (compute + 4) * trained


def _update(model: Anatomy, rows: Rows, spread: Spread) -> tuple[int, int]:
    """What a micro-batch's layers keep and need, and beyond that its head."""
    kept, over = _layers(model, rows, spread)
    kept += _tower(model, rows, spread)
    head = _head(model, rows, spread)
    return kept + max(over, 0), max(head - over, 0)


def _layers(model: Anatomy, rows: Rows, spread: Spread) -> tuple[int, int]:
    """Bytes that all language layers keep, and what one of them needs besides at its busiest moment."""
    language = model.base.model.language_model
    hidden = torch.empty(rows.rows, rows.width, model.head.shape[1], device="meta")
    passes: list[tuple[Pass, int]] = model.once(
        ("layers", rows, _half(spread), spread.gpu),
        lambda: [(_layer(language, layer, hidden, rows, spread), times) for layer, times in model.layers],
    )
    return _kept(passes, model, spread, hidden.nbytes)


def _layer(language: Any, layer: Any, hidden: Tensor, rows: Rows, spread: Spread) -> Pass:
    return trace(layer, _through(language, layer, hidden, rows), [hidden], _half(spread), spread.gpu and rows.masked)


def _through(language: Any, layer: Any, hidden: Tensor, rows: Rows) -> Callable[[Tensor], Tensor]:
    """What passes hidden states through a language layer, with these rows' attention."""
    positions = torch.zeros(3, *hidden.shape[:2], dtype=torch.long, device="meta")
    turns = language.rotary_emb(hidden, positions)
    plan, mask = None, None
    if rows.group:
        plan = SplitPrefix(_segments(rows))
    elif rows.masked:
        mask = torch.empty(rows.rows, 1, rows.width, rows.width, dtype=torch.bool, device="meta")
    return lambda x: layer(x, position_embeddings=turns, attention_mask=mask, plan=plan)


def _tower(model: Anatomy, rows: Rows, spread: Spread) -> int:
    """Bytes that tower and projector keep for their backward pass; nothing where no part of them is trained."""
    if not rows.images or not model.tower_trained:
        return 0
    patches = torch.empty(rows.patches, model.tower.config.hidden_size, device="meta")
    first = any(x.requires_grad for part in (model.tower.patch_embed, model.tower.blocks) for x in part.parameters())
    asked, merger = (rows.patches, _half(spread)), model.tower.merger
    merging = model.once(("merger", *asked), lambda: trace(merger, merger, [patches], _half(spread)).kept)
    if not first:
        return merging * rows.images
    passes: list[tuple[Pass, int]] = model.once(
        ("blocks", *asked), lambda: [(_block(model, block, patches, spread), times) for block, times in model.blocks]
    )
    kept, over = _kept(passes, model, spread, patches.nbytes)
    return (kept + merging + (max(over, 0) if model.policy.gradient_checkpointing else 0)) * rows.images


def _block(model: Anatomy, block: Any, patches: Tensor, spread: Spread) -> Pass:
    return trace(block, _through_block(model, block, patches), [patches], _half(spread))


def _through_block(model: Anatomy, block: Any, patches: Tensor) -> Callable[[Tensor], Tensor]:
    """What passes the patches of one image through a block of the tower: others take as much again."""
    width = model.tower.config.hidden_size // model.tower.config.num_heads
    turns, bounds = torch.empty(len(patches), width, device="meta"), torch.tensor([0, len(patches)])
    return lambda x: block(x, cu_seqlens=bounds, position_embeddings=(turns, turns))


def _kept(passes: Sequence[tuple[Pass, int]], model: Anatomy, spread: Spread, given: int) -> tuple[int, int]:
    """Of a stack of layers: bytes kept from forward to backward, and the most that one of them needs besides."""
    if model.policy.gradient_checkpointing:  # only what each layer is given; one at a time computes again
        return given * (1 + sum(times for _, times in passes)), max(one.most - given for one, _ in passes)
    casts = spread.shards == 1  # weights that are gathered in half precision need no copies
    kept = given + sum((one.kept + one.cast * casts) * times for one, times in passes)
    return kept, max(one.most - one.kept - one.cast for one, _ in passes)


def _head(model: Anatomy, rows: Rows, spread: Spread) -> int:
    """Hidden states of the targets with their gradients, the head's gradient, and tiles of logits."""
    vocabulary, width = model.head.shape
    half = 2 if spread.half and spread.gpu else 0
    states = rows.targets * width * (8 + half) + rows.rows * rows.width * width * 8
    own = 4 * model.head.numel() if model.head.requires_grad else 0
    tile = min(rows.targets, TILE_ROWS) * min(vocabulary, TILE_TOKENS) * 4 * TILE_COPIES
    return states + own + int(tile) + min(vocabulary, TILE_TOKENS) * width * (half or 4)


def _sampling(model: Anatomy, written: Written, spread: Spread) -> tuple[int, int, int, int]:
    """The decoder's copy of the weights, keys and values, and what reading prompts and writing a token need."""
    text: Any = model.base.model.language_model.config
    layers, vocabulary, copy = text.num_hidden_layers, len(model.head), 2 if spread.half else 4
    rows, heads = written.prompts * written.group, text.num_attention_heads
    # on a CPU operands are float32 whatever the precision; there products that are not joined need no copy
    operand = 2 if spread.half and spread.gpu else 4
    copied = spread.half or model.policy.lora is not None  # merged or rounded
    joined = model.linear if copied else _joined(model)
    decoder = copy * joined + (operand * model.head.numel() if operand == 2 else 0)
    pair = 2 * text.num_key_value_heads * _head_width(text) * operand * layers
    cache = pair * (written.prompts * written.tokens + rows * written.longest)
    scores = rows * (SCORES * 4 * vocabulary + 3 * 4 * heads * (written.tokens + written.longest))
    prompts = Rows(written.prompts, written.tokens, 0, masked=False)
    hidden = torch.empty(written.prompts, written.tokens, model.head.shape[1], device="meta")
    language = model.base.model.language_model
    reading = model.once(
        ("reading", prompts, _half(spread)),
        lambda: max(
            most_of_forward(_through(language, layer, hidden, prompts), [hidden], _half(spread))
            for layer, _ in model.layers
        ),
    )
    return decoder, cache, max(reading + 2 * hidden.nbytes, _seeing(model, written, spread)), scores


def _seeing(model: Anatomy, written: Written, spread: Spread) -> int:
    """What the tower needs at its busiest moment, of the images of all prompts."""
    if not written.patches:
        return 0
    patches = torch.empty(written.patches, model.tower.config.hidden_size, device="meta")
    most = model.once(
        ("seeing", written.patches, _half(spread)),
        lambda: max(
            most_of_forward(_through_block(model, block, patches), [patches], _half(spread))
            for block, _ in model.blocks
        ),
    )
    return (most + 2 * patches.nbytes) * written.prompts


def _joined(model: Anatomy) -> int:
    """Weights of the products that the decoder makes of several: queries with keys and values, gates with the rest."""
    parts = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    return sum(
        times * sum(count([_weight(x)]) for name, x in layer.named_modules() if name.endswith(parts))
        for layer, times in model.layers
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


def _half(spread: Spread) -> torch.dtype | None:
    return torch.bfloat16 if spread.half else None
