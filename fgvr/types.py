"""The nouns that travel between the layers. Imports nothing of fgvr.

Shape legend: R rows, T row length in tokens, N target tokens, I images, S patches of all images, K values per patch,
P prompt tokens, G completions of one prompt, C tokens of one completion, F image tokens, L levels, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, Literal, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

B = TypeVar("B", bound="TensorBatch")
Role = Literal["anchor", "positive", "negative"]  # a photo's: the example's own, one of its class, one of a like class
PLACE = "<image>"  # where in a question of its own an example's photo stands


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
class Partner:
    """Another sample's photos that stand beside an example's: encoded images, and whose they are."""

    images: tuple[bytes, ...]
    uid: str
    label: str


@dataclass(frozen=True)
class Example:
    """One labelled sample as it is stored in a shard: encoded images, label and its path in the taxonomy.

    `images[0]` is the photo itself, further views follow. `path` runs from the coarsest rank to the label, `cohort` is
    the label's side of the class split ("seen" | "unseen", "base" | "novel"); all three are empty where nobody labelled
    it. `extra` holds per-task fields (response, options). In a triplet (Fine-R1, section 4.2) it is the anchor.
    """

    uid: str
    images: tuple[bytes, ...]
    label: str
    path: tuple[str, ...]
    split: str
    cohort: str
    dataset: str
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    positive: Partner | None = None
    negative: Partner | None = None


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

    `patches` are grey values 0 to 255 of a still frame; the device makes of them the eightfold that the model reads.
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
    """Prompts to be answered, left-padded, with the E examples they were made from.

    `image_tokens` marks the places that the vision tower fills. `attention_mask` is 0 on padding. `positions` are
    M-RoPE's (time, height, width), 0 on padding. `image_counts` says how many of the images belong to each prompt, and
    `places` where in the epoch's order each example stands (`record` names those that were quarantined besides).
    The first E rows are the examples' own; further ones ask the same about their positives, then their negatives:
    `owners` has each row's example, `roles` whose photo it shows. Left out, there are no further ones.
    """

    examples: list[Example]
    input_ids: Int[Tensor, "B T"]
    attention_mask: Int[Tensor, "B T"]
    image_tokens: Int[Tensor, "B T"]
    positions: Int[Tensor, "3 B T"]
    images: ImageInputs
    image_counts: tuple[int, ...]
    places: tuple[int, ...]
    record: ReadRecord
    owners: tuple[int, ...] = ()
    roles: tuple[Role, ...] = ()

    def __post_init__(self) -> None:
        if not self.roles:
            for name, rows in (("owners", range(len(self.examples))), ("roles", ["anchor"] * len(self.examples))):
                object.__setattr__(self, name, tuple(rows))

    def rows_of(self, number: int) -> dict[Role, int]:
        """The rows of one example, the anchor's first."""
        return {self.roles[row]: row for row, owner in enumerate(self.owners) if owner == number}

    def prompt(self, row: int) -> EncodedPrompt:
        """One prompt without its padding, with the patches of its own images. Raises IndexError for a row not there."""
        if not 0 <= row < len(self.roles):
            raise IndexError(f"a batch of {len(self.roles)} prompts has no row {row}")
        kept = self.attention_mask[row].bool()
        first = sum(self.image_counts[:row])
        grids, last = self.images.grid_thw, first + self.image_counts[row]
        start, end = int(grids[:first].prod(-1).sum()), int(grids[:last].prod(-1).sum())
        images = ImageInputs(self.images.patches[start:end], grids[first:last])
        return EncodedPrompt(self.input_ids[row, kept], self.positions[:, row, kept], images)


@dataclass(frozen=True)
class ImageFeatures(TensorBatch):
    """What the vision tower made of images: one row per image token, and the deeper levels that Qwen3-VL adds."""

    tokens: Float[Tensor, "F D"]
    deepstack: Float[Tensor, "L F D"] | None


