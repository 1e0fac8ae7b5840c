"""The two sides of grpo_step.py: fgvr and TRL taking the same GRPO steps, each in a process that waits for its turns.

A side times itself: "generation" is everything up to scored completions with their advantages, image processing
included; "update" is the rest of the step. Hooks count the work.
"""

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
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForImageTextToText

from fgvr.callbacks.rollout_generation import RolloutGeneration
from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.tasks import OpenWorld
from fgvr.data.taxonomy import Taxonomy
from fgvr.models import PixelBudget, PolicyConfig, Processor, TinyQwen, policy
from fgvr.models.backbone import Pretrained
from fgvr.models.sampling import Sampling
from fgvr.modules import GRPO, Optimizer
from fgvr.objectives import Clip
from fgvr.rewards import AnsweredGroup, Reward, Term, WeightedSum
from fgvr.types import Example, PromptBatch, ReadRecord

LEARNING_RATE, MAX_GRAD_NORM, CLIP = 1e-6, 1.0, Clip(0.2, 0.28)
TASK = OpenWorld("Which species of bird is shown in the photo?")
LABEL = "bird"


@dataclass(frozen=True)
class Setting:
    """One model and one shape of step: B prompts with a picture of px x px, G completions of C tokens each."""

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

    def unique(self, prompt: int) -> dict[str, int]:
        """What a step must compute at least once, for prompts of `prompt` tokens.

        The prompt is read for sampling and for the update; a completion's last token is not read in sampling. Patches
        and the head's rows are those of one pass.
        """
        completions = self.G * self.C
        return {
            "vision patches": self.B * (self.px // 14) ** 2,
            "decoder tokens": self.B * (prompt + completions - self.G + prompt + completions),
            "head rows": self.B * (1 + completions - self.G + completions),
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
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    backbone.processor(PixelBudget(28 * 28, setting.px**2)).save(folder)


def picture(number: int, px: int) -> bytes:
    """Coloured clouds, as PNG."""
    seeds = random.Random(number).randbytes(3 * 16 * 16)
    stream = io.BytesIO()
    Image.frombytes("RGB", (16, 16), seeds).resize((px, px), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


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

    def count(self, model: Any) -> None:
        """Counts what goes into the vision tower and into the first layer of the language model."""

        def hook(name: str, axes: int, _: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            taken = args[0] if args else options["hidden_states"]
            self.counts[name] += taken.shape[:axes].numel()

        model.visual.register_forward_pre_hook(partial(hook, "vision patches", 1), with_kwargs=True)
        layer = model.language_model.layers[0]
        layer.register_forward_pre_hook(partial(hook, "decoder tokens", 2), with_kwargs=True)

    def count_rows(self, owner: Any, name: str, at: int = 0) -> Callable[..., Any]:
        """The function `name` of `owner`, counting the rows of its argument number `at` as rows of the head."""
        function = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            self.counts["head rows"] += args[at].shape[:-1].numel()
            return function(*args, **options)

        return counting


class Pages(Dataset[PromptBatch]):
    """Batches of prompts as a run's loader makes them; `seconds` is what the last one took."""

    def __init__(self, setting: Setting, processor: Processor, steps: int) -> None:
        self.setting, self.steps, self.seconds = setting, steps, 0.0
        self.encode = PromptEncode(processor, TASK)
        self.collate = PromptCollate(processor.padding_token, processor.image_token)
        every = range(steps * setting.B)
        self.examples = [
            Example(str(number), (picture(number, setting.px),), LABEL, (LABEL,), "train", "seen", "clouds")
            for number in every
        ]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> PromptBatch:
        began = time.perf_counter()
        places = range(self.steps * self.setting.B)[step * self.setting.B :][: self.setting.B]
        record = ReadRecord(0, step, tuple(places), tuple(map(str, places)))
        batch = self.collate([self.encode(self.examples[at], random.Random(at)) for at in places], record)
        self.seconds = time.perf_counter() - began
        return batch


class Prompts(LightningDataModule):
    """What RolloutGeneration asks of a datamodule."""

    task, taxonomy = TASK, Taxonomy({LABEL: (LABEL,)})

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self.pages = pages

    def train_dataloader(self) -> DataLoader[PromptBatch]:
        return DataLoader(self.pages, batch_size=None)


class Endless(Pretrained):
    """The checkpoint's processor with its end tokens suppressed as its vision tokens are: every completion is full."""

    def processor(self, pixels: PixelBudget) -> Processor:
        processor = super().processor(pixels)
        processor.vision_token_ids += processor.eos_token_ids
        return processor


class Alternating(Reward):
    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [[worth(number) for number in range(len(group))] for group in groups]


class TimedGeneration(RolloutGeneration):
    """RolloutGeneration between the marks of a turn. Encoding, which in a run loader workers do, counts as well."""

    def __init__(self, turn: Turn, pages: Pages) -> None:
        super().__init__(seed=0)
        self.turn, self.pages = turn, pages

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PromptBatch, batch_idx: int
    ) -> None:
        self.turn.begin()
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.turn.generation = time.perf_counter() - self.turn.began

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PromptBatch, batch_idx: int
    ) -> None:
        self.turn.end(self.pages.seconds)
        assert isinstance(pl_module, GRPO)
        assert pl_module.last_rollouts is not None
        groups = pl_module.last_rollouts.groups
        self.turn.saw(
            batch.input_ids,
            pl_module.processor.pixel_values(batch.images),
            torch.cat([group.advantages for group in groups]),
            sum(len(completion.ids) for group in groups for completion in group.rollout.completions),
        )


def quiet(setting: Setting) -> None:
    torch.set_num_threads(setting.threads)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def fgvr_side(pipe: Connection, setting: Setting, folder: Path, steps: int) -> None:
    """GRPO in Lightning's Trainer with RolloutGeneration, as `fgvr fit` runs it, without logger and checkpoints."""
    quiet(setting)
    turn, pixels = Turn(pipe), PixelBudget(28 * 28, setting.px**2)
    module = GRPO(
        PolicyConfig(Endless(str(folder)), pixels),
        WeightedSum({"alternating": Term(Alternating())}),
        Optimizer(lr=LEARNING_RATE, schedule="constant", max_grad_norm=MAX_GRAD_NORM),
        Sampling(setting.G, 1.0, setting.C),
        clip=CLIP,
        reduction="token",
    )
    module.configure_model()
    turn.count(module.trained_policy.base.model)
    for name in ("next_token_logprobs", "token_logprobs_and_entropy"):
        setattr(policy, name, turn.count_rows(policy, name))
    turn.facts["parameters"] = sum(weight.numel() for weight in module.trained_policy.parameters())
    pages = Pages(setting, module.processor, steps)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=[TimedGeneration(turn, pages)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Prompts(pages))


def trl_side(pipe: Connection, setting: Setting, folder: Path, steps: int, compact: bool) -> None:
    """TRL's GRPOTrainer with transformers' generation, set up for the same step.

    Without Triton TRL sends prompts through its head as well, which it does not do on a GPU; with `compact` it does not
    do so here either.
    """
    quiet(setting)
    from trl import GRPOTrainer  # pyright: ignore[reportMissingImports]
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction  # pyright: ignore[reportMissingImports]
    from trl.trainer import utils  # pyright: ignore[reportMissingImports]

    if compact:
        utils._use_triton = lambda device: True
    turn = Turn(pipe)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    turn.count(model.model)
    model.lm_head.forward = turn.count_rows(model.lm_head, "forward")
    ChunkedLogProbFunction.forward = staticmethod(turn.count_rows(ChunkedLogProbFunction, "forward", at=1))
    turn.facts["parameters"] = sum(weight.numel() for weight in model.parameters())
    processor = Endless(str(folder)).processor(PixelBudget(28 * 28, setting.px**2))
    with tempfile.TemporaryDirectory() as out:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: [worth(at % setting.G) for at in range(len(completions))],
            args=_trl_config(setting, steps, processor.vision_token_ids, out),
            train_dataset=_trl_data(setting, steps),
            processing_class=_trl_processor(processor),
            callbacks=[_trl_marks(turn)],
        )
        generate = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            began = time.perf_counter()
            made = generate(inputs)
            turn.generation += time.perf_counter() - began
            turn.made = made
            return made

        trainer._generate_and_score_completions = timed
        trainer.train()
