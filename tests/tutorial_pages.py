"""Tutorials as they are typed: the blocks of a page run in order, and what they print held against what the page shows.

`python tests/tutorial_pages.py FOLDER PAGE ...` runs pages there and writes what was printed into their blocks of text.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warm_start import Warm

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/tutorials").glob("[0-9]*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(?:,\d{3})+|\d+(?:\.\d+)?(?:e-?\d+)?")
TIMES = re.compile(r"\d+:\d\d:\d\d")


@dataclass(frozen=True)
class Block:
    """What is typed, and what is shown to come of it, "" where nothing is; `place` is where that stands in the page."""

    kind: str
    typed: str
    shown: str
    place: tuple[int, int] | None


def blocks(page: str) -> list[Block]:
    """The blocks to run, each with the block of text that follows it next."""
    found = list(BLOCK.finditer(page))
    typed: list[Block] = []
    for one, following in zip(found, [*found[1:], None], strict=True):
        if one[1] in ("bash", "python"):
            told = following if following is not None and following[1] == "text" else None
            typed.append(Block(one[1], one[2], told[2] if told else "", told.span(2) if told else None))
    return typed


def commands(typed: str) -> list[list[str]]:
    """The words of each line."""
    return [shlex.split(line) for line in typed.replace("\\\n", " ").splitlines() if line.strip()]


def run(block: Block, names: dict[str, Any], seconds: float | None = None) -> str:
    """What a block prints; `names` are what the page's Python knows, before and after. Raises for what fails."""
    if block.kind == "python":
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.typed, "a tutorial", "exec"), names)
        return out.getvalue()
    said = ""
    for words in commands(block.typed):
        assert words[:3] == ["python", "-m", "fgvr"], words
        process = Warm(words[3:], os.environ)
        told, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, f"{shlex.join(words)}\n{told}"
        said += told
    return "\n".join(line.rpartition("\r")[2] for line in said.replace("\r\n", "\n").splitlines()) + "\n"


def missing(shown: str, printed: str) -> str | None:
    """The first line that is shown and was not printed after the one before; None where all were.

    Spaces do not count, "..." stands for anything, and a number for one that is near: within .2, or a third.
    """
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    place = 0
    for line in (" ".join(one.split()) for one in shown.splitlines()):
        if line in ("", "..."):
            continue
        found = next((at for at in range(place, len(lines)) if _agree(line, lines[at])), None)
        if found is None:
            return line
        place = found + 1
    return None


def _agree(shown: str, printed: str) -> bool:
    shown, printed = TIMES.sub("0:00:00", shown), TIMES.sub("0:00:00", printed)
    pattern, end = "", 0
    for number in NUMBER.finditer(shown):
        pattern += re.escape(shown[end : number.start()]) + f"({NUMBER.pattern})"
        end = number.end()
    pattern += re.escape(shown[end:])
    matched = re.fullmatch(pattern.replace(re.escape("..."), ".*"), printed)
    return matched is not None and all(
        _near(_value(one), _value(other)) for one, other in zip(NUMBER.findall(shown), matched.groups(), strict=True)
    )


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= max(0.2, abs(one) / 3)


def prepared(folder: Path) -> Path:
    """A folder to type in, with the configs and nothing else."""
    folder.mkdir(exist_ok=True)
    if not (folder / "configs").exists():
        (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def record(folder: Path, page: Path) -> None:
    """Writes what is printed into the page's blocks of text, to be cut by hand to what a reader wants to see."""
    os.chdir(prepared(folder))
    text, names, shift = page.read_text(encoding="utf-8"), dict[str, Any](), 0
    for block in blocks(text):
        printed = run(block, names)
        print(f"--- {block.typed}--->\n{printed}", flush=True)
        if block.place is not None and block.shown.strip() == "@":
            start, end = (at + shift for at in block.place)
            text, shift = (
                text[:start] + printed.rstrip() + "\n" + text[end:],
                shift + len(printed.rstrip()) + 1 - (end - start),
            )
            page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for one in sys.argv[2:]:
        record(Path(sys.argv[1]).resolve(), Path(one).resolve())
