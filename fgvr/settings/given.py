"""What a command line gives: its options, its config files, and the classes that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


def config_files(args: Sequence[str]) -> list[Path]:
    """Paths given as `--config PATH`, `--config=PATH` or `-c PATH`, in order."""
    return [Path(value) for key, value in options_in(args) if key in ("config", "c") and value]


def class_given_for(owner: str, args: Sequence[str]) -> str | None:
    """The class that the configs and the command line last name for a setting; None where they name none."""
    path: str | None = None
    for file in config_files(args):
        entry: Any = content_of(file)
        for part in owner.replace(".init_args", "").split("."):
            inner = entry.get("init_args") if isinstance(entry, dict) else None
            entry = inner.get(part) if isinstance(inner, dict) else entry.get(part) if isinstance(entry, dict) else None
        if isinstance(entry, dict):
            path = entry.get("class_path", path)
    short = owner.replace(".init_args", "")
    names = {short, f"{short}.class_path"}
    return next((value for key, value in options_in(args) if key.replace(".init_args", "") in names and value), path)


def content_of(file: Path) -> dict[str, Any]:
    """A config as plain values; empty where it cannot be read."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException):
        return {}
    return content if isinstance(content, dict) else {}


def options_in(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for index, arg in enumerate(args):
        if re.match(r"^--?[A-Za-z]", arg):
            key, equals, value = arg.lstrip("-").partition("=")
            following = args[index + 1] if index + 1 < len(args) and not args[index + 1].startswith("--") else None
            yield key, value if equals else following


def plain_config(dumped: str, verb: str) -> dict[str, Any]:
    """The settings of one command as plain values, from what the parser of all of them dumps as json."""
    config: dict[str, Any] = json.loads(dumped)
    trainer = config.get(verb, config)["trainer"]
    if isinstance(trainer.get("callbacks"), dict):  # one, which need not stand in a list
        trainer["callbacks"] = [trainer["callbacks"]]
    return {key: value for key, value in config.get(verb, config).items() if key not in ("config", "ckpt_path")}
