"""What is said of settings that must be given, of one without its value, and of words that stand for no setting."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from fgvr.errors import shown
from fgvr.settings.classes import known_classes, typed
from fgvr.settings.given import options_in

REQUIRED = "the following arguments are required: "
STRAY = re.compile(r"^unrecognized arguments: (.+)$", re.DOTALL)
VALUELESS = re.compile(r"argument (?:-\w/)?(--[\w.+-]+): expected one argument")


def form_of(prog: str, function: Callable[..., Any], words: Sequence[str]) -> str:
    """How a tool is typed with no more than it must be given: "python -m fgvr report RUN [RUN ...] --out OUT"."""
    shapes = {name.removesuffix("..."): name for name in words}
    said = [prog]
    for name, one in inspect.signature(function).parameters.items():
        if one.default is not one.empty or one.kind is one.VAR_KEYWORD:
            continue
        word = name.upper()
        if shapes.get(name, "").endswith("..."):
            single = word.removesuffix("S")
            said.append(f"{single} [{single} ...]")
        else:
            said.append(word if name in shapes else f"--{name} {word}")
    return " ".join(said)


def of_words(parser: ArgumentParser, form: str, args: Sequence[str], text: str) -> str | None:
    """A sentence for what argparse says of the words of a command line; None where it says something else.

    `form` is how the command is typed, "" for those that a config tells what to do.
    """
    strange = [arg for arg in args if shown(arg) != arg and "\\x" in shown(arg)]
    if strange and "surrogates not allowed" in text:
        return f"{shown(strange[0])} must be written in UTF-8, but it is not: rename what it names."
    if found := VALUELESS.search(text):
        return f"{found[1]} needs a value: {found[1]} VALUE."
    if found := STRAY.search(text):
        stray = found[1]
        whole = next((arg for arg in args if stray == arg or stray.startswith(f"{arg} ")), None)
        return _of_stray(parser, form, args, whole or stray.split(" ")[0])
    names = text.partition(REQUIRED)[2].strip().split(", ") if text.startswith(REQUIRED) else []
    if form and names and (len(names) > 1 or f"--{names[0]} " not in form):  # one that stands without its name
        return f"{', '.join(names[:-1])}{' and ' * (len(names) > 1)}{names[-1]} must be given: {form}."
    return None


def _of_stray(parser: ArgumentParser, form: str, args: Sequence[str], word: str) -> str:
    given = {key for key, _ in options_in(args)}
    lacking = [name for name in re.findall(r"--(\w+)", form) if name not in given]
    settings = Path(word, "config.yaml")
    if word.endswith((".yaml", ".yml")):
        meant = f"as {shlex.join(['--config', word])}"
    elif not form and settings.is_file():
        meant = f"a run's config as {shlex.join(['--config', str(settings)])}"
    elif lacking and not known_classes(typed(parser, lacking[0])):
        meant = f"as {shlex.join([f'--{lacking[0]}', word])}"
    else:
        meant = f"with the setting that it is of, as --SETTING {shlex.quote(word)}, or leave it out"
        meant += f" ({form})" if form else ""
    return f"{word} stands for no setting: give it {meant}."
