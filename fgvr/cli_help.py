"""Turns a refused command line into one sentence that names the key, its nearest valid name and the file."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

# what lightning calls otherwise
ELSEWHERE = {"ckpt_path": "run.resume"}
# lines of jsonargparse's messages that say nothing to a user
NOISE = (
    "Does not validate against",
    "Not of type Path",
    "Subtypes:",
    "Errors:",
    "Given value",
    "must be of type NoneType",
    "tip:",
    "usage:",
)
CLASS_KEYS = frozenset({"class_path", "init_args", "dict_kwargs"})


def explain(parser: ArgumentParser, args: Sequence[str], error: BaseException | str) -> str:
    """The first thing wrong in the config files, else on the command line, else the parser's own words in one line."""
    for file in config_files(args):
        for finding in _in_file(parser, file):
            return f"{file}: {finding}"
    for key, value in _options(args):
        for finding in _in_option(parser, key, value, args):
            return f"--{key}: {finding}"
    files = [value for key, value in _options(args) if key in ("config", "c")]
    only_file = len(files) == 1 and len(list(_options(args))) == 1
    return f"{files[0]}: {one_line(str(error))}" if only_file else one_line(str(error))


def config_files(args: Sequence[str]) -> list[Path]:
    """Paths given as `--config PATH`, `--config=PATH` or `-c PATH`, in order."""
    return [Path(value) for key, value in _options(args) if key in ("config", "c") and value]


def one_line(text: str) -> str:
    """Keeps of a message of many lines what says something, without the traceback of a worker process."""
    if "Original Traceback" in text:
        text = re.sub(r"^[\w.]+(Error|Exception): ", "", text.strip().splitlines()[-1])
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"Problem with given class_path '([^']+)':", r"\1:", text)
    text = re.sub(r"Expected an? typing\.Literal\[([^\]]*)\]", r"must be one of \1", text)
    text = re.sub(r"Expected an? ", "must be of type ", text).replace(". Got value:", ", got")
    text = re.sub(r"the following arguments are required: ([\w., ]+)$", _required, text)
    lines = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(NOISE))


