"""The layout holds: imports point down, each heavy dependency has one door, files and functions stay short."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fgvr"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (  # lowest first; rooms of one layer know nothing of each other
    {"types", "errors"},
    {"retries"},
    {"whole_files", "watchdog", "objectives", "kernels"},
    {"ranks", "signals", "taxonomy", "checkpoints"},
    {"sources", "data", "models", "runs"},
    {"similarity"},
    {"aviary", "shards", "judges", "options"},
    {"rewards", "thoughts"},
    {"datamodules", "rollouts", "modules", "strategies"},
    {"metrics"},
    {"pictures"},
    {"callbacks", "settings", "recogniser"},
    {"report", "harness"},
    {"cli_help", "next_steps"},
    {"cli"},
    {"tools"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
DOORS = {
    "transformers": ("models/",),
    "peft": ("models/",),
    "tokenizers": ("models/",),
    "huggingface_hub": ("models/", "tools/published.py"),
    "lmms_eval": ("harness/",),
    "webdataset": ("shards/reading.py",),
    "aiohttp": ("judges/served/line.py",),
    "redis": ("judges/caches/redis.py",),
    "rapidfuzz": ("taxonomy/misspelling.py",),
    "lightning": ("modules/", "datamodules/", "callbacks/", "strategies/", "cli.py", "__main__.py"),
}
SECRETS = {"server.py", "redis.py"}  # read addresses and keys when they connect, as they belong in no yaml
LOW = {"types", "errors", "retries", "whole_files", "watchdog"}  # what every room may import
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            found.add(node.module)
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_keeps_to_its_place(path: Path):
    text = path.read_text(encoding="utf-8")
    tree, room, name = ast.parse(text), room_of(path), path.relative_to(PACKAGE).as_posix()
    assert text.count("\n") <= 350, f"{name} has {text.count(chr(10))} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{name}: {node.name} is too long"
    for module in imports(tree):
        top = module.split(".")[0]
        if top in DOORS:
            assert name.startswith(DOORS[top]), f"{name} must not import {module}: its door is {DOORS[top]}"
        if module.startswith("fgvr.") and room != "__init__":
            other = module.split(".")[1]
            if other == room or (other in LOW and room not in LOW):
                continue
            assert LEVEL[other] < LEVEL[room], f"{name} must not import {module}, which is not below it"


def test_equations_know_nothing_but_torch():
    for room in ("objectives", "kernels"):
        for path in (PACKAGE / room).glob("*.py"):
            tops = {module.split(".")[0] for module in imports(ast.parse(path.read_text(encoding="utf-8")))}
            tops -= set(sys.stdlib_module_names) | {"torch", "jaxtyping", "flash_attn"}
            assert tops <= {"fgvr"}, f"{path.name} imports {tops}"


def test_nothing_is_read_from_the_environment():
    for path in FILES:
        if ("judges" in path.parts and path.name in SECRETS) or path.name == "environment.py":  # which only shows it
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # a default set for a library below is no reading
        defaults = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "setdefault"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in defaults:
                assert node.attr not in ("environ", "getenv"), f"{path.name} reads the environment"


def test_every_room_is_in_the_plan():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(LEVEL)


def test_no_file_comes_back_to_itself():
    """Whole-file imports make no circle, within a room as between rooms; type-only and late ones count too."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    needs = {
        name: {module for module in imports(ast.parse(path.read_text(encoding="utf-8"))) if module in modules}
        for name, path in modules.items()
    }
    needs["fgvr"] -= {"fgvr.recogniser"}  # for types alone: it comes when a name is asked of the door to all
    assert list(TopologicalSorter(needs).static_order())


def test_the_rooms_that_a_newcomer_is_told_of_are_the_rooms_there_are():
    table = re.findall(r"^\| (`fgvr/.*?) \|", CONTRIBUTING.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = [re.sub(r"\.py$|/$", "", room) for row in table for room in re.findall(r"`fgvr/([\w.]+/?)`", row)]
    assert sorted(told) == sorted(LEVEL)
    levels = [LEVEL[room] for room in told]
    assert levels == sorted(levels), "the table runs from the lowest layer to the highest"


def test_no_handler_swallows_everything():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"everything"}
                reraises = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
                assert reraises or not names & {"Exception", "BaseException", "everything"}, (
                    f"{path.name}:{node.lineno}"
                )
