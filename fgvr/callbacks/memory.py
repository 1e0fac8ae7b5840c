"""What a training will hold in a device's memory, said before its first step, when something can still be changed."""

from __future__ import annotations

import inspect
import logging
import pydoc
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.datamodules import SFTData
from fgvr.errors import refuse_below
from fgvr.models.attention_choice import VARLEN, choose_attention
from fgvr.models.fitting import DRIVER, GIB, QUESTION, SPARE, Training, advice, gib, verdict
from fgvr.models.footprint import Footprint, Spread
from fgvr.models.processor import PixelBudget
from fgvr.modules import GRPO
from fgvr.modules.base import PolicyModule
from fgvr.pictures.tables import Table
from fgvr.rollouts import InProcess
from fgvr.strategies.asked import on_gpu, parts_asked, shards_asked

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
        if ways := advice(training, room):
            log.warning("%s It needs less with", verdict(training, room))
            for way in ways:
                log.warning("- %s", way)


def training_of(module: PolicyModule, config: Mapping[str, Any], world: int, architecture: Any) -> Training:
    """The settings of a run that decide its memory; `config` are all of its settings, `world` are its ranks."""
    data, trainer = config["data"], config["trainer"]
    policy, spread = module.policy_config, spread_of(trainer, world)
    learns = module if isinstance(module, GRPO) else None
    return Training(
        config=architecture,
        policy=policy,
        spread=spread,
        pixels=(policy.pixels or PixelBudget()).max,
        micro_batch_tokens=learns.micro_batch_tokens if learns else _of_data(data, "micro_batch_tokens"),
        row_tokens=_of_data(data, "row_tokens"),
        group=learns.sampling.group_size if learns else 0,
        new_tokens=learns.sampling.max_new_tokens if learns else module.max_new_tokens,
        batch=-(-_of_data(data, "batch_size") // (learns.updates if learns else 1)),
        max_rows=_rows_at_a_time(trainer.get("callbacks") or []),
        eval_rows=_of_data(data, "eval_batch_size"),
        eval_tokens=module.max_new_tokens,
        kl=learns is not None and learns.kl is not None,
        masked=_is_masked(module, spread),
    )


def spread_of(trainer: Mapping[str, Any], world: int) -> Spread:
    """How the trainer's settings spread a training over `world` ranks. Raises UserError where these do not divide."""
    options = parts_asked(trainer) or {}
    return Spread(
        world=world,
        shards=shards_asked(trainer, world),
        offload=bool(options.get("offload")),
        prefetch=int(options.get("prefetch", 1)),
        half=str(trainer.get("precision")).startswith("bf16"),
        gpu=on_gpu(trainer),
    )


def device_room(kind: str) -> float | None:
    """Bytes that a device of this machine has; None where that is not known, as of a CPU, which others share."""
    if kind != "cuda" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.mem_get_info()[1])


def said_of(found: Footprint) -> str:
    """The parts of a footprint in one line."""
    held = {"weights": found.weights, "AdamW": found.optimizer, "the KL term's copy": found.reference}
    held |= {"weights in bfloat16": found.casts, "on the host instead": found.host}
    parts = ", ".join(f"{name} {gib(size)}" for name, size in held.items() if size)
    return (
        f"Memory of a rank, reckoned: {gib(found.peak)} GiB at the most; an update {gib(found.update)}, a sampling "
        f"or validation {gib(found.sampling)} ({parts}; gradients {gib(found.gradients)}, activations "
        f"{gib(found.activations or found.first)}; keys and values {gib(found.cache)})."
    )


def table_of(training: Training, found: Footprint) -> Table:
    """The parts of a footprint, in GiB of one rank, and the most of an update and of a sampling."""
    one = found.activations == 0  # a single micro-batch, whose activations go as gradients come
    rows: list[tuple[str | int | float | None, ...]] = []
    for name, meaning, phase in PARTS:
        size = found.first if name == "activations" and one else int(getattr(found, name))
        if size:
            update = gib(size) if phase in ("both", "update") else ""
            rows.append((name, meaning, update, gib(size) if phase in ("both", "sampling") else ""))
    rows.append(("at the most", "at one moment", gib(found.update), gib(found.sampling)))
    if found.host:
        rows.append(("host", "weights, gradients and AdamW's means, in the host's memory", gib(found.host), ""))
    return Table(("part", "what it is", "update", "sampling"), tuple(rows), _title(training), _note(training))


def _title(training: Training) -> str:
    spread, model = training.spread, training.model
    over = f"{spread.world} ranks" if spread.world > 1 else "one rank"
    parts = f", {spread.shards} of which share a copy" if spread.shards > 1 else ""
    return (
        f"Memory of a rank in GiB: {counted(model.weights)} weights, {counted(model.trained)} of them trained, on "
        f"{over}{parts}"
    )


def counted(weights: float) -> str:
    """As people say it: in billions, of a small model in millions."""
    return f"{weights / 1e9:.2f} billion" if weights >= 1e8 else f"{weights / 1e6:.2f} million"


def _note(training: Training) -> str:
    rows = training.updates()[0]
    kind = f"{rows.group} completions of {training.new_tokens} tokens each" if rows.group else "packed examples"
    return (
        f"Reckoned from the config for {rows.rows * rows.width:,} tokens in a micro-batch ({rows.rows} x "
        f"{rows.width:,}, {kind}), images of {training.image_tokens:,} tokens and questions of {QUESTION}. A GPU's "
        f"driver takes up to {DRIVER / GIB:.0f} GiB besides, and of the device's memory {SPARE:.0%} should stay free."
    )


def _of_data(data: Mapping[str, Any], name: str) -> int:
    """A number of the data's settings; left out, the default of their class, or SFTData's where that has none."""
    given = (data.get("init_args") or {}).get(name)
    if given is not None:
        refuse_below(1, "data", **{name: given})
        return int(given)
    kind = pydoc.locate(str(data.get("class_path")))
    classes = (*(kind.__mro__ if isinstance(kind, type) else ()), *SFTData.__mro__)
    told = (inspect.signature(one.__init__).parameters.get(name) for one in classes if "__init__" in vars(one))
    return next(parameter.default for parameter in told if parameter is not None)


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
