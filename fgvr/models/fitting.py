"""Whether a training fits into a device's memory, from its settings, and which of them would make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from transformers import PretrainedConfig

from fgvr.models.adapters import LoRA
from fgvr.models.anatomy import Anatomy
from fgvr.models.footprint import Footprint, Rows, Spread, Written, footprint
from fgvr.models.policy import PolicyConfig

QUESTION = 100  # tokens of a prompt besides its image: the chat template and a question
GIB = 2**30
NODE = 8  # devices that a training is advised to use where one does not do


@dataclass(frozen=True)
class Training:
    """The settings that decide how much memory a training takes.

    `pixels` are those of the largest image. A micro-batch has at most `micro_batch_tokens` tokens, or one group that is
    larger; packed rows have about `row_tokens`. `group` completions of at most `new_tokens` tokens are learned from (0
    in supervised fine-tuning, where `new_tokens` is how long an answer is), `prompts` of one rank in an update,
    `max_rows` written at a time. `eval_rows` answers of `eval_tokens` are written in validation. `kl` is a term to the
    start; `masked` says that attention goes by masks, over padding.
    """

    config: PretrainedConfig
    policy: PolicyConfig
    spread: Spread
    pixels: int
    micro_batch_tokens: int
    row_tokens: int
    group: int
    new_tokens: int
    prompts: int
    max_rows: int
    eval_rows: int
    eval_tokens: int
    kl: bool
    masked: bool

    @cached_property
    def model(self) -> Anatomy:
        return Anatomy(self.config, self.policy)

    @property
    def image_tokens(self) -> int:
        return max(1, self.pixels // (self.config.vision_config.patch_size * self.merge) ** 2)

    @property
    def merge(self) -> int:
        return self.config.vision_config.spatial_merge_size

    @property
    def patches(self) -> int:
        return self.image_tokens * self.merge**2

    @property
    def prompt(self) -> int:
        return self.image_tokens + QUESTION

    def updates(self) -> list[Rows]:
        """The largest micro-batches of a step: two, where it has several."""
        if self.group:
            width = self.prompt + self.group * self.new_tokens
            rows = min(self.prompts, max(1, self.micro_batch_tokens // width))
            images = rows if self.model.tower_trained else 0  # else their features are carried along from sampling
            targets = rows * self.group * self.new_tokens
            largest = Rows(rows, width, targets, self.prompt, self.group, images, self.patches, self.masked)
            return [largest] * min(2, -(-self.prompts // rows))
        example = self.prompt + self.new_tokens
        width = max(self.row_tokens, example) if self.masked else self.micro_batch_tokens
        rows = max(1, self.micro_batch_tokens // width)
        examples = max(1, min(self.prompts, rows * width // example))
        targets = examples * self.new_tokens
        largest = Rows(rows, width, targets, images=examples, patches=self.patches, masked=self.masked)
        return [largest] * min(2, -(-self.prompts // examples))

    def written(self) -> list[Written]:
        """What is written side by side, in sampling and in validation."""
        found = [Written(self.eval_rows, 1, self.prompt, self.eval_tokens, self.patches)]
        if self.group:
            at_a_time = min(self.prompts, max(1, self.max_rows // self.group))
            found.append(Written(at_a_time, self.group, self.prompt, self.new_tokens, self.patches))
        return found

    def footprint(self) -> Footprint:
        return footprint(self.model, self.updates(), self.written(), self.spread, self.kl)


def changes(training: Training) -> Iterator[tuple[str, Training]]:
    """Settings that take less memory, each alone, in the order of what they cost; what saves nothing is among them."""
    spread, policy = training.spread, training.policy
    if not policy.gradient_checkpointing:
        checkpointed = replace(policy, gradient_checkpointing=True)
        yield "model.init_args.policy.gradient_checkpointing true", replace(training, policy=checkpointed)
    half = training.micro_batch_tokens // 2
    yield f"micro_batch_tokens {half}", replace(training, micro_batch_tokens=half)
    if training.group and training.max_rows > training.group:
        rows = max(training.group, training.max_rows // 2)
        yield f"the engine's max_rows {rows}", replace(training, max_rows=rows)
    if training.eval_rows > 1:
        rows = training.eval_rows // 2
        yield f"data.init_args.eval_batch_size {rows}", replace(training, eval_rows=rows)
    ranks = spread.world if spread.world > 1 else NODE
    if spread.shards == 1:
        where = "trainer.strategy fsdp2" if spread.world > 1 else f"{ranks} devices with trainer.strategy fsdp2"
        yield where, replace(training, spread=replace(spread, world=ranks, shards=ranks))
    if policy.lora is None:
        adapted = replace(policy, lora=LoRA(rank=64))
        yield "model.init_args.policy.lora (rank 64)", replace(training, policy=adapted)
    if spread.shards > 1 and not spread.offload:
        yield "trainer.strategy.init_args.offload true", replace(training, spread=replace(spread, offload=True))


def advice(training: Training, room: float) -> list[str]:
    """Sentences on what to set for a training that needs more than `room` bytes a device; none where it fits.

    First each setting alone that would save something, with what the peak then is; where none of them is enough, the
    least that they come to together.
    """
    peak = training.footprint().peak
    if peak <= room:
        return []
    said: list[str] = []
    enough = False
    for what, changed in changes(training):
        then = changed.footprint().peak
        if then < peak:
            fits = ", which fits" if then <= room else ""
            said.append(f"{what}: {(peak - then) / GIB:.1f} GiB less, {then / GIB:.1f} in all{fits}")
            enough = enough or then <= room
    if not enough:
        least = _all_changes(training).footprint().peak
        verdict = "which fits" if least <= room else "which is too much too"
        said.append(f"all of these together: {least / GIB:.1f} in all, {verdict}")
    return said


def _all_changes(training: Training) -> Training:
    """Each kind of change once, also one that another makes possible."""
    made: set[str] = set()
    while True:
        left = ((what.split()[0], changed) for what, changed in changes(training))
        kind, changed = next((found for found in left if found[0] not in made), ("", training))
        if not kind:
            return training
        made.add(kind)
        training = changed
