"""Turns a refused command line into one sentence that names the key, its nearest valid name and the file."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fgvr.settings.classes import (
    class_named,
    class_parameters,
    hints_of,
    known_classes,
    members,
    missing_class,
    nearest,
    settings_of,
    settings_of_class,
    typed,
)
from fgvr.settings.given import class_given_for, config_files, content_of, options_in
from fgvr.settings.lacking import REQUIRED, of_words
from fgvr.settings.precisions import PRECISIONS, precision_refused
from fgvr.settings.takes import misfits

# what lightning calls otherwise
ELSEWHERE = {"ckpt_path": "run.resume"}
FROM_WEIGHTS = (
    " A run goes on from a checkpoint with --run.resume PATH; one that only begins with another's weights is told "
    "--model.init_args.policy.backbone fgvr.models.Trained and --model.init_args.policy.backbone.init_args.run RUN."
)
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
    files = config_files(args)
    for file in files:
        for finding in _in_file(parser, file, args):
            return f"{file}: {finding}"
    for file in files:
        for finding in _without_class(parser, file, args):
            return f"{file}: {finding}"
    for key, value in options_in(args):
        for finding in _in_option(parser, key, value, args):
            return f"--{key}: {finding}"
    for file in files:
        for finding in _misfits_in(parser, _with_classes(content_of(file), args)):
            return f"{file}: {finding}"
    if said := of_words(parser, getattr(parser, "form", ""), args, str(error)):
        return said
    only_file = len(files) == 1 and len(list(options_in(args))) == 1
    return f"{files[0]}: {one_line(str(error))}" if only_file else one_line(str(error))


def one_line(text: str) -> str:
    """Keeps of a message of many lines what says something, without the traceback of a worker process."""
    if "Original Traceback" in text:
        text = re.sub(r"^[\w.]+(Error|Exception): ", "", text.strip().splitlines()[-1])
    owner = _owner_of_required(text)
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"Problem with given class_path '([^']+)':", r"\1:", text)
    text = re.sub(r"Expected an? typing\.Literal\[([^\]]*)\]", r"must be one of \1", text)
    text = re.sub(r"Expected an? ", "must be of type ", text).replace(". Got value:", ", got")
    text = re.sub(rf"{REQUIRED}([\w., ]+)$", lambda found: _required(found[1], owner), text)
    lines = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(NOISE))


def _owner_of_required(text: str) -> str:
    """The settings around that of which something is lacking, with a full stop behind: they are the lines above it that
    stand further and further out."""
    lines = text.splitlines()
    place = next((number for number, line in enumerate(lines) if REQUIRED in line), 0)
    inner, owners = len(lines[place]) if lines else 0, list[str]()
    for line in reversed(lines[: place + 1]):
        depth = len(line) - len(line.lstrip(" -"))
        if depth < inner and (key := re.match(r"[ -]*Parser key \"([^\"]+)\":", line)):
            owners.insert(0, f"{key[1]}.")
        inner = min(inner, depth)
    return "".join(owners)


def _required(listed: str, owner: str) -> str:
    names = [name.partition(".")[2] or name for name in listed.split(", ")]
    if len(names) == 1:
        return f"{names[0]} is required: give it in the config or as --{owner}{names[0]}."
    return f"{', '.join(names[:-1])} and {names[-1]} are required: give --config FILE."


def _in_file(parser: ArgumentParser, file: Path, args: Sequence[str]) -> Iterator[str]:
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
    yield from _walk_parser(parser, _with_classes(typing.cast(dict[str, Any], content), args), "")


def _with_classes(content: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """A file's content with the class put in whose arguments it changes, where another file names that."""
    named = dict(content)
    for owner, entry in content.items():
        if isinstance(entry, dict) and "init_args" in entry and (path := class_given_for(owner, args)) is not None:
            named[owner] = {"class_path": path, **entry}
    return named


def _walk_parser(parser: ArgumentParser, content: dict[str, Any], prefix: str) -> Iterator[str]:
    leaves = settings_of(parser)
    for key, value in content.items():
        full = f"{prefix}{key}"
        if full in leaves:
            yield from _walk(value, typed(parser, full), full)
        elif any(leaf.startswith(f"{full}.") for leaf in leaves):
            if isinstance(value, dict):
                yield from _walk_parser(parser, value, f"{full}.")
        else:
            yield _unknown(full, prefix, _children(leaves, prefix), leaves)


