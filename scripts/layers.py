"""Writes the tables of docs/architecture.md: layers and doors as tests/test_architecture.py holds them.

`python scripts/layers.py` writes them into the page, between two comments each. A test says when the page is behind.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
RULES = ROOT / "tests" / "test_architecture.py"


def rule(name: str) -> object:
    """What tests/test_architecture.py assigns to `name`, which must be written out."""
    for node in ast.parse(RULES.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == name for at in node.targets):
            return ast.literal_eval(node.value)
    raise KeyError(name)


def said(room: str) -> str:
    """The first line of the room's own docstring."""
    folder = ROOT / "fgvr" / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0].rstrip(".")


def layer_table() -> str:
    """A row for each room, the lowest layer first."""
    layers: tuple[set[str], ...] = rule("LAYERS")  # pyright: ignore[reportAssignmentType]
    rows = ["| layer | room | what it says of itself |", "|---|---|---|"]
    for level, rooms in enumerate(layers, start=1):
        for room in sorted(rooms):
            place = f"fgvr/{room}/" if (ROOT / "fgvr" / room).is_dir() else f"fgvr/{room}.py"
            rows.append(f"| {level} | `{place}` | {said(room)} |")
    return "\n".join(rows)


def door_table() -> str:
    """A row for each library that only some files may import."""
    doors: dict[str, tuple[str, ...]] = rule("DOORS")  # pyright: ignore[reportAssignmentType]
    rows = ["| library | where it may be imported |", "|---|---|"]
    return "\n".join(
        rows + [f"| {name} | {', '.join(f'`fgvr/{at}`' for at in places)} |" for name, places in doors.items()]
    )


def with_tables(page: str) -> str:
    """The page, with each table between its two comments as it is now."""
    for name, table in (("layers", layer_table()), ("doors", door_table())):
        marked = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page, found = re.subn(marked, lambda at, table=table: f"{at[1]}{table}\n{at[2]}", page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE.name} must have one place for the table of {name}, got {found}")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
