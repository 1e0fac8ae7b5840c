"""What a setting takes, in words, and the place where something else was given."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from fgvr.settings.classes import class_named, hints_of, known_classes, members

WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true/false", str: "text", Path: "a path"}
MANY: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}
EXAMPLES: dict[Any, str] = {int: "1", float: "0.5", bool: "true", str: "text", Path: "data/photos"}
LISTS = (list, tuple, Sequence)


def misfits(value: Any, hint: Any, place: str) -> Iterator[str]:
    """Sentences for what in a value of a config is not of its setting's type; none where the type is not known."""
    if _fits(value, hint):
        return
    found: list[str] = []
    for option in members(hint):
        if typing.get_origin(option) in LISTS and isinstance(value, list) and _inner(option) not in WORDS:
            for index, entry in enumerate(value):
                found += misfits(entry, _inner(option), f"{place}[{index}]")
        elif dataclasses.is_dataclass(option) and isinstance(value, dict):
            hints = hints_of(option)
            for key, entry in value.items():
                found += misfits(entry, hints.get(key), f"{place}.{key}")
        elif isinstance(value, dict) and class_named(_path_in(value), option) is not None:
            hints = hints_of(class_named(_path_in(value), option))
            for key, entry in (value.get("init_args") or {}).items():
                found += misfits(entry, hints.get(key), f"{place}.init_args.{key}")
    yield from found or [f"{place} must be {takes(hint)}, got {_told(value)}."]


def takes(hint: Any) -> str:
    """A type in words: "a whole number or true/false", "a list of paths, such as [data/photos]"."""
    options = [option for option in members(hint) if option is not NoneType]
    if float in options:
        options = [option for option in options if option is not int]
    options.sort(key=lambda option: option is bool)
    words = [_words(option) for option in options]
    return " or ".join(dict.fromkeys(word for word in words if word))


def _words(option: Any) -> str:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is Literal:
        return f"{'one of ' if len(arguments) > 1 else ''}{', '.join(map(str, arguments))}"
    if origin in LISTS:
        inner = _inner(option)
        return f"a list of {_many(inner)}, such as {_example(option)}"
    if dataclasses.is_dataclass(option):
        return f"a mapping such as {_example(option)}"
    if classes := known_classes(option):
        return f"one of the classes {', '.join(kind.__name__ for kind in classes.values())}"
    return WORDS.get(option) or f"of type {getattr(option, '__name__', option)}"


def _many(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if dataclasses.is_dataclass(kind):
        return "mappings"
    return MANY.get(kind) or f"{getattr(kind, '__name__', 'entry')} objects"


def _example(option: Any) -> str:
    if typing.get_origin(option) is tuple:
        inner = [one for one in typing.get_args(option) if one is not ...]
        return f"[{', '.join(map(_example, inner))}]"
    if typing.get_origin(option) in LISTS:
        return f"[{_example(_inner(option))}]"
    if typing.get_origin(option) is Literal:
        return str(typing.get_args(option)[0])
    if dataclasses.is_dataclass(option) and inspect.isclass(option):
        fields, hints = dataclasses.fields(option), hints_of(option)
        first = next((one for one in fields if one.default is one.default_factory), fields[0])
        return f"{{{first.name}: {_example(hints[first.name])}}}"
    return EXAMPLES.get(option, getattr(option, "__name__", "..."))


def _fits(value: Any, hint: Any) -> bool:
    refers = isinstance(value, str) and "${" in value  # to another setting
    return hint is None or refers or any(_fits_one(value, option) for option in members(hint))


def _fits_one(value: Any, option: Any) -> bool:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if option is NoneType:
        return value is None
    if origin is Literal:
        return value in arguments or str(value) in map(str, arguments)
    if option is bool:
        return isinstance(value, bool)
    if option in (int, float):
        return not isinstance(value, bool) and _is_number(value, option)
    if option in (str, Path):
        return not isinstance(value, list | dict) and value is not None
    if origin in LISTS or option in LISTS:
        return isinstance(value, list) and all(_fits(entry, _inner(option)) for entry in value)
    if dataclasses.is_dataclass(option):
        hints = hints_of(option)
        return isinstance(value, dict) and all(_fits(entry, hints.get(key)) for key, entry in value.items())
    if inspect.isclass(option) and issubclass(option, Enum):
        return str(value) in option.__members__
    if known_classes(option):
        return _fits_class(value, option)
    return True


def _fits_class(value: Any, option: Any) -> bool:
    kind = class_named(_path_in(value), option)
    if kind is None or not isinstance(value, Mapping):
        return isinstance(value, str | Mapping)  # of which class is said elsewhere
    hints = hints_of(kind)
    return all(_fits(entry, hints.get(key)) for key, entry in (value.get("init_args") or {}).items())


def _is_number(value: Any, kind: type) -> bool:
    try:
        kind(str(value))
    except ValueError:
        return False
    return True


def _inner(option: Any) -> Any:
    return next((one for one in typing.get_args(option) if one is not ...), None)


def _path_in(value: Any) -> Any:
    return value.get("class_path") if isinstance(value, Mapping) else None


def _told(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