def _required(message: re.Match[str]) -> str:
    names = [name.partition(".")[2] or name for name in message[1].split(", ")]
    if len(names) == 1:
        return f"{names[0]} is required: give it in the config or as --{names[0]}."
    return f"{', '.join(names[:-1])} and {names[-1]} are required: give --config FILE."


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`; None when none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(set(names)), n=1, cutoff=0.55)), None)


def missing_class(class_path: str) -> str | None:
    """A sentence with the nearest name when `class_path` leads nowhere; None when it can be imported."""
    parts = class_path.split(".")
    module, depth = None, 0
    for depth in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:depth]))
            break
        except ModuleNotFoundError as error:
            if error.name is None or not class_path.startswith(error.name):
                return f"{class_path} needs the module {error.name}, which is not installed."
    if module is None:
        return f"there is no module {parts[0]} to import {class_path} from." if len(parts) > 1 else None
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


def _in_file(parser: ArgumentParser, file: Path) -> Iterator[str]:
    if not file.is_file():
        yield "there is no such file." if not file.exists() else "this is not a file."
        return
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        yield f"{line}{error.problem}."
        return
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        yield one_line(str(error))
        return
    if not isinstance(content, dict):
        yield "a config must be a mapping of settings."
        return
    yield from _walk_parser(parser, typing.cast(dict[str, Any], content), "")


def _walk_parser(parser: ArgumentParser, content: dict[str, Any], prefix: str) -> Iterator[str]:
    leaves = _leaves(parser)
    for key, value in content.items():
        full = f"{prefix}{key}"
        if full in leaves:
            yield from _walk(value, None, full)
        elif any(leaf.startswith(f"{full}.") for leaf in leaves):
            if isinstance(value, dict):
                yield from _walk_parser(parser, value, f"{full}.")
        else:
            yield _unknown(full, prefix, _children(leaves, prefix), leaves)


def _walk(value: Any, hint: Any, where: str) -> Iterator[str]:
    """Looks at a value of type `hint` (None if unknown) for classes and keys that do not exist."""
    if isinstance(value, list):
        inner = next((arg for option in _options_of(hint) for arg in typing.get_args(option)), None)
        for index, entry in enumerate(value):
            yield from _walk(entry, inner, f"{where}[{index}]")
    elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
        path = value["class_path"]
        for key in value:
            if key not in CLASS_KEYS:
                yield _unknown(f"{where}.{key}", f"{where}.", CLASS_KEYS, ())
        if (finding := missing_class(path)) is not None:
            yield f"{where}: {finding}"
        elif "." in path and isinstance(value.get("init_args"), dict):
            yield from _walk_class(value["init_args"], _import(path), f"{where}.init_args")
    elif isinstance(value, dict):
        shape = next((option for option in _options_of(hint) if dataclasses.is_dataclass(option)), None)
        if shape is not None:
            yield from _walk_class(value, shape, where)


def _walk_class(values: dict[str, Any], cls: Any, where: str) -> Iterator[str]:
    names = class_parameters(cls)
    hints = _hints(cls)
    for key, value in values.items():
        if key in names:
            yield from _walk(value, hints.get(key), f"{where}.{key}")
        else:
            yield _unknown(f"{where}.{key}", f"{where}.", names, ())


def class_parameters(cls: Any) -> set[str]:
    """Names that a config may give to `cls`, those it passes on to its bases included."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "it", fail_untyped=False)
    return {key.split(".")[1] for key in _leaves(parser) if key.startswith("it.")}


def _in_option(parser: ArgumentParser, key: str, value: str | None, args: Sequence[str]) -> Iterator[str]:
    leaves = _leaves(parser)
    key = key.removesuffix("+")
    if key in ("config", "c", "help", "print_config", "h") or key.endswith(".help") or key in leaves:
        if key in ("model", "data") and value and (finding := missing_class(value)) is not None:
            yield finding
        return
    owner = next((leaf for leaf in sorted(leaves, key=len, reverse=True) if key.startswith(f"{leaf}.")), None)
    if owner is None:
        if not any(leaf.startswith(f"{key}.") for leaf in leaves):
            prefix = key.rpartition(".")[0] + "." if "." in key else ""
            yield _unknown(key, prefix, _children(leaves, prefix), leaves)
        return
    name = key.removeprefix(f"{owner}.").removeprefix("init_args.").split(".")[0]
    if name in CLASS_KEYS:
        return
    path = _class_given_for(owner, args)
    if path is not None and "." in path and missing_class(path) is None:
        names = class_parameters(_import(path))
        if name not in names:
            yield _unknown(key, key[: -len(name)], names, ())


def _class_given_for(owner: str, args: Sequence[str]) -> str | None:
    path: str | None = None
    for file in config_files(args):
        entry: Any = OmegaConf.to_container(OmegaConf.load(file))
        for part in owner.split("."):
            entry = entry.get(part) if isinstance(entry, dict) else None
        if isinstance(entry, dict):
            path = entry.get("class_path", path)
    return next((value for key, value in _options(args) if key in (owner, f"{owner}.class_path") and value), path)


def _unknown(key: str, prefix: str, siblings: Iterable[str], everywhere: Iterable[str]) -> str:
    name = key.removeprefix(prefix)
    near = nearest(name, siblings)
    if near is not None:
        return f"there is no setting {key}; the nearest is {prefix}{near}."
    last = name.rpartition(".")[2]
    last = last if (last not in ELSEWHERE) else ELSEWHERE[last].rpartition(".")[2]
    elsewhere = [leaf for leaf in everywhere if leaf.rpartition(".")[2] == last] or [nearest(name, everywhere)]
    if elsewhere[0] is not None:
        return f"there is no setting {key}; the nearest is {elsewhere[0]}."
    return f"there is no setting {key}; valid here are {', '.join(sorted(siblings))}."


def _leaves(parser: ArgumentParser) -> set[str]:
    return {key for key in parser.get_defaults(skip_validation=True).keys() if key not in ("config",)}  # noqa: SIM118


def _children(leaves: Iterable[str], prefix: str) -> set[str]:
    return {leaf.removeprefix(prefix).split(".")[0] for leaf in leaves if leaf.startswith(prefix)}


def _options(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for index, arg in enumerate(args):
        if re.match(r"^--?[A-Za-z]", arg):
            key, equals, value = arg.lstrip("-").partition("=")
            following = args[index + 1] if index + 1 < len(args) and not args[index + 1].startswith("--") else None
            yield key, value if equals else following


def _options_of(hint: Any) -> list[Any]:
    """The members of a union, or the hint itself."""
    origin = typing.get_origin(hint)
    return list(typing.get_args(hint)) if origin in (typing.Union, types.UnionType) else [hint]


def _hints(cls: Any) -> dict[str, Any]:
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
