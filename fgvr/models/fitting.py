"""Whether a training fits into a device's memory, from its settings, and which of them would make it fit.

It fits where its peak is not above what can be used of a device: all but what a GPU's driver takes, `DRIVER`, and of
the rest all but a share, `SPARE`, for what an allocator holds in pieces too small to use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from transformers import PretrainedConfig

from fgvr.errors import UserError
from fgvr.models.adapters import LoRA
from fgvr.models.anatomy import Anatomy
from fgvr.models.footprint import Footprint, Rows, Spread, Written, footprint
from fgvr.models.policy import PolicyConfig

QUESTION = 100  # tokens of a prompt besides its image: the chat template and a question
GIB = 2**30
DRIVER, SPARE = GIB, 0.1
POLICY = "model.init_args.policy"
NODE = 8  # devices that a training is advised to use where one does not do


@dataclass(frozen=True)
class Training:
    """The settings that decide how much memory a training takes.

    `pixels` are those of the largest image. A micro-batch has at most `micro_batch_tokens` tokens, or one group that is
    larger; packed rows have about `row_tokens`. `group` completions of at most `new_tokens` tokens are learned from (0
    in supervised fine-tuning, where `new_tokens` is how long an answer is), `batch` prompts of all ranks in an update,
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
    batch: int
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

    @property
    def prompts(self) -> int:
        """One rank's part of the batch."""
        return -(-self.batch // self.spread.world)

    @property
    def longest(self) -> int:
        """Tokens of what a micro-batch cannot hold less of: a group, or an example."""
        return self.prompt + max(1, self.group) * self.new_tokens

    def updates(self) -> list[Rows]:
        """The largest micro-batches of a step: two, where it has several."""
        if self.group:
            width = self.longest
            rows = min(self.prompts, max(1, self.micro_batch_tokens // width))
            images = rows if self.model.tower_trained else 0  # else their features are carried along from sampling
            targets = rows * self.group * self.new_tokens
            largest = Rows(rows, width, targets, self.prompt, self.group, images, self.patches, self.masked)
            return [largest] * min(2, -(-self.prompts // rows))
        example = self.longest
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


@dataclass(frozen=True)
class Change:
    """Settings that take less memory, by their keys, as a yaml or a command line has them, and what they make of it.

    Of one `kind` there is one at a time, whatever its keys.
    """

    kind: str
    settings: Mapping[str, str]
    training: Training

    @cached_property
    def peak(self) -> int:
        return self.training.footprint().peak


def changes(training: Training) -> Iterator[Change]:
    """Each change alone, in the order of what they cost; what saves nothing is among them."""
    spread, policy = training.spread, training.policy
    if not policy.gradient_checkpointing:
        checkpointed = replace(policy, gradient_checkpointing=True)
        settings = {f"{POLICY}.gradient_checkpointing": "true"}
        yield Change("checkpointing", settings, _with(training, policy=checkpointed))
    half = training.micro_batch_tokens // 2
    if half >= training.longest:
        owner = "model" if training.group else "data"
        settings = {f"{owner}.init_args.micro_batch_tokens": str(half)}
        yield Change("micro-batch", settings, _with(training, micro_batch_tokens=half))
    if training.group and training.max_rows > training.group:
        rows = max(training.group, training.max_rows // 2)
        settings = {"RolloutGeneration's engine": _yaml("fgvr.rollouts.InProcess", max_rows=rows)}
        yield Change("engine", settings, _with(training, max_rows=rows))
    if training.eval_rows > 1:
        rows = training.eval_rows // 2
        yield Change("validation", {"data.init_args.eval_batch_size": str(rows)}, _with(training, eval_rows=rows))
    if spread.shards == 1:
        ranks = spread.world if spread.world > 1 else NODE
        yield _spread_over(training, "shards", replace(spread, world=ranks, shards=ranks))
    if policy.lora is None and (adapted := _adapted(training)) is not None:
        yield Change("lora", {f"{POLICY}.lora": "{rank: 64}"}, adapted)
    if spread.shards > 1 and not spread.offload:
        yield _spread_over(training, "offload", replace(spread, offload=True))


def _adapted(training: Training) -> Training | None:
    """The training with adapters; None where they would lie on what policy.freeze names."""
    try:
        return _with(training, policy=replace(training.policy, lora=LoRA(rank=64)))
    except UserError:
        return None


def _with(training: Training, **settings: Any) -> Training:
    """The training with other settings, and what is known of its model."""
    found = replace(training, **settings)
    vars(found)["model"] = training.model.under(found.policy)
    return found


def _spread_over(training: Training, kind: str, spread: Spread) -> Change:
    settings = {} if spread.world == training.spread.world else {"trainer.devices": str(spread.world)}
    options: dict[str, int | str] = {"replicate": spread.world // spread.shards, "shard": spread.shards}
    options |= {"prefetch": spread.prefetch, "offload": str(spread.offload).lower()}
    plain = spread == replace(spread, shards=spread.world, prefetch=1, offload=False)
    settings["trainer.strategy"] = "fsdp2" if plain else _yaml("fgvr.strategies.FSDP2Strategy", **options)
    return Change(kind, settings, _with(training, spread=spread))


def _yaml(class_path: str, **options: int | str) -> str:
    told = ", ".join(f"{name}: {value}" for name, value in options.items())
    return f"{{class_path: {class_path}, init_args: {{{told}}}}}"


def usable(training: Training, room: float) -> float:
    """Bytes that the training can use of a device that has `room`."""
    return max(0.0, room - DRIVER * training.spread.gpu) * (1 - SPARE)


def verdict(training: Training, room: float) -> str:
    """Whether the training fits into a device of `room` bytes, or barely: without the spare share."""
    peak, left = training.footprint().peak, usable(training, room)
    figures = f"{room / GIB:.4g} GiB: {gib(peak)} are needed, {gib(left)} can be used"
    if peak <= left:
        return f"It fits into {figures}."
    driver = f"a driver takes up to {DRIVER / GIB:.0f}, and " if training.spread.gpu else ""
    barely = "barely fits" if peak <= left / (1 - SPARE) else "does not fit"
    return f"It {barely} into {figures}: {driver}a tenth should stay free."


def advice(training: Training, room: float) -> list[str]:
    """What to set for a training that does not fit into a device of `room` bytes; empty where it fits.

    First each change alone that would save something, with what the peak then is; where none of them is enough, those
    that come to less together than the best of them alone.
    """
    peak, left = training.footprint().peak, usable(training, room)
    if peak <= left:
        return []
    alone = [change for change in changes(training) if change.peak < peak]
    if not alone:
        return ["no setting takes less: take a device with more memory, or a smaller model"]
    said = [f"{_told(one.settings)}: {gib(peak - one.peak)} GiB less, {_after(one.peak, left)}" for one in alone]
    least = min(change.peak for change in alone)
    if least > left:
        settings, together = _together(training, left)
        if together < least:
            too_much = "" if together <= left else ", which is too much too"
            said.append(f"{_told(settings)}, together: {_after(together, left)}{too_much}")
    return said


def _together(training: Training, left: float) -> tuple[dict[str, str], int]:
    """The settings of the changes that each lower the peak further, the cheapest first, until it fits; and the peak."""
    peak, settings, kinds = training.footprint().peak, dict[str, str](), set[str]()
    while peak > left:
        further = (change for change in changes(training) if change.kind not in kinds and change.peak < peak)
        change = next(further, None)
        if change is None:
            break
        kinds.add(change.kind)
        settings |= change.settings
        training, peak = change.training, change.peak
    return settings, peak


def _told(settings: Mapping[str, str]) -> str:
    return " and ".join(f"{key} {value}" for key, value in settings.items())


def _after(peak: int, left: float) -> str:
    return f"{gib(peak)} in all{', which fits' if peak <= left else ''}"


def gib(size: float) -> str:
    """Bytes in GiB, with more digits of what is small."""
    return f"{size / GIB:.1f}" if size >= 0.05 * GIB else f"{size / GIB:.3f}"
