"""A GRPO step of a random Qwen2.5-VL in the 3B's shapes: seconds by phase, memory, and what a decoded token launches.

Full completions of every group are learned from; the vision tower is frozen, as in configs/grpo_qwen2_5_vl_3b.yaml.
Run by check.sh, which says where the other benchmarks are.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from fgvr_step import Alternating, Pages, Prompts
from figures import Figures
from grpo_turns import CLIP, LEARNING_RATE, MAX_GRAD_NORM, Setting, quiet
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from tracing import traced
from transformers import AutoModelForImageTextToText, PreTrainedModel

from fgvr.callbacks import RolloutGeneration, Throughput
from fgvr.kernels.prefix_attention import Backend
from fgvr.models import LoRA, PixelBudget, PolicyConfig, Processor, TinyQwen
from fgvr.models.backbone import Attention
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import unsharded
from fgvr.modules import GRPO, Optimizer
from fgvr.rewards import Term, WeightedSum
from fgvr.rollouts import InProcess
from fgvr.strategies import FSDP2Strategy
from fgvr.types import PromptBatch

Tuning = Literal["full", "lora"]
Strategy = Literal["one", "fsdp2"]
SHAPES = {
    "3b": Setting(
        B=16, G=8, C=64, px=448, hidden=2048, layers=36, heads=16, vision_hidden=1280, vision_layers=32, vocab=151_936
    ),
    "tiny": Setting(B=2, G=2, C=4, px=56, hidden=64, layers=2, heads=2, vision_hidden=64, vision_layers=2, vocab=512),
}
WARM_UP, ROUNDS = 1, 2
FEW, MORE = 2, 6  # tokens of the completions that are traced
ENOUGH_GB = 100  # of device memory to train all of the 3B's language model without checkpointing


class Shaped(TinyQwen):
    """A random Qwen2.5-VL, built where it is to be trained; its end tokens cannot be drawn, so completions are full."""

    def __init__(self, setting: Setting, device: str) -> None:
        super().__init__(
            ["."],
            hidden=setting.hidden,
            layers=setting.layers,
            heads=setting.heads,
            vision_hidden=setting.vision_hidden,
            vision_layers=setting.vision_layers,
            tokens=1,
        )
        self.setting, self.device = setting, device

    def config(self) -> Any:
        config: Any = super().config()
        text, vision = config.text_config, config.vision_config
        text.vocab_size = self.setting.vocab
        if self.setting.hidden == SHAPES["3b"].hidden:
            config.tie_word_embeddings = text.tie_word_embeddings = True
            text.num_key_value_heads, text.intermediate_size = 2, 11_008
            vision.intermediate_size, vision.fullatt_block_indexes = 3_420, [7, 15, 23, 31]
        return config

    def build(self, attention: Attention) -> PreTrainedModel:
        torch.manual_seed(0)
        with torch.device(self.device):
            return AutoModelForImageTextToText.from_config(
                self.config(), dtype=torch.float32, attn_implementation=attention
            )

    def processor(self, pixels: PixelBudget) -> Processor:
        processor = super().processor(pixels)
        processor.vision_token_ids += processor.eos_token_ids
        return processor


class Staying(SingleDeviceStrategy):
    """Leaves everything on the device at the end, where it is dropped: copying it to the host takes long."""

    def teardown(self) -> None:
        return


class StayingInParts(FSDP2Strategy):
    """As `Staying`, with a process group of a single process, which has all of every weight."""

    def teardown(self) -> None:
        return


class Steps(Callback):
    """Writes down what is trained, every attention's figures, and in between what a decoded token takes.

    Each attention's first steps warm up and are not counted. Stands last, so that Throughput has logged.
    """

    def __init__(self, figures: Figures, backends: list[Backend], sampling: Sampling) -> None:
        self.figures, self.backends, self.sampling, self.seen = figures, backends, sampling, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GRPO)
        parameters = sum(weight.numel() for weight in pl_module.trained_policy.parameters())
        trained = sum(weight.numel() for _, weight in pl_module.trained_policy.trainable())
        self.figures.add("weights", f"{parameters / 1e9:.2f} G, of which {trained / 1e9:.2f} G are trained")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PromptBatch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, GRPO)
        pl_module.trained_policy.prefix_backend = self.backends[self.seen // (WARM_UP + ROUNDS)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PromptBatch, batch_idx: int
    ) -> None:
        backend = self.backends[self.seen // (WARM_UP + ROUNDS)]
        round_ = self.seen % (WARM_UP + ROUNDS) - WARM_UP
        self.seen += 1
        taken = {name: float(value) for name, value in trainer.callback_metrics.items()}
        mfu = f", MFU {taken['unique_mfu']:.1%}" if "unique_mfu" in taken else ""
        self.figures.add(
            f"{backend}, {'warm-up' if round_ < 0 else f'step {round_ + 1}'}",
            f"sample {taken['time/sample']:.2f} s, update {taken['time/update']:.2f} s{mfu}, "
            f"peak {taken['memory/peak_gb']:.1f} GiB, log-probs of sampler and trainer differ by "
            f"{taken['sampling/sampling_logp_difference/mean']:.1e} (mean), "
            f"{taken['sampling/sampling_logp_difference/max']:.1e} (most)",
        )
        if self.seen == WARM_UP + ROUNDS:
            self._profile_token(trainer, pl_module, batch)
            self._profile_update(trainer, pl_module)

    def _profile_token(self, trainer: Trainer, module: Any, batch: PromptBatch) -> None:
        """What a decoded token takes: the difference between sampling more tokens of every completion and few."""

        def sample(tokens: int) -> None:
            with trainer.precision_plugin.forward_context():
                short = Sampling(self.sampling.group_size, 1.0, tokens)
                InProcess().sample(module.trained_policy, batch, short, range(len(batch.examples)))

        with unsharded(module.trained_policy):
            few, more = (traced(lambda tokens=tokens: sample(tokens)) for tokens in (FEW, MORE))
        launches, syncs, seconds, busy = (
            (getattr(more, name) - getattr(few, name)) / (MORE - FEW)
            for name in ("launches", "syncs", "seconds", "busy")
        )
        self.figures.add(
            f"a decoded token of {len(batch.examples) * self.sampling.group_size} completions",
            f"{launches:.0f} kernel launches, {syncs:.1f} host synchronisations, {1e3 * seconds:.1f} ms, of which the "
            f"device computes {1e3 * busy:.1f} ms",
        )

    def _profile_update(self, trainer: Trainer, module: Any) -> None:
        """What the device does in one micro-batch, forward and backward."""
        rows = module.last_rollouts.updates[0].micro_batches[0].rows.to(module.device)

        def learn() -> None:
            with trainer.precision_plugin.forward_context():
                module.trained_policy.completion_logprobs(rows)[0].sum().backward()

        trace = traced(learn)
        for _, parameter in module.trained_policy.trainable():
            parameter.grad = None
        self.figures.add(
            f"a micro-batch of {int((rows.segments >= 0).sum()):,} tokens",
            f"{trace.launches} kernel launches, {trace.seconds:.2f} s, of which the device computes {trace.busy:.2f} "
            f"s: {trace.most(6)}",
        )


def measure(
    figures: Path,
    shape: Literal["3b", "tiny"] = "3b",
    tuning: Tuning = "full",
    device: str = "cuda",
    strategy: Strategy = "one",
    checkpointing: bool = False,
) -> None:
    """Takes steps with each attention and writes what they took; a strategy's, with the first attention alone.

    With `checkpointing` the layers are computed again for the gradient, as they are anyhow where memory is short.
    """
    setting, on_gpu = SHAPES[shape], device == "cuda"
    quiet(setting)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    in_parts = strategy == "fsdp2"
    kind = strategy if in_parts else "checkpointed" if checkpointing else "step"
    found = Figures(figures, f"{kind} {tuning}")
    room = torch.cuda.mem_get_info()[1] / 2**30 if on_gpu else 0.0
    checkpointed = checkpointing or (on_gpu and tuning == "full" and room < ENOUGH_GB)
    sampling = Sampling(setting.G, 1.0, setting.C)
    module = GRPO(
        PolicyConfig(
            Shaped(setting, device),
            setting.pixels,
            freeze=("vision", "projector"),
            lora=LoRA() if tuning == "lora" else None,
            gradient_checkpointing=checkpointed,
        ),
        WeightedSum({"alternating": Term(Alternating())}),
        Optimizer(lr=LEARNING_RATE, schedule="constant", max_grad_norm=MAX_GRAD_NORM),
        sampling,
        clip=CLIP,
        reduction="token",
    )
    backends: list[Backend] = ["split", "varlen"] if on_gpu and not in_parts else ["split"]
    steps = len(backends) * (WARM_UP + ROUNDS)
    pages = Pages(setting, module.processor, steps, triplets=False)
    found.add(
        "setting",
        f"{shape} shapes, B={setting.B}, P={pages[0].input_ids.shape[1]}, G={setting.G}, C={setting.C}; "
        f"gradient checkpointing {'on' if checkpointed else 'off'}",
    )
    trainer = Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        strategy=StayingInParts() if in_parts else Staying("cuda:0" if on_gpu else "cpu"),
        precision="bf16-mixed" if on_gpu else "32-true",
        max_steps=steps,
        logger=False,
        callbacks=[RolloutGeneration(seed=0), Throughput(), Steps(found, backends, sampling)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Prompts(pages))


if __name__ == "__main__":
    auto_cli(measure)
