"""What a training will hold in a device's memory, said before its first step, when something can still be changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.models.attention_choice import VARLEN, choose_attention
from fgvr.models.fitting import GIB, QUESTION, Training, advice
from fgvr.models.footprint import Footprint, Spread
from fgvr.models.processor import PixelBudget
from fgvr.modules import GRPO
from fgvr.modules.base import PolicyModule
from fgvr.pictures.tables import Table
from fgvr.rollouts import InProcess

log = logging.getLogger(__name__)

PARTS = (
    ("weights", "what is trained in float32, and what is frozen", "both"),
    ("optimizer", "AdamW's two means of what is trained", "both"),
    ("reference", "the frozen copy of the KL term", "both"),
    ("casts", "trained weights in bfloat16, as autocast keeps them", "both"),
    ("gradients", "of what is trained, in float32", "update"),
    ("gathered", "layers that are whole for a while, with their gradients", "update"),
    ("activations", "what the layers of a micro-batch keep for their backward pass", "update"),
    ("head", "log-probs and the head's gradient, beside these", "update"),
    ("whole", "all weights, gathered for a sampling", "sampling"),
    ("decoder", "a copy of the language model laid out for writing", "sampling"),
    ("cache", "keys and values", "sampling"),
    ("reading", "needed for a moment, while prompts are read", "sampling"),
    ("scores", "needed for a moment, while a token is written", "sampling"),
)


class MemoryEstimate(Callback):
    """Says in the log, before the first step, what a rank will hold at the most, and what to set where it has less.

    `config` are the run's settings.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, PolicyModule) or not trainer.is_global_zero:
            return
        base: Any = pl_module.trained_policy.base
        training = training_of(pl_module, self.config, trainer.world_size, base.config)
        log.info(said_of(training.footprint()))
        room = device_room(str(trainer.strategy.root_device.type))
        if room is None:
            return
        for line in advice(training, room):
            log.warning("The device has %.0f GiB. With %s.", room / GIB, line)