def _walk(value: Any, hint: Any, where: str) -> Iterator[str]:
    """Looks at a value of type `hint` (None if unknown) for classes and keys that do not exist."""
    if isinstance(value, list):
        inner = next((arg for option in members(hint) for arg in typing.get_args(option)), None)
        for index, entry in enumerate(value):
            yield from _walk(entry, inner, f"{where}[{index}]")
    elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
        path = value["class_path"]
        for key in value:
            if key not in CLASS_KEYS:
                yield _unknown(f"{where}.{key}", f"{where}.", CLASS_KEYS, ())
        kind = class_named(path, hint)
        if kind is None:
            yield f"{where}: {_unknown_class(path, hint)}"
        elif isinstance(value.get("init_args"), dict):
            yield from _walk_class(value["init_args"], kind, f"{where}.init_args")
    elif isinstance(value, dict):
        shape = next((option for option in members(hint) if dataclasses.is_dataclass(option)), None)
        if shape is not None:
            yield from _walk_class(value, shape, where)


def _walk_class(values: dict[str, Any], cls: Any, where: str) -> Iterator[str]:
    names = class_parameters(cls)
    hints = hints_of(cls)
    for key, value in values.items():
        if key in names:
            yield from _walk(value, hints.get(key), f"{where}.{key}")
        else:
            yield _unknown(f"{where}.{key}", f"{where}.", names, ())


def _unknown_class(path: str, hint: Any) -> str:
    names = [kind.__name__ for kind in known_classes(hint).values()]
    if "Auto" in names and Path(path).is_dir():
        return f"a class is named here, but {path} is a folder: Auto with this root looks which layout it has."
    if "." in path:
        return missing_class(path) or f"{path} is not a class."
    near = nearest(path, names)
    if not names:
        return f"there is no class {path}: give its whole path, as in package.module.{path}."
    return f"there is no class {path}; " + (f"the nearest is {near}." if near else f"there are {', '.join(names)}.")


