"""Settings that a config may spell but a training here could not keep to, each with the one to use instead."""

from __future__ import annotations

import inspect
import math
import pydoc
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args

from fgvr.datamodules.base import ShardDataModule
from fgvr.errors import UserError
from fgvr.modules.base import PolicyModule
from fgvr.settings.classes import class_named, hints_of, members, nearest
from fgvr.settings.precisions import PRECISIONS, precision_refused
from fgvr.strategies import is_supported
from fgvr.strategies.asked import is_name, parts_asked, ranks_of, shards_asked

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "single_device", "fsdp2")
# what stands against others, by the beginning of their names
AGAINST = (
    (("deepspeed", "DeepSpeed"), "it brings an optimiser and checkpoints of its own"),
    (("fsdp", "FSDP"), "it cannot clip gradients by their norm, and writes checkpoints of its own"),
    (("model_parallel", "ModelParallel"), "it leaves the model in one piece, and writes checkpoints of its own"),
    (("ddp_spawn", "ddp_fork", "ddp_notebook"), "processes that it starts cannot tend one run's folder together"),
)
STRATEGY = "trainer.strategy must be auto, ddp or fsdp2"
WHAT_EACH_HOLDS = "ddp each device holds the whole model, with fsdp2 (fgvr.strategies.FSDP2Strategy) a part of it."
DEVICES = re.compile(r"auto|-?\d+(\s*,\s*\d+)*,?")
NOT_CLIPPED = "the modules clip the gradient themselves, so set model.init_args.optimizer.max_grad_norm instead"
# settings of Lightning's own loop, which the modules here do not run in: what is meant by leaving it alone, what to set
OF_THE_LOOP = (
    ("gradient_clip_val", ("None",), NOT_CLIPPED),
    ("gradient_clip_algorithm", ("None",), NOT_CLIPPED),
    (
        "accumulate_grad_batches",
        ("1",),
        "data.init_args.batch_size counts the examples of a whole step, over all devices, and micro_batch_tokens what "
        "is in memory at a time: raise the one or lower the other instead",
    ),
)
# settings that cut a stream short, which counts its own batches; as text, because 1.0 is everything and 1 one batch
CUTTING = (("limit_train_batches", ("None", "1.0")), ("overfit_batches", ("None", "0.0", "0")))


# how often something happens: the least that may be said, and what else may be said instead of a number
COUNTED = (
    ("max_steps", 1, "-1 for as many as max_epochs makes"),
    ("max_epochs", 1, "-1 for no end but max_steps"),
    ("min_steps", 0, "null"),
    ("min_epochs", 0, "null"),
    ("check_val_every_n_epoch", 1, "null to count val_check_interval over epochs"),
    ("log_every_n_steps", 1, ""),
)
SEEDS = 2**32
TIME = re.compile(r"\d+:\d\d:\d\d:\d\d")


def refuse_seed(seed: Any) -> None:
    """Raises UserError for a seed that numpy would not take."""
    if not isinstance(seed, bool) and seed is not None and not 0 <= int(seed) < SEEDS:
        raise UserError(f"seed_everything must be at least 0 and below {SEEDS}, got {seed}: give another number.")


def refuse_numbers(config: Mapping[str, Any]) -> None:
    """Raises UserError for a number that none of the commands could work with, wherever it stands."""
    for place, value in _numbers(config, ""):
        if not math.isfinite(value):
            raise UserError(f"{place} must be a finite number, got {value}: give another one.")
    _refuse_short_silence(config)
    trainer = config["trainer"]
    for key, least, otherwise in COUNTED:
        value = trainer.get(key)
        if value is not None and value < least and not (otherwise.startswith("-1") and value == -1):
            instead = f", or {otherwise}" if otherwise else ""
            raise UserError(f"trainer.{key} must be at least {least}{instead}, got {value}.")
    if trainer.get("val_check_interval") == 0:
        raise UserError(
            "trainer.val_check_interval must be a number of batches or a share of an epoch, got 0: to train without "
            "validation set trainer.limit_val_batches to 0."
        )
    time = trainer.get("max_time")
    if isinstance(time, str) and not TIME.fullmatch(time):
        raise UserError(
            f"trainer.max_time must have the form DD:HH:MM:SS, got {time}: five minutes are 00:00:05:00, one day is "
            "01:00:00:00."
        )


def _refuse_short_silence(config: Mapping[str, Any]) -> None:
    """Raises UserError where a watchdog would end a run that still waits for a judge, as it was told to."""
    silence = (config.get("run") or {}).get("silence")
    waits = [(value, place) for place, value in _numbers(config, "") if place.endswith("server.patience")]
    patience, place = max(waits, default=(0.0, ""))
    if silence is not None and 0 < silence <= patience:
        raise UserError(
            f"run.silence must be longer than a judge is waited for, but it is {silence:g} s and {place} {patience:g} "
            "s: raise the one or lower the other."
        )


def refuse_nulls(settings: Mapping[str, Any], roots: Mapping[str, type]) -> None:
    """Raises UserError for a null where something must stand: of all settings only those in yaml go unchecked.

    `roots` names the classes of the sections that do not name theirs.
    """
    for section, value in settings.items():
        for place, hint in _nulls(value, roots.get(section), section):
            raise UserError(f"{place} must be {_described(hint)}, got null: give one, or leave the setting out.")