@dataclass(frozen=True)
class Completion:
    """One sampled reply: its ids, the end token included where one was reached, and their log-probs (nats) as sampled.

    `truncated` says that the length limit ended it. `text` is for people and parsers; it is never encoded again.
    """

    ids: Int[Tensor, " C"]
    logprobs: Float[Tensor, " C"]
    truncated: bool
    text: str


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt, and what a frozen vision tower made of its images; None when the tower is trained."""

    prompt: EncodedPrompt
    features: ImageFeatures | None = None


@dataclass(frozen=True)
class RolloutGroup:
    """The G completions about one example. `place` is the example's position in the epoch's order.

    `features` are those of a frozen vision tower, carried from sampling to the update; None when the tower is trained.
    The last `from_positive` completions were sampled from the prompt of the `positive`, the others from `prompt`.
    """

    example: Example
    place: int
    prompt: EncodedPrompt
    completions: list[Completion]
    features: ImageFeatures | None = None
    positive: ReadPrompt | None = None
    negative: ReadPrompt | None = None
    from_positive: int = 0

    def role_of(self, number: int) -> Role:
        """Which photo a completion, counted from 0, was sampled from."""
        return "positive" if number >= len(self.completions) - self.from_positive else "anchor"


@dataclass(frozen=True)
class ScoredGroup:
    """A group with what its completions said and were worth. NaN stands for a reward that could not be had.

    `answers` are None where the reply broke the grammar, as are a judge's `verdicts`. `advantages` are those of the
    rewards within the group, 0 where the reward is missing, and what rewards add to them without comparing.
    """

    rollout: RolloutGroup
    answers: list[Answer | None]
    components: dict[str, Float[Tensor, " G"]]
    rewards: Float[Tensor, " G"]
    advantages: Float[Tensor, " G"]
    verdicts: tuple[Verdict | None, ...] = ()


@dataclass(frozen=True)
class GroupRows(TensorBatch):
    """Prompts with their completions, one to a row: [prompt | completion 1 | ... | completion G | padding].

    `segments` is 0 on the prompt, g on the g-th completion, -1 on padding. A completion sees the prompt and itself; its
    `positions` (time, height, width) start where the prompt's end. Target n is `target_ids[n]`, predicted by the hidden
    state at `target_index[n]` (row-major over [R, T]), the prompt's last for every completion's first token;
    `target_sequence` numbers the completions of the micro-batch. `features` take the place of `images` when present.
    """

    input_ids: Int[Tensor, "R T"]
    segments: Int[Tensor, "R T"]
    positions: Int[Tensor, "3 R T"]
    target_index: Int[Tensor, " N"]
    target_ids: Int[Tensor, " N"]
    target_sequence: Int[Tensor, " N"]
    images: ImageInputs | None
    features: ImageFeatures | None


@dataclass(frozen=True)
class RolloutRows(TensorBatch):
    """One micro-batch of an update: rows, and per target its advantage and its weight in the global loss.

    `sampled_logprobs` are the engine's, NaN for a completion sampled from another prompt; nothing is learned from them.
    `old_logprobs` are those of the policy before the first of several updates; None when there is only one, where they
    are the current ones, detached. `ref_logprobs` are the reference policy's, None without a KL term. `negative` has
    the targets that `compared` marks behind their groups' negatives, with `negative_logprobs` before the first update.
    """

    rows: GroupRows
    advantages: Float[Tensor, " N"]
    weights: Float[Tensor, " N"]
    sampled_logprobs: Float[Tensor, " N"]
    old_logprobs: Float[Tensor, " N"] | None = None
    ref_logprobs: Float[Tensor, " N"] | None = None
    negative: GroupRows | None = None
    compared: Bool[Tensor, " N"] | None = None
    negative_logprobs: Float[Tensor, " _"] | None = None


@dataclass(frozen=True)
class UpdateBatch(TensorBatch):
    """This rank's share of one optimiser step, in micro-batches that hold whole groups."""

    micro_batches: list[RolloutRows]


@dataclass(frozen=True)
class Overlap:
    """Seconds in which rewards were being asked, and how many of these passed while groups were still sampled."""

    scoring: float = 0.0
    while_sampling: float = 0.0


@dataclass(frozen=True)
class RolloutBatch:
    """What one call of the collector gives: the groups that are learned from, cut into updates, and the figures.

    `figures` are sums and means over all ranks under the names that are logged. `seconds` are this rank's, by phase, in
    turn; `overlap` says how much of the scoring was hidden behind the sampling. `sampled` are all groups just sampled.
    """

    groups: list[ScoredGroup]
    updates: list[UpdateBatch]
    figures: dict[str, float]
    seconds: dict[str, float]
    overlap: Overlap = Overlap()
    sampled: list[ScoredGroup] = field(default_factory=list[ScoredGroup])