def training_of(module: PolicyModule, config: Mapping[str, Any], world: int, architecture: Any) -> Training:
    """The settings of a run that decide its memory; `config` are all of its settings, `world` are its ranks."""
    data, trainer = config["data"].get("init_args") or {}, config["trainer"]
    policy, spread = module.policy_config, spread_of(trainer, world)
    learns = module if isinstance(module, GRPO) else None
    tokens = learns.micro_batch_tokens if learns else int(data.get("micro_batch_tokens") or 8192)
    prompts = -(-int(data.get("batch_size") or 16) // (world * (learns.updates if learns else 1)))
    return Training(
        config=architecture,
        policy=policy,
        spread=spread,
        pixels=(policy.pixels or PixelBudget()).max,
        micro_batch_tokens=tokens,
        row_tokens=int(data.get("row_tokens") or 512),
        group=learns.sampling.group_size if learns else 0,
        new_tokens=learns.sampling.max_new_tokens if learns else module.max_new_tokens,
        prompts=prompts,
        max_rows=_rows_at_a_time(trainer.get("callbacks") or []),
        eval_rows=int(data.get("eval_batch_size") or 32),
        eval_tokens=module.max_new_tokens,
        kl=learns is not None and learns.kl is not None,
        masked=_is_masked(module, spread),
    )


def spread_of(trainer: Mapping[str, Any], world: int) -> Spread:
    """How the trainer's settings spread a training over `world` ranks."""
    strategy = trainer.get("strategy")
    named, options = (strategy, {}) if not isinstance(strategy, Mapping) else (
        strategy.get("class_path", ""), strategy.get("init_args") or {}
    )  # fmt: skip
    sharded = str(named).endswith(("fsdp2", "FSDP2Strategy"))
    shards = int(options.get("shard") or max(1, world // int(options.get("replicate") or 1))) if sharded else 1
    accelerator = str(trainer.get("accelerator") or "auto")
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return Spread(
        world=world,
        shards=shards,
        offload=bool(options.get("offload")),
        prefetch=int(options.get("prefetch", 1)),
        half=str(trainer.get("precision")).startswith("bf16"),
        gpu=gpu,
    )


def ranks_of(trainer: Mapping[str, Any]) -> int:
    """How many ranks the trainer's settings ask for; `auto` are the devices of this machine."""
    devices, nodes = trainer.get("devices"), int(trainer.get("num_nodes") or 1)
    if isinstance(devices, list):
        return len(devices) * nodes
    text = str(devices)
    if "," in text:
        return len([one for one in text.split(",") if one.strip()]) * nodes
    here = max(1, torch.cuda.device_count())
    return (int(text) if text.isdigit() else here) * nodes


def device_room(kind: str) -> float | None:
    """Bytes that a device of this machine has; None where that is not known, as of a CPU, which others share."""
    if kind != "cuda" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.mem_get_info()[1])


def said_of(found: Footprint) -> str:
    """The parts of a footprint in one line."""
    held = {"weights": found.weights, "AdamW": found.optimizer, "the KL term's copy": found.reference}
    held |= {"weights in bfloat16": found.casts, "on the host instead": found.host}
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in held.items() if size)
    return (
        f"Memory of a rank, reckoned: {_gib(found.peak)} GiB at the most; an update {_gib(found.update)}, a sampling "
        f"or validation {_gib(found.sampling)} ({parts}; gradients {_gib(found.gradients)}, activations "
        f"{_gib(found.activations or found.first)}; keys and values {_gib(found.cache)})."
    )


def table_of(training: Training, found: Footprint) -> Table:
    """The parts of a footprint, in GiB of one rank, and the most of an update and of a sampling."""
    one = found.activations == 0  # a single micro-batch, whose activations go as gradients come
    rows: list[tuple[str | int | float | None, ...]] = []
    for name, meaning, phase in PARTS:
        size = found.first if name == "activations" and one else int(getattr(found, name))
        if size:
            update = _gib(size) if phase in ("both", "update") else ""
            rows.append((name, meaning, update, _gib(size) if phase in ("both", "sampling") else ""))
    rows.append(("at the most", "at one moment", _gib(found.update), _gib(found.sampling)))
    if found.host:
        rows.append(("host", "weights, gradients and AdamW's means, in the host's memory", _gib(found.host), ""))
    return Table(("part", "what it is", "update", "sampling"), tuple(rows), _title(training), _note(training))


def _title(training: Training) -> str:
    spread, model = training.spread, training.model
    over = f"{spread.world} ranks" if spread.world > 1 else "one rank"
    parts = f", {spread.shards} of which share a copy" if spread.shards > 1 else ""
    return (
        f"Memory of a rank in GiB: {model.weights / 1e9:.2f} billion weights, {model.trained / 1e9:.2f} trained, on "
        f"{over}{parts}"
    )


def _note(training: Training) -> str:
    rows = training.updates()[0]
    kind = f"{rows.group} completions of {training.new_tokens} tokens each" if rows.group else "packed examples"
    return (
        f"Reckoned from the config for {rows.rows * rows.width:,} tokens in a micro-batch ({rows.rows} x "
        f"{rows.width:,}, {kind}), images of {training.image_tokens:,} tokens and questions of {QUESTION}. A driver "
        "takes up to 1 GiB besides, and of the device's memory a tenth should stay free."
    )


def _rows_at_a_time(callbacks: Sequence[Any] | Mapping[str, Any]) -> int:
    """The engine's `max_rows`, wherever the callbacks have it."""
    for one in [callbacks] if isinstance(callbacks, Mapping) else callbacks:
        options = (one.get("init_args") or {}) if isinstance(one, Mapping) else {}
        engine = options.get("engine")
        if isinstance(engine, Mapping) and "max_rows" in (engine.get("init_args") or {}):
            return int(engine["init_args"]["max_rows"])
    return InProcess().max_rows


def _is_masked(module: PolicyModule, spread: Spread) -> bool:
    """Whether attention goes by masks: as the policy settled it, or as it would on a device of that kind."""
    policy, asked = module.policy_config, module.policy_config.attention
    if asked == "auto":
        device = torch.device("cuda" if spread.gpu else "cpu")
        asked, _ = choose_attention("auto", None, device, "bf16-mixed" if spread.half else "32-true", trains=True)
    return asked not in VARLEN or policy.prefix_attention not in (None, "varlen")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size >= 0.05 * GIB else f"{size / GIB:.3f}"