def refuse_settings(config: Mapping[str, Any], trains: bool) -> None:
    """Raises UserError for what the trainer could be told but a run here could not keep to.

    What only a training would not keep to is refused where the run `trains`.
    """
    trainer = config["trainer"]
    if str(trainer.get("precision")) not in PRECISIONS:
        raise UserError(precision_refused(trainer["precision"]))
    devices = trainer.get("devices")
    if isinstance(devices, str) and not DEVICES.fullmatch(devices):
        raise UserError(
            f"trainer.devices must be how many devices to use, a list of their numbers or auto, got {devices}: give a "
            "number."
        )
    data, model = (pydoc.locate(config[section]["class_path"]) for section in ("data", "model"))
    if isinstance(model, type) and issubclass(model, PolicyModule):
        _refuse_another_strategy(trainer, config.get("seed_everything"))
        if trains:
            _refuse_another_loop(trainer, model.__name__)
    if trains and isinstance(data, type) and issubclass(data, ShardDataModule):
        _refuse_cutting(trainer, data.__name__)


def users_own(error: BaseException) -> BaseException:
    """The UserError that jsonargparse wrapped on its way up, or one of a package that is lacking; else `error`."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return link
        if isinstance(link, ModuleNotFoundError):
            return UserError(_lacking(str(link), str(error)))
        link = link.__cause__ or link.__context__
    return error


def _refuse_another_loop(trainer: Mapping[str, Any], module: str) -> None:
    for key, unset, instead in OF_THE_LOOP:
        if str(trainer.get(key)) not in unset:
            raise UserError(f"trainer.{key} must be left out with {module}, got {trainer[key]}: {instead}.")


def _refuse_another_strategy(trainer: Mapping[str, Any], seed: Any) -> None:
    strategy: Any = trainer.get("strategy")
    name, known = strategy, strategy in STRATEGIES
    if isinstance(strategy, Mapping):
        kind = pydoc.locate(strategy["class_path"])
        method = (strategy.get("init_args") or {}).get("start_method", "popen")
        name = strategy["class_path"].rpartition(".")[2] if method == "popen" else f"ddp_{method}"
        known = is_supported(kind) and method == "popen"
    elif not known and not is_name(name):
        near = nearest(name, STRATEGIES)
        meant = f"did you mean {near}? With" if near else "with"
        raise UserError(f"{STRATEGY}, got {name}: {meant} {WHAT_EACH_HOLDS}")
    if not known:
        why = next((f" ({reason})" for starts, reason in AGAINST if name.startswith(starts)), "")
        raise UserError(f"{STRATEGY}, got {name}{why}: with {WHAT_EACH_HOLDS}")
    if parts_asked(trainer) is not None:
        _refuse_parts(trainer, seed)


def _refuse_parts(trainer: Mapping[str, Any], seed: Any) -> None:
    if seed is False:
        raise UserError(
            "seed_everything must be a number with the strategy fsdp2, got false: no process is sent the weights of "
            "another, so all must draw the same ones."
        )
    if world := ranks_of(trainer):  # of none the trainer says what it must be
        shards_asked(trainer, world)


def _refuse_cutting(trainer: Mapping[str, Any], data: str) -> None:
    for key, unset in CUTTING:
        if str(trainer.get(key)) not in unset:
            raise UserError(
                f"trainer.{key} must be left out with {data}, got {trainer[key]}: the stream counts its own "
                "batches, so shorten an epoch with data.init_args.epoch_length instead."
            )


def _lacking(message: str, around: str) -> str:
    wanted = re.search(r"pip install (?:-U )?'?([\w.-]+)|No module named '([\w-]+)", message)
    named = next((name for name in wanted.groups() if name), "") if wanted else ""
    owner = re.search(r"class_path '([\w.]+)'", around)
    what = owner[1] if owner else "this config"
    return f"{what} needs the package {named or message}, which is not installed: pip install {named or 'it'}."


def _nulls(value: Any, hint: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Where a null stands although the type (None if unknown) does not allow it."""
    if value is None:
        if hint is not None and NoneType not in members(hint) and Any not in members(hint):
            yield place, hint
    elif isinstance(value, list):
        inner = next((arg for option in members(hint) for arg in get_args(option)), None)
        for index, entry in enumerate(value):
            yield from _nulls(entry, inner, f"{place}[{index}]")
    elif isinstance(value, dict):
        shape = next((option for option in members(hint) if is_dataclass(option)), hint if _is_section(hint) else None)
        named = class_named(value.get("class_path"))
        kind, given, inside = (shape, value, place)
        if named is not None:
            kind, given, inside = named, value.get("init_args") or {}, f"{place}.init_args"
        for key, entry in given.items() if kind is not None else ():
            yield from _nulls(entry, _typed(kind, key), f"{inside}.{key}")


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        within = f"{place}[{key}]" if isinstance(value, list) else f"{place}.{key}".removeprefix(".")
        yield from ((within, entry),) if isinstance(entry, float) else _numbers(entry, within)


def _is_section(hint: Any) -> bool:
    return inspect.isclass(hint) and hint.__module__.startswith(("lightning.", "fgvr."))


def _typed(kind: Any, key: str) -> Any:
    """The type of one of a class's parameters; None where it is unknown or null is the default."""
    for base in inspect.getmro(kind):
        own = vars(base).get("__init__")
        parameter = inspect.signature(own).parameters.get(key) if own is not None else None
        if parameter is not None:
            return None if parameter.default is None else hints_of(kind).get(key)
    return None


def _described(hint: Any) -> str:
    return f"of type {hint.__name__ if inspect.isclass(hint) else re.sub(r'[a-z_]+[.]', '', str(hint))}"
