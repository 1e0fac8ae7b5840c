"""Config files laid over each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

log = logging.getLogger(__name__)


def say_replaced_lists(files: Sequence[Path]) -> None:
    """Says on the log what `replaced_lists` finds."""
    for line in replaced_lists(files):
        log.info(line)


def replaced_lists(files: Sequence[Path]) -> list[str]:
    """A sentence for each list that a later file puts in the place of an earlier one's, with what was in that."""
    said: list[str] = []
    held: dict[str, tuple[Path, list[Any]]] = {}
    for file in files:
        for key, value in _lists(OmegaConf.to_container(OmegaConf.load(file)), ""):
            if key in held and held[key][1] != value:
                earlier, entries = held[key]
                last = key.rpartition(".")[2]
                said.append(
                    f"{file} puts its own {key} in the place of those in {earlier} "
                    f"({', '.join(map(_name, entries)) or 'none'}): write `{last}+:` to add to them."
                )
            held[key] = file, value
    return said


def _lists(value: Any, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list):
        yield prefix, value
    for key, entry in value.items() if isinstance(value, Mapping) else ():
        yield from _lists(entry, f"{prefix}.{key}" if prefix else str(key))


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return str(entry.get("class_path", entry.get("path", "..."))).rpartition(".")[2]
    return str(entry)
