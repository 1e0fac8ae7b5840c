"""The nouns that travel between the layers. Imports nothing of fgvr.

Shape legend: R rows, T row length in tokens, N target tokens, I images, S patches of all images, K values per patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

B = TypeVar("B", bound="TensorBatch")


class Verdict(IntEnum):
    """How an answer relates to the label, worst to best (SpeciaRL, section 3: W < A < G < S- < S < S+)."""

    WRONG = 0
    ABSTAIN = 1
    GENERIC = 2
    LESS_SPECIFIC = 3
    SPECIFIC = 4
    MORE_SPECIFIC = 5

    @property
    def correct(self) -> bool:
        """True for an answer that holds of the image, at whatever depth."""
        return self >= Verdict.GENERIC

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Answer:
    """A parsed completion: the text inside the answer tag, as written, and the reasoning before it (may be empty)."""

    text: str
    thought: str = ""


@dataclass(frozen=True)
class Example:
    """One labelled sample as it is stored in a shard: encoded images, label and its path in the taxonomy.

    `images[0]` is the photo itself; further images (a positive, a negative, more views) follow it.
    `path` runs from the coarsest rank to the label itself. `cohort` says on which side of the class split the label
    stands ("seen" | "unseen", "base" | "novel"). `extra` holds per-task fields (response, options). A photo that nobody
    has labelled has the empty label, path and cohort.
    """

    uid: str
    images: tuple[bytes, ...]
    label: str
    path: tuple[str, ...]
    split: str
    cohort: str
    dataset: str
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ReadRecord:
    """What one batch took from the stream: enough to prove, at the end of the epoch, that nothing was lost.

    `positions` are places in the epoch's order, `uids` the samples that stand there; `quarantined` names the samples
    that could not be used, with the reason. `step` counts batches within the epoch, from 0.
    """

    epoch: int
    step: int
    positions: tuple[int, ...]
    uids: tuple[str, ...]
    quarantined: tuple[tuple[str, str], ...] = ()


class TensorBatch:
    """A dataclass of tensors that moves to a device whole; lists of such dataclasses move too."""

    def to(self: B, device: torch.device | str, non_blocking: bool = False) -> B:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: B) -> B:
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: B, move: Callable[[Tensor], Tensor]) -> B:
        changes: dict[str, Any] = {}
        for entry in fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                changes[entry.name] = move(value)
            elif isinstance(value, TensorBatch):
                changes[entry.name] = value._map(move)
            elif isinstance(value, list):
                changes[entry.name] = [
                    item._map(move) if isinstance(item, TensorBatch) else item for item in cast(list[Any], value)
                ]
        return cast(B, replace(cast(Any, self), **changes))


@dataclass(frozen=True)
class ImageInputs(TensorBatch):
    """Resized images cut into patches, all images one after the other; `grid_thw` says which belong to which.

    `patches` are grey values 0 to 255 of a still frame, an eighth of what the model reads: that is worked out on its
    device.
    """

    patches: UInt8[Tensor, "S K"]
    grid_thw: Int[Tensor, "I 3"]


@dataclass(frozen=True)
class EncodedPrompt(TensorBatch):
    """One prompt of P tokens, its image placeholders expanded to the tokens that their patches will fill.

    `positions` are M-RoPE's (time, height, width).
    """

    input_ids: Int[Tensor, " P"]
    positions: Int[Tensor, "3 P"]
    images: ImageInputs


@dataclass(frozen=True)
class PackedRows(TensorBatch):
    """One micro-batch: several examples to a row, each attending only to itself, positions restarted for each.

    `segments` numbers the examples of a row from 1; 0 is padding. `positions` are (text, time, height, width);
    the text position counts tokens within the segment. A target token at flat index `target_index[n] + 1` is
    predicted by the hidden state at `target_index[n]` (row-major over [R, T]).
    """

    input_ids: Int[Tensor, "R T"]
    segments: Int[Tensor, "R T"]
    positions: Int[Tensor, "4 R T"]
    target_index: Int[Tensor, " N"]
    target_ids: Int[Tensor, " N"]
    target_sequence: Int[Tensor, " N"]
    images: ImageInputs | None


@dataclass(frozen=True)
class SFTBatch(TensorBatch):
    """This rank's share of one global batch, already cut into micro-batches that each fit the token budget."""

    micro_batches: list[PackedRows]
    target_tokens: int
    examples: int
    record: ReadRecord


@dataclass(frozen=True)
class PromptBatch(TensorBatch):
    """Prompts to be answered, left-padded, with the examples they were made from.

    `image_tokens` marks the places that the vision tower fills. `attention_mask` is 0 on padding.
    """

    examples: list[Example]
    input_ids: Int[Tensor, "B T"]
    attention_mask: Int[Tensor, "B T"]
    image_tokens: Int[Tensor, "B T"]
    images: ImageInputs
    record: ReadRecord
