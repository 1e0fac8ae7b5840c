"""What a run is made of: its settings, its data and the code, each as something that can be compared and named."""

from __future__ import annotations

import hashlib
import inspect
import json
import pydoc
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import fgvr
from fgvr.errors import UserError

Changeable = Literal["config", "data", "code"]

# These change how fast a run goes or what it prints, never what it learns.
WITHOUT_EFFECT = frozenset(
    {
        "attention",  # which kernel computes it, with another rounding at the most
        "prefix_attention",
        "workers",
        "num_workers",
        "prefetch",
        "prefetch_factor",
        "pin_memory",
        "persistent_workers",
        "eval_batch_size",
        "predict",
        "allow_leaks",  # whether it is evaluated at all, not what is learned
        "server",  # where a judge is asked, and how patiently; what it is asked and which model it is do count
        "cache",
        "offline",
    }
)
TRAINER_KEYS = frozenset(
    {
        "max_epochs",
        "max_steps",
        "accumulate_grad_batches",
        "gradient_clip_val",
        "gradient_clip_algorithm",
        "precision",
        "limit_train_batches",
    }
)
# what classes were called when older checkpoints were saved
RENAMED = {
    "fgvr.data.aviary.Aviary": "fgvr.aviary.Aviary",
    "fgvr.data.sources.CSV": "fgvr.sources.CSV",
    "fgvr.data.sources.ImageFolder": "fgvr.sources.ImageFolder",
    "fgvr.data.tasks.ClosedWorld": "fgvr.data.ClosedWorld",
    "fgvr.data.tasks.OpenWorld": "fgvr.data.OpenWorld",
}
# callbacks that decide what is learned, not only when something is written
DECIDING = ("RolloutGeneration", "CollapseWatch", "OptionRefresh")


def fingerprint(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of this config is made of, but for its data: settings, and code, that of one's own classes too."""
    settings = config_fingerprint(config)
    return {"config": settings, "code": {**code_fingerprint(), **own_code(settings)}}


def config_fingerprint(config: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.init_args.lr": 1e-05, ...}`: every setting that decides what is learned, flattened, as plain values."""
    sections = {key: config[key] for key in ("model", "data", "seed_everything") if key in config}
    trainer = config.get("trainer") or {}
    sections["trainer"] = {key: trainer[key] for key in sorted(TRAINER_KEYS) if key in trainer}
    for callback in trainer.get("callbacks") or []:
        name = str(callback.get("class_path", "")).rpartition(".")[2]
        if name in DECIDING:
            sections["trainer"][name] = callback.get("init_args")
    return _deciding(dict(_flatten(json.loads(json.dumps(sections, default=str)), "")))


def code_fingerprint(package: Path | None = None) -> dict[str, str]:
    """The version, and for each source file of the package the first 16 hex digits of its sha256."""
    root = package or Path(fgvr.__file__).parent
    sources = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(root.rglob("*.py"))
    }
    return {"version": fgvr.__version__, **sources}


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """As `code_fingerprint`, of the files that hold the classes of one's own which a `config_fingerprint` names.

    What they import besides, and what is installed as a package, is not looked at.
    """
    paths = {str(value) for key, value in config.items() if key.rpartition(".")[2] == "class_path"}
    modules = set[str]()
    for path in paths:
        if path.partition(".")[0] == fgvr.__name__:
            continue
        with suppress(pydoc.ErrorDuringImport):  # then it is not there to be compared
            kind = pydoc.locate(path)
            modules |= {kind.__module__} if inspect.isclass(kind) else set()
    return own_files(modules)


def own_files(modules: Collection[str]) -> dict[str, str]:
    """As `own_code`, of modules by their names; those that are not found, or installed as packages, are left out.

    None of them is imported, but packages that hold one are.
    """
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    installed.add(Path(fgvr.__file__).parent.resolve())
    found: dict[str, str] = {}
    for module in modules:
        with suppress(ImportError, ValueError):
            spec = find_spec(module)
            if (
                spec is not None
                and spec.has_location
                and installed.isdisjoint(Path(str(spec.origin)).resolve().parents)
            ):
                digest = hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()
                found[f"{module.replace('.', '/')}.py"] = digest[:16]
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """Per part ("config", "data", "code") what differs, as `key: old -> new`, source files by name alone.

    A part that agrees, or that one side does not have, is absent. A class that has another name now is the same class,
    and what decides nothing today is not asked of an older run either. A setting that only one side has says nothing
    where it is an empty list or mapping.
    """
    found: dict[str, list[str]] = {}
    for part in ("config", "data", "code"):
        old, new = then.get(part), now.get(part)
        if old is None or new is None or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if part == "config":
                old, new = _deciding(old), _deciding(new)
            old, new = _renamed(old), _renamed(new)
            changed = [key for key in sorted({*old, *new}) if not _agree(old, new, key)]
            if changed and part == "code":
                found[part] = [f"{key} {_became(old, new, key)}" for key in changed]
            elif changed:
                found[part] = [f"{key}: {_show(old, key)} -> {_show(new, key)}" for key in changed]
        else:
            found[part] = [f"fingerprint: {str(old)[:16]} -> {str(new)[:16]}"]
    return found


def refuse_changes(then: Mapping[str, Any], now: Mapping[str, Any], allowed: Collection[str], source: Path) -> None:
    """Raises UserError naming every difference that `allowed` does not cover."""
    changed = {part: lines for part, lines in differences(then, now).items() if part not in allowed}
    if not changed:
        return
    named = "; ".join(f"{part}: {_shorten(lines)}" for part, lines in changed.items())
    raise UserError(
        f"Resuming {source} would mix two different runs, because this changed since it was saved: {named}. "
        f"Undo the change, name it as meant with --run.allow_changed '[{','.join(changed)}]', "
        "or start again with --run.fresh true."
    )


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        entries = [(f"{prefix}.{key}" if prefix else str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [(f"{prefix}[{index}]", entry) for index, entry in enumerate(value)]
    if not entries:
        yield prefix, value
    for key, entry in entries:
        yield from _flatten(entry, key)


def _deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if WITHOUT_EFFECT.isdisjoint(key.split("."))}


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: RENAMED.get(value, value) if isinstance(value, str) else value for key, value in values.items()}


def _agree(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    if key in old and key in new:
        return _show(old, key) == _show(new, key)
    return (old if key in old else new)[key] in ([], {})


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "absent"


def _became(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> str:
    """Of a source file."""
    return "is not found" if key not in new else "is new" if key not in old else "changed"


def _shorten(lines: list[str], most: int = 8) -> str:
    rest = f", and {len(lines) - most} more" if len(lines) > most else ""
    return ", ".join(lines[:most]) + rest
