"""What benchmarks share: the model, the pictures, and of grpo_step.py the reward and the turns its sides take."""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.tasks import OpenWorld
from fgvr.models import PixelBudget, Policy, PolicyConfig, Processor, TinyQwen
from fgvr.models.backbone import Pretrained
from fgvr.objectives import Clip
from fgvr.types import Example, PromptBatch, ReadRecord

LEARNING_RATE, MAX_GRAD_NORM, CLIP = 1e-6, 1.0, Clip(0.2, 0.28)
TASK, LABEL = OpenWorld("Which species of bird is shown in the photo?"), "bird"


@dataclass(frozen=True)
class Setting:
    """One model and one shape of step. Raises SystemExit for what no side could do.

    Args:
        B: prompts of a step.
        G: completions of a prompt.
        C: tokens of a completion; all are full.
        px: side of the pictures, a multiple of 28.
        hidden: width of the language model.
        layers: of the language model.
        heads: of the language model, and of the vision tower.
        vision_hidden: width of the vision tower.
        vision_layers: of the vision tower.
        vocab: rows of the head, at least the tokenizer's 264.
        threads: of torch.
    """

    B: int = 1
    G: int = 8
    C: int = 64
    px: int = 448
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    vision_hidden: int = 128
    vision_layers: int = 4
    vocab: int = 4096
    threads: int = 2

    def __post_init__(self) -> None:
        if self.px < 28 or self.px % 28:
            raise SystemExit(f"px must be a multiple of 28, the side of what becomes one token, got {self.px}")
        if self.vocab < 264:
            raise SystemExit(f"vocab must hold the tokenizer's 264 tokens, got {self.vocab}")
        if min(self.B, self.G - 1, self.C) < 1:
            raise SystemExit(f"a step needs a prompt, two completions and a token, got {self.B}, {self.G} and {self.C}")

    @property
    def pixels(self) -> PixelBudget:
        return PixelBudget(28 * 28, self.px**2)

    def unique(self, prompt: int) -> dict[str, int]:
        """What a step must compute at least once, for prompts of `prompt` tokens.

        The prompt is read for sampling and for the update; a completion's last token is not read in sampling. Patches
        and the head's rows are those of one pass.
        """
        completions = self.G * self.C
        return {
            "vision_patches": self.B * (self.px // 14) ** 2,
            "decoder_tokens": self.B * (prompt + completions - self.G + prompt + completions),
            "head_rows": self.B * (1 + completions - self.G + completions),
        }


def write_model(setting: Setting, folder: Path) -> None:
    """A small random Qwen2.5-VL whose tokenizer knows single bytes, with its processor, as transformers opens it."""
    backbone = TinyQwen(
        ["."],
        hidden=setting.hidden,
        layers=setting.layers,
        heads=setting.heads,
        vision_hidden=setting.vision_hidden,
        vision_layers=setting.vision_layers,
        tokens=1,
    )
    config: Any = backbone.config()
    config.text_config.vocab_size = setting.vocab
    config.text_config.intermediate_size = 2 * setting.hidden
    config.vision_config.intermediate_size = 2 * setting.vision_hidden
    quiet(setting)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    backbone.processor(setting.pixels).save(folder)


class Endless(Pretrained):
    """The checkpoint's processor with its end tokens suppressed as its vision tokens are: every completion is full."""

    def processor(self, pixels: PixelBudget) -> Processor:
        processor = super().processor(pixels)
        processor.vision_token_ids += processor.eos_token_ids
        return processor


def endless_policy(setting: Setting) -> Policy:
    """A policy that only writes, whose weights stay as they are, as they do while a run validates or mines."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(setting, Path(folder))
        backbone = Endless(folder)
        policy = Policy(PolicyConfig(backbone, setting.pixels), backbone.processor(setting.pixels)).eval()
    policy.weights_stay(True)
    return policy


def prompts_about(policy: Policy, numbers: Sequence[int], px: int) -> PromptBatch:
    """Pictures with these numbers, asked about."""
    processor, places = policy.processor, tuple(numbers)
    encode, collate = PromptEncode(processor, TASK), PromptCollate(processor.padding_token, processor.image_token)
    items = [encode(example(number, px), random.Random(number)) for number in places]
    return collate(items, ReadRecord(0, 0, places, tuple(map(str, places))))


def example(number: int, px: int) -> Example:
    """A picture of coloured clouds, to be named."""
    seeds, stream = random.Random(number).randbytes(3 * 16 * 16), io.BytesIO()
    Image.frombytes("RGB", (16, 16), seeds).resize((px, px), Image.Resampling.BICUBIC).save(stream, "PNG")
    return Example(str(number), (stream.getvalue(),), LABEL, (LABEL,), "train", "seen", "clouds")


def worth(number: int) -> float:
    """The reward of a group's `number`-th completion: no completion is ever as good as its group's mean."""
    return float(number % 2)


class Turn:
    """A side's end of the pipe: waits for its turn, keeps the time, counts.

    What a step took is sent when the next one could begin, so that a side is idle while the other is measured.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.counts, self.facts = pipe, Counter[str](), dict[str, float]()
        self.began = self.generation = 0.0

    def begin(self) -> None:
        self.pipe.send(self.facts)
        if not self.pipe.recv():
            sys.exit()
        self.counts.clear()
        self.generation, self.began = 0.0, time.perf_counter()

    def end(self, before: float = 0.0) -> None:
        """`before`: seconds of generation that were spent before the step began."""
        step, generation = time.perf_counter() - self.began + before, self.generation + before
        self.facts = {"generation": generation, "update": step - generation, "step": step, **self.counts}

    def saw(self, ids: Tensor, pixels: Tensor, advantages: Tensor, completion_tokens: int) -> None:
        """What must be the same on both sides: prompts [B P], their patches, completions [B * G] that all count."""
        self.facts["prompt tokens"] = ids.shape[1]
        self.facts["inputs"] = zlib.crc32(pixels.numpy().tobytes(), zlib.crc32(ids.numpy().tobytes()))
        self.facts["completion tokens"], self.facts["idle"] = completion_tokens, int((advantages == 0).sum())

    def follow(self, model: Any) -> None:
        """Counts what goes into a model's vision tower and into the first layer of its language model."""
        self.facts["parameters"] = sum(weight.numel() for weight in model.parameters())
        self.count(model.model.visual, "vision_patches", 1)
        self.count(model.model.language_model.layers[0], "decoder_tokens", 2)

    def count(self, module: nn.Module, name: str, axes: int) -> None:
        """Counts the rows that go into a module: the product of the first `axes` axes."""

        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            taken = args[0] if args else options["hidden_states"]
            self.counts[name] += taken.shape[:axes].numel()

        module.register_forward_pre_hook(hook, with_kwargs=True)

    def counting(self, function: Callable[..., Any], at: int = 0, name: str = "head_rows") -> Callable[..., Any]:
        """The function, with the rows of its argument number `at` counted."""

        def counted(*args: Any, **options: Any) -> Any:
            self.counts[name] += len(args[at])
            return function(*args, **options)

        return counted


def quiet(setting: Setting) -> None:
    torch.set_num_threads(setting.threads)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def read_options(
    run: Callable[..., None], description: str | None, args: list[str] | None
) -> tuple[Setting, dict[str, Any]]:
    """The command line's setting, and the other options of `run`."""
    parser = ArgumentParser(description=description)
    parser.add_class_arguments(Setting)
    parser.add_function_arguments(run, skip={"setting"})
    options = vars(parser.parse_args(args))
    return Setting(**{field.name: options.pop(field.name) for field in fields(Setting)}), options
