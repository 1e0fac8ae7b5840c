"""TRL's side of grpo_step.py: its GRPOTrainer with transformers' generation, set up for the same step."""

from __future__ import annotations

import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image, disable_progress_bars  # pyright: ignore[reportMissingImports]
from grpo_turns import CLIP, LEARNING_RATE, MAX_GRAD_NORM, TASK, Endless, Setting, Turn, example, quiet, worth
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, TrainerCallback
from trl.kernels.chunked_logprob import ChunkedLogProbFunction  # pyright: ignore[reportMissingImports]
from trl.trainer import utils  # pyright: ignore[reportMissingImports]
from trl.trainer.grpo_config import GRPOConfig  # pyright: ignore[reportMissingImports]
from trl.trainer.grpo_trainer import GRPOTrainer  # pyright: ignore[reportMissingImports]


class TimedTrainer(GRPOTrainer):
    """GRPOTrainer that notes how long rollouts took and what came of them."""

    def __init__(self, turn: Turn, **options: Any) -> None:
        super().__init__(**options)
        self.turn, self.made = turn, dict[str, Any]()

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        began = time.perf_counter()
        self.made = super()._generate_and_score_completions(inputs)
        self.turn.generation = time.perf_counter() - began
        return self.made


class Marks(TrainerCallback):
    """The marks of a turn, around an optimiser step."""

    def __init__(self, turn: Turn, group: int) -> None:
        self.turn, self.group = turn, group
        self.trainer: TimedTrainer | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.turn.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.turn.end()
        assert self.trainer is not None
        made = self.trainer.made
        every = len(made["prompt_ids"])
        self.turn.saw(
            made["prompt_ids"][:: self.group],
            made["pixel_values"].view(every, -1)[:: self.group],
            made["advantages"],
            int(made["completion_mask"].sum()),
        )


class StillProcessor(Qwen2_5_VLProcessor):
    """The library's processor without its part for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return type(argument)


def config(setting: Setting, steps: int, suppressed: list[int], out: str) -> Any:
    """One generation is one optimiser step, in one micro-batch; nothing truncates the sampler, nothing is saved."""
    return GRPOConfig(
        output_dir=out,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=setting.B * setting.G,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        num_generations=setting.G,
        num_iterations=1,
        max_completion_length=setting.C,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        generation_kwargs={"suppress_tokens": suppressed},
        beta=0.0,
        loss_type="dapo",
        scale_rewards="group",
        epsilon=CLIP.low,
        epsilon_high=CLIP.high,
        optim="adamw_torch_fused",  # its default; the same numbers, faster
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        max_steps=steps,
        shuffle_dataset=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def data(setting: Setting, steps: int) -> Dataset:
    examples = [example(number, setting.px) for number in range(steps * setting.B)]
    asked = [TASK.messages(one, random.Random(0))[0]["content"][-1]["text"] for one in examples]
    rows = {
        "prompt": [[{"role": "user", "content": text}] for text in asked],
        "image": [{"bytes": one.images[0], "path": None} for one in examples],
    }
    return Dataset.from_dict(rows).cast_column("image", Image())


def trl_side(pipe: Connection, setting: Setting, folder: Path, steps: int, compact: bool) -> None:
    """Steps at this side's turns.

    Without Triton TRL sends prompts through its head as well, which on a GPU it does not; with `compact` it does not do
    so here either.
    """
    quiet(setting)
    disable_progress_bars()
    if compact:
        utils._use_triton = lambda device: True  # pyright: ignore[reportPrivateImportUsage]
    turn, processor = Turn(pipe), Endless(str(folder)).processor(setting.pixels)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    turn.follow(model)
    turn.count(model.lm_head, "head_rows", 2)
    ChunkedLogProbFunction.forward = staticmethod(turn.counting(ChunkedLogProbFunction.forward, at=1))
    marks = Marks(turn, setting.G)
    with tempfile.TemporaryDirectory() as out:
        marks.trainer = TimedTrainer(
            turn,
            model=model,
            reward_funcs=lambda completions, **_: [worth(at % setting.G) for at in range(len(completions))],
            args=config(setting, steps, processor.vision_token_ids, out),
            train_dataset=data(setting, steps),
            processing_class=StillProcessor(
                processor.image_processor, processor.tokenizer, None, processor.tokenizer.chat_template
            ),
            callbacks=[marks],
        )
        marks.trainer.train()
