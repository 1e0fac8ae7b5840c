"""What is said of each setting in the help: the sentences of its class's docstring that name it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from fgvr.retries import patiently
from fgvr.settings.classes import known_classes, typed
from fgvr.settings.defaults_once import DefaultsOnceParser
from fgvr.settings.given import class_given_for, config_files
from fgvr.settings.whole_lists import WholeListParser

CKPT_PATH = (
    "the checkpoint to evaluate: its path, 'best', 'last' (by default), or 'none' for the model as the config builds "
    "it, which is the zero-shot baseline of a pretrained one"
)
PROGRAM, OPTIONS = "python -m fgvr", "[--config FILE] [--SETTING VALUE ...]"
# where a part of a sentence ends that says something, and the next begins with a name and its verb
NEXT_NAME = re.compile(r"(?<=[^`,;])[,;] (?:and )?(?=`[a-z_]\w*` [a-z]+s )")


class SayingParser(WholeListParser, DefaultsOnceParser):
    """A parser whose help says of a setting what its class says of it, and that takes no beginning of a name for it.

    `form` is how its command is typed with no more than it must be given, "" where a config tells what to do.
    """

    form = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        options = {"prog": PROGRAM, "allow_abbrev": False, "exit_on_error": False} | options
        super().__init__(*args, **options)

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As any parser does, once the disk of the config files answers."""
        for file in config_files(args or ()):
            with suppress(OSError):  # the parser says what it lacks
                patiently(file.read_bytes, file)
        return super().parse_args(args, *rest, **options)  # pyright: ignore[reportArgumentType]

    def format_help(self) -> str:
        command = " COMMAND" if self.prog == PROGRAM else ""  # a class's own help does not know whose it is
        self.usage = f"%(prog)s{command} {OPTIONS}"
        for group in self._action_groups:
            kind = getattr(group, "group_class", None)
            if kind is not None:
                _say(group, kind)
        return super().format_help()


def complete_help(parser: ArgumentParser, line: Sequence[str]) -> list[str]:
    """The line with the classes put in that `--model.help` and `--model.policy.backbone.help` mean: those given.

    Where none is given for a section, lists the classes there are and leaves with SystemExit.
    """
    complete: list[str] = []
    for index, word in enumerate(line):
        owner = word.removeprefix("--").removesuffix(".help")
        section, _, inner = owner.partition(".")
        classes = known_classes(typed(parser, section)) if word == f"--{owner}.help" else {}
        named = index + 1 < len(line) and not line[index + 1].startswith("-")
        if classes and (inner or not named):
            given = class_given_for(section, line)
            if given is None:
                _list(section, classes)
                raise SystemExit(0)
            complete += [f"--{section}.help", given]
        if inner or not classes or named:
            complete.append(word)
        if inner and classes and not named:
            complete += filter(None, [class_given_for(owner, line)])
    return complete


def sentences(kind: type) -> dict[str, str]:
    """By parameter, the sentences of a class's docstrings that name it in backticks; the others under "".

    Of "`low` is the floor, `high` the ceiling." each gets its own part.
    """
    said: dict[str, str] = {}
    for base in inspect.getmro(kind):
        text = " ".join((vars(base).get("__doc__") or "").split("Args:")[0].split())
        found: dict[str, list[str]] = {}
        whole = re.split(r"(?<=\.)\s+(?=[A-Z`])", text)
        for sentence in [part for one in whole for part in _parts(one)]:
            for name in _named(sentence) or [""]:
                if sentence not in found.setdefault(name, []):
                    found[name].append(sentence)
        said = {name: " ".join(texts) for name, texts in found.items()} | said
    return said


def _parts(sentence: str) -> list[str]:
    """A sentence that says one thing of one setting and another of the next, in two; others whole."""
    parts = NEXT_NAME.split(sentence)
    if not all(_named(part) and part.count("(") == part.count(")") for part in parts):
        return [sentence]
    return [part if part.endswith((".", ":")) else f"{part}." for part in parts]


def _named(sentence: str) -> list[str]:
    quoted = " ".join(re.findall(r"`([^`]+)`", sentence))
    return re.findall(r"[a-z_]\w*", quoted)


def _say(group: Any, kind: type) -> None:
    said = sentences(kind)
    for action in group._group_actions:
        if not action.help and action.option_strings and not action.option_strings[0].endswith(".help"):
            action.help = said.get(action.dest.rpartition(".")[2])
    first, _, rest = said.get("", "").partition(". ")
    if group.title and first.removesuffix(".") == group.title.removesuffix("."):
        group.description = rest or None


def _list(owner: str, classes: dict[str, type]) -> None:
    console = Console()
    table = Table.grid(padding=(0, 2))
    for name, kind in classes.items():
        table.add_row(f"  {name}", (inspect.getdoc(kind) or "").partition("\n")[0])
    console.print(f"--{owner}.help CLASS says what one of these can be told:", markup=False, highlight=False)
    console.print(table, markup=False, highlight=False)
