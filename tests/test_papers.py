"""Rooms of equations name where their equations come from: each file its papers, an equation's number its paper."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fgvr"
ROOMS = ("objectives", "kernels", "rewards", "modules")
FILES = sorted(path for room in ROOMS for path in (PACKAGE / room).glob("*.py"))
ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
WORK = re.compile(r"\b([A-Z][a-z]+)(?: and [A-Z][a-z]+)?, (?:[^().]*, )?((?:19|20)\d\d)\b")  # Graham, 1969
NUMBERED = re.compile(r"\b(?:eq\.|equation|algorithm|section|Table) [\dIVX]")


def prose_of(text: str) -> Iterator[str]:
    """Docstrings and comments, white space made even."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node)):
            yield " ".join(said.split())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def named_in(text: str) -> set[str]:
    """The papers that a file names, each once: by arXiv number, or by author and year."""
    prose = list(prose_of(text))
    works = {f"{author} {year}" for said in prose for author, year in WORK.findall(said)}
    return works | {number for said in prose for number in ARXIV.findall(said)}


def test_what_counts_as_a_paper():
    text = (
        '"""A clip (PPO, arXiv 1707.06347,\neq. 7). Again arXiv 1707.06347."""\n'
        "x = '2402.03300'  # Graham, 1969; J. Schulman, \"Approximating KL divergence\", 2020\n"
    )
    assert named_in(text) == {"1707.06347", "Graham 1969", "Schulman 2020"}  # not what stands in a string


def test_papers_are_named_densely_where_equations_stand():
    """Above 60 per 10,000 lines, a paper counted once in each file, however often it is named there."""
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    named, lines = sum(len(named_in(text)) for text in texts), sum(text.count("\n") for text in texts)
    assert named / lines * 10_000 > 60, f"{named} papers in {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_equation_with_a_number_has_its_paper_in_the_same_text(path: Path):
    for said in prose_of(path.read_text(encoding="utf-8")):
        if NUMBERED.search(said) and path.name != "specificity.py":  # whose first lines name its one paper
            assert ARXIV.search(said) or WORK.search(said), said
