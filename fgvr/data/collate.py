"""From examples to tensors: encoded one by one, in the worker, then packed into micro-batches of a token budget."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any, Protocol, get_args

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from fgvr.data.augment import Augment
from fgvr.data.images import open_image
from fgvr.data.tasks import Task
from fgvr.errors import SampleError, UserError
from fgvr.kernels.packing import balanced_rows, packed_so_far, token_budget_batches
from fgvr.types import (
    EncodedPrompt,
    Example,
    ImageInputs,
    PackedRows,
    Partner,
    PromptBatch,
    ReadRecord,
    Role,
    SFTBatch,
)


class Encoder(Protocol):
    """What a model's processor must offer to be fed."""

    image_token: int

    def encode_prompt(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> EncodedPrompt: ...

    def encode_target(self, reply: str) -> list[int]: ...

    @property
    def padding_token(self) -> int: ...


@dataclass(frozen=True)
class Sequenced:
    """One training sequence of L tokens: prompt then target; the last `targets` tokens are learned."""

    input_ids: Int[Tensor, " L"]
    positions: Int[Tensor, "4 L"]
    targets: int
    images: ImageInputs


@dataclass(frozen=True)
class SFTEncode:
    """An example as prompt and target, decoded late, in the worker. Raises SampleError for what cannot be used.

    A sequence longer than `max_tokens` is refused, never cut.
    """

    processor: Encoder
    task: Task
    max_tokens: int
    augment: Augment

    def __call__(self, example: Example, rng: random.Random) -> Sequenced:
        example = self.task.prepare(example, rng)
        prompt = encode_prompt(self.processor, self.task, example, rng, self.augment)
        target = self.processor.encode_target(self.task.target(example, rng))
        length = len(prompt.input_ids) + len(target)
        if length > self.max_tokens:
            raise SampleError(
                f"a sequence must fit into max_tokens={self.max_tokens}, but {example.uid} has {length} tokens: "
                f"lower pixels.max or raise the limit"
            )
        after = int(prompt.positions.max()) + 1
        spatial = torch.cat([prompt.positions, torch.arange(after, after + len(target)).expand(3, -1)], dim=1)
        positions = torch.cat([torch.arange(length)[None], spatial])
        return Sequenced(torch.cat([prompt.input_ids, torch.tensor(target)]), positions, len(target), prompt.images)


def encode_prompt(
    processor: Encoder, task: Task, example: Example, rng: random.Random, augment: Augment | None = None
) -> EncodedPrompt:
    """The task's question about an example, with as many of its images as the question shows."""
    images = [open_image(data, example.uid) for data in task.images(example)]
    if augment is not None:
        images = [augment(image, rng) for image in images]
    return processor.encode_prompt(task.messages(example, rng), images)


@dataclass(frozen=True)
class SFTCollate:
    """Sequences into micro-batches of at most `micro_batch_tokens`, each of rows of about `row_tokens` tokens.

    Padding counts, for it is computed too. Where the attention needs none (`padded` False) there is none, and a
    micro-batch is one row. Raises UserError unless both numbers are positive.
    """

    padding_token: int
    micro_batch_tokens: int
    row_tokens: int
    padded: bool = True

    def __post_init__(self) -> None:
        if self.micro_batch_tokens < 1 or self.row_tokens < 1:
            raise UserError(
                f"micro_batch_tokens and row_tokens must be at least 1, got {self.micro_batch_tokens} and "
                f"{self.row_tokens}"
            )

    def __call__(self, items: list[Sequenced], record: ReadRecord) -> SFTBatch:
        lengths = [len(item.input_ids) for item in items]
        micro_batches: list[PackedRows] = []
        computed = partial(packed_so_far, row_tokens=self.row_tokens) if self.padded else accumulate
        for chosen in token_budget_batches(lengths, self.micro_batch_tokens, computed):
            rows = balanced_rows([lengths[i] for i in chosen], self.row_tokens) if self.padded else [range(len(chosen))]
            micro_batches.append(pack([items[i] for i in chosen], rows, self.padding_token))
        return SFTBatch(micro_batches, sum(item.targets for item in items), len(items), record)


def pack(items: Sequence[Sequenced], rows: Sequence[Sequence[int]], padding_token: int) -> PackedRows:
    """Sequences side by side in rows, given as indices into `items`; one a row is ordinary padding, the reference."""
    width = max(sum(len(items[i].input_ids) for i in row) for row in rows)
    input_ids = torch.full((len(rows), width), padding_token)
    segments = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(4, len(rows), width, dtype=torch.long)
    index: list[Tensor] = []
    for r, row in enumerate(rows):
        at = 0
        for segment, i in enumerate(row, start=1):
            item, end = items[i], at + len(items[i].input_ids)
            input_ids[r, at:end], segments[r, at:end], positions[:, r, at:end] = item.input_ids, segment, item.positions
            index.append(torch.arange(r * width + end - item.targets - 1, r * width + end - 1))
            at = end
        positions[:, r, at:] = torch.arange(width - at)  # padding is a sequence of its own, which nothing looks at
    order = [items[i] for row in rows for i in row]
    target_index = torch.cat(index)
    sequence = torch.repeat_interleave(torch.arange(len(order)), torch.tensor([item.targets for item in order]))
    target_ids = input_ids.flatten()[target_index + 1]
    return PackedRows(
        input_ids,
        segments,
        positions,
        target_index,
        target_ids,
        sequence,
        _join_shared([item.images for item in order]),
    )


def _join_shared(images: Sequence[ImageInputs]) -> ImageInputs:
    """As `fgvr.kernels.group_packing.join_images`, straight into shared memory in a worker."""
    return ImageInputs(joined([i.patches for i in images]), torch.cat([i.grid_thw for i in images]))


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """torch.cat along the first axis; in a worker straight into shared memory, which saves sending a copy of it."""
    if get_worker_info() is None:
        return torch.cat(list(tensors))
    rows, first = sum(len(tensor) for tensor in tensors), tensors[0]
    storage = torch.UntypedStorage._new_shared(sum(tensor.numel() for tensor in tensors) * first.element_size())
    out = torch.empty(0, dtype=first.dtype).set_(storage, 0, (rows, *first.shape[1:]))  # pyright: ignore
    return torch.cat(list(tensors), out=out)


@dataclass(frozen=True)
class PromptEncode:
    """An example as a question only, with the example kept beside it. Raises SampleError for what cannot be used.

    A prompt longer than `max_tokens` is refused, never cut: image tokens without their features mean nothing.
    """

    processor: Encoder
    task: Task
    max_tokens: int | None = None

    def __call__(self, example: Example, rng: random.Random) -> tuple[Example, EncodedPrompt]:
        example = self.task.prepare(example, rng)
        return example, self.asked(example, rng)

    def asked(self, example: Example, rng: random.Random) -> EncodedPrompt:
        """The question about an example that `Task.prepare` has seen."""
        prompt = encode_prompt(self.processor, self.task, example, rng)
        if self.max_tokens is not None and len(prompt.input_ids) > self.max_tokens:
            raise SampleError(
                f"a prompt must fit into max_prompt_tokens={self.max_tokens}, but that of {example.uid} has "
                f"{len(prompt.input_ids)} tokens: lower pixels.max or raise it"
            )
        return prompt


@dataclass(frozen=True)
class TripletEncode:
    """The same question about an example's photo and about those of its partners, each with a grid of its own.

    An example without a partner has no prompt of that role. What the task draws is drawn once. Raises SampleError, with
    the uid of the photo that is to blame, as `PromptEncode` does.
    """

    processor: Encoder
    task: Task
    max_tokens: int | None = None

    def __call__(self, example: Example, rng: random.Random) -> tuple[Example, dict[Role, EncodedPrompt]]:
        encode = PromptEncode(self.processor, self.task, self.max_tokens)
        example = self.task.prepare(example, rng)
        drawn = rng.getstate()
        prompts: dict[Role, EncodedPrompt] = {"anchor": encode.asked(example, rng)}
        for role, partner in partners_of(example).items():
            again = random.Random()
            again.setstate(drawn)
            prompts[role] = encode.asked(replace(example, uid=partner.uid, images=partner.images), again)
        return example, prompts


def partners_of(example: Example) -> dict[Role, Partner]:
    """The partners that an example has, the positive first."""
    partners: dict[Role, Partner | None] = {"positive": example.positive, "negative": example.negative}
    return {role: partner for role, partner in partners.items() if partner is not None}


@dataclass(frozen=True)
class PromptCollate:
    """Prompts padded on the left, so that every completion starts in the same column.

    An item has the prompt about its example's photo, or one for each role. Raises ValueError unless there is one item
    for each sample of the record that was not quarantined.
    """

    padding_token: int
    image_token: int

    def __call__(
        self, items: Sequence[tuple[Example, EncodedPrompt | dict[Role, EncodedPrompt]]], record: ReadRecord
    ) -> PromptBatch:
        examples = [example for example, _ in items]
        by_role = [{"anchor": asked} if isinstance(asked, EncodedPrompt) else asked for _, asked in items]
        rows = [(owner, role, own[role]) for role in get_args(Role) for owner, own in enumerate(by_role) if role in own]
        prompts = [prompt for _, _, prompt in rows]
        width = max((len(prompt.input_ids) for prompt in prompts), default=0)
        input_ids = torch.full((len(rows), width), self.padding_token)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        positions = torch.zeros(3, len(rows), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            start = width - len(prompt.input_ids)
            input_ids[row, start:], attention_mask[row, start:] = prompt.input_ids, 1
            positions[:, row, start:] = prompt.positions
        images = (
            _join_shared([prompt.images for prompt in prompts])
            if prompts
            else ImageInputs(torch.zeros(0, 0, dtype=torch.uint8), torch.zeros(0, 3, dtype=torch.long))
        )
        return PromptBatch(
            examples,
            input_ids,
            attention_mask,
            (input_ids == self.image_token).long(),
            positions,
            images,
            tuple(len(prompt.images.grid_thw) for prompt in prompts),
            places_of(examples, record),
            record,
            tuple(owner for owner, _, _ in rows),
            tuple(role for _, role, _ in rows),
        )


def without_negatives(batch: PromptBatch) -> PromptBatch:
    """The rows that are answered; the negatives' stand behind them."""
    rows = sum(role != "negative" for role in batch.roles)
    grids = batch.images.grid_thw[: sum(batch.image_counts[:rows])]
    patches = batch.images.patches[: int(grids.prod(-1).sum())]
    tensors = {name: getattr(batch, name)[:rows] for name in ("input_ids", "attention_mask", "image_tokens")}
    tuples = {name: getattr(batch, name)[:rows] for name in ("image_counts", "owners", "roles")}
    return replace(batch, positions=batch.positions[:, :rows], images=ImageInputs(patches, grids), **tensors, **tuples)


def places_of(examples: Sequence[Example], record: ReadRecord) -> tuple[int, ...]:
    """Where in the epoch's order each example stands; those of the record that are not among them are quarantined.

    Raises ValueError when the record tells of other examples. Of a sample drawn twice and quarantined once, the first
    place counts.
    """
    waiting = deque(example.uid for example in examples)
    places: list[int] = []
    for place, uid in zip(record.positions, record.uids, strict=True):
        if waiting and waiting[0] == uid:
            waiting.popleft()
            places.append(place)
    if waiting or len(places) + len(record.quarantined) != len(record.positions):
        raise ValueError(
            f"a batch must hold every example of its record that is not quarantined, got {len(examples)} examples for "
            f"{len(record.positions)} positions less {len(record.quarantined)}, {len(waiting)} of them unknown to it"
        )
    return tuple(places)
