"""Classes as settings: what a path or a short name leads to, what may be told to it, and what was meant instead."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import sys
import types
import typing
from argparse import SUPPRESS
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

WHERE = ": one of your own must lie in the folder that the command is typed in, or in one that PYTHONPATH names."
BUILDING_BLOCKS = ("lightning", "torch")  # packages whose classes are seldom what a config chooses


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`; None when none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(set(names)), n=1, cutoff=0.55)), None)


def missing_class(class_path: str) -> str | None:
    """A sentence with the nearest name when `class_path` leads nowhere; None when it can be imported."""
    parts = class_path.split(".")
    if not all(parts):
        return f"{class_path} is no path of a class, which is as package.module.Class{WHERE}"
    module, depth = None, 0
    for depth in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:depth]))
            break
        except ModuleNotFoundError as error:
            if error.name is None or not class_path.startswith(error.name):
                return f"{class_path} needs the module {error.name}, which is not installed."
    if module is None:
        return f"there is no module {parts[0]} to import {class_path} from{WHERE}" if len(parts) > 1 else None
    if depth == len(parts) - 1 and hasattr(module, parts[-1]):
        return None if inspect.isclass(getattr(module, parts[-1])) else f"{class_path} is not a class."
    names = _names_of(module)
    near = nearest(parts[depth], names)
    hint = f"; the nearest is {module.__name__}.{near}" if near else f"; it has {', '.join(sorted(names))}"
    return f"there is no {parts[depth]} in {module.__name__}{hint}."


def _names_of(module: Any) -> list[str]:
    classes = [name for name, value in vars(module).items() if inspect.isclass(value) and not name.startswith("_")]
    packages = [Path(folder) for folder in getattr(module, "__path__", [])]
    modules = [path.stem for folder in packages for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()]
    return classes + [name for name in modules if not name.startswith("_")]


def class_parameters(cls: Any) -> set[str]:
    """Names that a config may give to `cls`, those it passes on to its bases included."""
    return {key.split(".")[0] for key in settings_of_class(cls)}


def settings_of_class(cls: Any) -> set[str]:
    """As `class_parameters`, with the fields of dataclasses: `optimizer.lr`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "it", fail_untyped=False)
    return {key.removeprefix("it.") for key in settings_of(parser) if key.startswith("it.")}


def known_classes(hint: Any) -> dict[str, type]:
    """The classes that a setting of type `hint` may name, shortest first, by the path to give; none for other types.

    Those of lightning and torch are left out where there are others.
    """
    found = {path_of(kind): kind for kind in _classes_for(hint)}
    own = {path: kind for path, kind in found.items() if path.split(".")[0] not in BUILDING_BLOCKS}
    return own or found


def _classes_for(hint: Any) -> list[type]:
    bases = [option for option in members(hint) if inspect.isclass(option) and not dataclasses.is_dataclass(option)]
    named = [base for base in bases if base.__module__.split(".")[0] not in sys.stdlib_module_names]
    found = {kind for base in named for kind in _subclasses(base)}
    return sorted(found, key=lambda kind: (len(kind.__name__), kind.__name__))


def path_of(kind: type) -> str:
    """The shortest path to import a class by: that of the highest package that has it."""
    parts = kind.__module__.split(".")
    for depth in range(1, len(parts)):
        package = sys.modules.get(".".join(parts[:depth]))
        if getattr(package, kind.__name__, None) is kind:
            return f"{'.'.join(parts[:depth])}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _subclasses(base: type) -> Iterator[type]:
    for kind in base.__subclasses__():
        public = not any(part.startswith("_") for part in f"{kind.__module__}.{kind.__qualname__}".split("."))
        if public and not inspect.isabstract(kind):
            yield kind
        yield from _subclasses(kind)


def class_named(path: Any, hint: Any = None) -> type | None:
    """The class at an import path, or of those that `hint` allows the one of that short name; None if there is none."""
    if not isinstance(path, str):
        return None
    if "." not in path:
        return next((kind for kind in _classes_for(hint) if kind.__name__ == path), None)
    return _import(path) if missing_class(path) is None else None


def typed(parser: ArgumentParser, key: str) -> Any:
    """The type of one of a parser's own settings; None where it is unknown."""
    return next((getattr(action, "_typehint", None) for action in parser._actions if action.dest == key), None)


def settings_of(parser: ArgumentParser) -> set[str]:
    """Every key that a config of this parser may hold, down to where a class is named."""
    with_default = set(parser.get_defaults(skip_validation=True).keys())
    left_out = {one.dest for one in parser._actions if one.default == SUPPRESS and hasattr(one, "_typehint")}
    return (with_default | left_out) - {"config"}


def members(hint: Any) -> list[Any]:
    """The members of a union, or the hint itself."""
    origin = typing.get_origin(hint)
    return list(typing.get_args(hint)) if origin in (typing.Union, types.UnionType) else [hint]


def hints_of(cls: Any) -> dict[str, Any]:
    """The types of what a class and its bases are told; without those that cannot be resolved."""
    hints: dict[str, Any] = {}
    for base in reversed(inspect.getmro(cls)):
        if "__init__" in vars(base):
            try:
                hints |= typing.get_type_hints(base.__init__)
            except (NameError, TypeError):
                continue
    return hints


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