def _misfits_in(parser: ArgumentParser, content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """What in a config is not of the type of its setting."""
    leaves = settings_of(parser)
    for key, value in content.items():
        full = f"{prefix}{key}"
        if full in leaves:
            yield from _misfits(value, typed(parser, full), full)
        elif isinstance(value, dict):
            yield from _misfits_in(parser, value, f"{full}.")


def _misfits(value: Any, hint: Any, place: str) -> Iterator[str]:
    if place == "trainer.precision" and str(value) not in PRECISIONS:
        yield precision_refused(value)
        return
    yield from misfits(value, hint, place)


def _without_class(parser: ArgumentParser, file: Path, args: Sequence[str]) -> Iterator[str]:
    """A file that changes the arguments of a class that nobody names: one to be laid over another."""
    for owner, entry in content_of(file).items():
        if isinstance(entry, dict) and "init_args" in entry and class_given_for(owner, args) is None:
            main = re.search(r"^#.* after ([\w./-]+\.yaml)", file.read_text(encoding="utf-8"), re.MULTILINE)
            base = main[1] if main else "MAIN.yaml"
            yield (
                f"it changes settings of {owner} and does not say of which class: it goes on top of another config, "
                f"--config {base} --config {file}."
            )


def _in_option(parser: ArgumentParser, key: str, value: str | None, args: Sequence[str]) -> Iterator[str]:
    leaves = settings_of(parser)
    key = key.removesuffix("+")
    if key in ("config", "c", "help", "print_config", "h"):
        return
    if key.endswith(".help"):
        section, hint = key.partition(".")[0], typed(parser, key.removesuffix(".help"))
        if value and hint is not None and class_named(value, hint) is None:
            yield _unknown_class(value, hint)
        elif hint is None:
            yield f"there is no help of its own for this: see --{section}.help."
        return
    owner = next((leaf for leaf in sorted(leaves, key=len, reverse=True) if f"{key}.".startswith(f"{leaf}.")), None)
    if owner is not None:
        parts = key.removeprefix(owner).strip(".").split(".") if key != owner else []
        yield from _along(typed(parser, owner), owner, owner, parts, value, args)
    elif not any(leaf.startswith(f"{key}.") for leaf in leaves):
        prefix = key.rpartition(".")[0] + "." if "." in key else ""
        siblings = _children(leaves, prefix) | ({"config"} if not prefix else set())
        yield _unknown(key, prefix, siblings, leaves | _inner_leaves(parser, args))


def _along(hint: Any, place: str, said: str, parts: list[str], value: str | None, args: Sequence[str]) -> Iterator[str]:
    """Follows an option's name through the classes it leads to; `place` is its key in a yaml, `said` what was typed."""
    classes = known_classes(hint)
    if not parts or parts[0] == "class_path":
        if classes and value and not _is_named(value, hint) and not Path(value).is_file():
            yield _unknown_class(value, hint)
        elif value and not parts:
            yield from _given(value, hint, said)
        return
    if parts[0] in CLASS_KEYS:
        place, said, parts = f"{place}.{parts[0]}", f"{said}.{parts[0]}", parts[1:]
        if not parts or said.endswith("dict_kwargs"):
            return
    shape = next((option for option in members(hint) if dataclasses.is_dataclass(option)), None)
    kind: Any = shape or class_named(class_given_for(place.removesuffix(".init_args"), args), hint)
    if kind is None:
        if classes and "." not in place.removesuffix(".init_args"):
            names = ", ".join(found.__name__ for found in classes.values())
            yield f"say first whose setting this is: --{place} CLASS, one of {names}."
        return
    names = class_parameters(kind)
    if parts[0] not in names:
        yield _unknown(f"{said}.{parts[0]}", f"{said}.", names, ())
        return
    inner = place if shape or place.endswith(".init_args") else f"{place}.init_args"
    yield from _along(hints_of(kind).get(parts[0]), f"{inner}.{parts[0]}", f"{said}.{parts[0]}", parts[1:], value, args)


def _is_named(value: str, hint: Any) -> bool:
    """Whether a value names a class, or may be one of the short names that strategies and accelerators have too."""
    return class_named(value, hint) is not None or (str in members(hint) and "." not in value)


def _given(value: str, hint: Any, said: str) -> Iterator[str]:
    """What is wrong with a value as it was typed, which yaml may read as a number, a list or a mapping."""
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        read = value
    if isinstance(read, list | dict):
        yield from _walk(read, hint, said)
    if not list(misfits(value, hint, said)):
        return
    yield from _misfits(read, hint, said)


def _inner_leaves(parser: ArgumentParser, args: Sequence[str]) -> set[str]:
    """The settings of the classes that the configs and the command line name."""
    given = {owner: class_named(class_given_for(owner, args), typed(parser, owner)) for owner in settings_of(parser)}
    return {
        f"{owner}.init_args.{leaf}"
        for owner, kind in given.items()
        if kind is not None
        for leaf in settings_of_class(kind)
    }


def _unknown(key: str, prefix: str, siblings: Iterable[str], everywhere: Iterable[str]) -> str:
    name = key.removeprefix(prefix)
    near = nearest(name, siblings)
    if near is not None:
        return f"there is no setting {key}; the nearest is {prefix}{near}."
    last = name.rpartition(".")[2]
    last = last if (last not in ELSEWHERE) else ELSEWHERE[last].rpartition(".")[2]
    alike = sorted((leaf for leaf in everywhere if leaf.rpartition(".")[2] == last), key=lambda leaf: (len(leaf), leaf))
    elsewhere = alike or [nearest(name, everywhere)]
    if elsewhere[0] is not None:
        more = FROM_WEIGHTS if name.rpartition(".")[2] in ELSEWHERE else ""
        return f"there is no setting {key}; the nearest is {elsewhere[0]}.{more}"
    valid = ", ".join(sorted(siblings))
    return f"there is no setting {key}; valid here are {valid}." if valid else f"there is no setting {key}: drop it."


def _children(leaves: Iterable[str], prefix: str) -> set[str]:
    return {leaf.removeprefix(prefix).split(".")[0] for leaf in leaves if leaf.startswith(prefix)}
