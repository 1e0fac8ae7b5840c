"""What README and docs tell a reader to type, set or open is there: commands parse, settings hold, links lead on."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from fgvr.__main__ import RUNS, TOOLS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "slurm/README.md"]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(kind: str) -> list[str]:
    return [block for text in TEXTS.values() for block in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)]


def commands() -> list[str]:
    lines = [line.split(" #")[0] for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    return sorted({part.strip() for line in lines for part in line.split(" && ") if part.strip()})


LINES = commands()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(("python -m fgvr", "fgvr"))])
def test_a_command_is_one_that_fgvr_takes(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line.removeprefix("python -m "))[1:]
    asks = (
        []
        if not words or words[0].startswith("-") or "--help" in words or words[-1].startswith("--print")
        else ["--print_config"]
    )
    assert main([*words, *asks]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(("python -m fgvr", "fgvr"))])
def test_any_other_command_is_one_that_a_reader_has(line: str):
    words = shlex.split(line)
    if words[0] == "pip":
        for extra in re.findall(r"\[(\w+)\]", line):
            assert extra in EXTRAS, f"there is no extra {extra}"
    elif words[0] in ("sbatch", "bash"):
        script = next(word for word in words[1:] if word.endswith(".sbatch") or "/" in word)
        assert (ROOT / script).is_file(), script
    elif words[0] == "python":
        for file in (word for word in words[1:] if word.startswith("benchmarks/")):
            assert (ROOT / file).is_file(), file
    elif words[0] == "export":
        name, _, folder = words[1].partition("=")
        assert name == "PYTHONPATH"
        assert (ROOT / folder).is_dir(), folder
    else:
        assert words[0] in ("pytest", "tensorboard", "ruff", "pyright"), f"say how a reader gets {words[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path):
    text = TEXTS[page]
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} leads to {link}"
    for name in re.findall(r"`((?:configs|fgvr|benchmarks|tests|slurm|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    for name in re.findall(r"\b(fgvr(?:\.[a-z_]+)+\.[A-Z]\w+)", text):
        room, _, kind = name.rpartition(".")
        assert hasattr(importlib.import_module(room), kind), f"{page.name} names {name}"
    for command in re.findall(r"python -m fgvr (\w+)", text):
        assert command in {*RUNS, *TOOLS, "COMMAND"}, f"{page.name} names the command {command}"


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_are_yaml(block: str):
    assert isinstance(yaml.safe_load(block), dict)


def test_every_page_is_found_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w.]+)\)", TEXTS[ROOT / "README.md"]))
    assert linked == {page.relative_to(ROOT).as_posix() for page in PAGES if page.parent == ROOT / "docs"}


def test_the_readme_is_read_in_a_few_minutes():
    assert TEXTS[ROOT / "README.md"].count("\n") <= 100


def test_the_memory_table_adds_up():
    rows = re.findall(r"^\| Qwen.*?\| ([\d.]+) \| ([\d.]+) \| (\d+) \|", TEXTS[ROOT / "docs/models.md"], re.MULTILINE)
    assert len(rows) == 5
    for weights, trained, held in rows:
        # 3.75e9 x 6 bytes + 3.09e9 x 12 bytes = 59.6e9 bytes = 55 GiB
        assert int(held) == round((6 * float(weights) + 12 * float(trained)) * 1e9 / 2**30)
