"""What README and docs tell a reader to type, set or open is there: commands parse, settings hold, links lead on."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import fgvr
from fgvr.__main__ import RUNS, TOOLS, main

ROOT = Path(__file__).parents[1]
WRITTEN = sorted(page for page in (ROOT / "docs").rglob("*.md") if "api" not in page.relative_to(ROOT / "docs").parts)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN, ROOT / "slurm/README.md"]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


TYPED = [page for page in PAGES if page.parent.name == "tutorials"]  # whole, by tests/test_tutorials.py


def blocks(kind: str) -> list[str]:
    texts = [text for page, text in TEXTS.items() if page not in TYPED]
    return [block for text in texts for block in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)]


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
        assert words[0] in ("pytest", "tensorboard", "ruff", "pyright", "docs/build"), (
            f"say how a reader gets {words[0]}"
        )


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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by the rule of forges, which the site follows too."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = [re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ +(.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_anchor_is_a_heading(page: Path):
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", TEXTS[page]):
        other = page.parent / path if path else page
        assert anchor in anchors(other), f"{page.name} leads to {path}#{anchor}"


def test_every_page_is_found_from_the_home_page_which_the_readme_links():
    home = ROOT / "docs" / "index.md"
    linked = {
        (start.parent / link).resolve()
        for start in (home, *(page for page in WRITTEN if page.name == "README.md"))  # of a folder of pages
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", TEXTS[start])
    }
    assert linked >= {*WRITTEN, ROOT / "slurm/README.md", ROOT / "CONTRIBUTING.md"} - {home}
    assert "](docs/index.md)" in TEXTS[ROOT / "README.md"]


def test_the_readme_is_three_screens():
    assert TEXTS[ROOT / "README.md"].count("\n") <= 75


def test_the_layers_and_doors_on_the_page_are_those_that_a_test_holds():
    page = TEXTS[ROOT / "docs" / "architecture.md"]
    with_tables = runpy.run_path(str(ROOT / "scripts" / "layers.py"))["with_tables"]
    assert with_tables(page) == page, "run `python scripts/layers.py`"


def test_the_reference_has_every_room_whose_classes_a_config_names():
    rooms = set(re.findall(r"^\| \[`([\w.]+)`\]", TEXTS[ROOT / "docs" / "api.md"], re.MULTILINE))
    named = {
        ".".join(name.split(".")[:2]) for text in TEXTS.values() for name in re.findall(r"fgvr\.[a-z_.]+\.[A-Z]", text)
    }
    assert named - {"fgvr.aviary", "fgvr.errors", "fgvr.strategies"} <= rooms
    for room in rooms:
        assert importlib.import_module(room).__doc__, room


def test_what_a_reader_looks_up_as_an_error_is_what_fgvr_says():
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "fgvr").rglob("*.py")))
    said = re.sub(r'"\s*\n\s*[fr]*"', "", sources)  # sentences that stand on several lines
    rows = re.findall(r"^\| (.*?) \|", TEXTS[ROOT / "docs" / "troubleshooting.md"], re.MULTILINE)
    looked_up = [text for row in rows for text in re.findall(r"`([^`]+)`", row) if " " in text]
    assert len(looked_up) > 20
    assert [text for text in looked_up if text not in said] == []


def test_fgvr_and_the_three_papers_can_be_cited():
    """What the schema of the Citation File Format 1.2.0 demands of these entries."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["cff-version"], cited["version"], cited["type"]) == ("1.2.0", fgvr.__version__, "software")
    for entry in (cited, *cited["references"]):
        assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in entry["authors"])
    for paper in cited["references"]:
        assert {"type", "title", "authors"} <= paper.keys()
        number = paper["url"].removeprefix("https://arxiv.org/abs/")
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert paper["identifiers"] == [{"type": "other", "value": f"arXiv:{number}"}]
    assert {paper["url"][-10:] for paper in cited["references"]} == {"2602.07605", "2603.03197", "2511.18305"}


def test_the_memory_table_adds_up():
    rows = re.findall(r"^\| Qwen.*?\| ([\d.]+) \| ([\d.]+) \| (\d+) \|", TEXTS[ROOT / "docs/models.md"], re.MULTILINE)
    assert len(rows) == 5
    for weights, trained, held in rows:
        # 3.75e9 x 6 bytes + 3.09e9 x 12 bytes = 59.6e9 bytes = 55 GiB
        assert int(held) == round((6 * float(weights) + 12 * float(trained)) * 1e9 / 2**30)


def test_the_four_methods_on_the_page_have_the_values_of_their_yamls():
    page = TEXTS[ROOT / "docs" / "reinforcement_learning.md"]
    rows = {first: rest.split(" | ") for first, rest in re.findall(r"^\| (.*?) \| (.*) \|$", page, re.MULTILINE)}
    for place, config in enumerate(rows["with the paper's values"]):
        args = yaml.safe_load((ROOT / config.strip("`")).read_text(encoding="utf-8"))["model"]["init_args"]
        for setting in ("baseline", "scale"):
            assert rows[f"`advantage.{setting}`"][place] == f"`{args['advantage'][setting]}`"
        assert rows["`reduction`, what w_t is"][place].startswith(f"`{args['reduction']}`")
        clip = [
            float(bound)
            for bound in re.findall(r"[\d.]*(?:inf|\d)", rows["`clip.low`, `clip.high`"][place].replace(".inf", "inf"))
        ]
        assert clip == [args["clip"]["low"], args["clip"]["high"]]
        coefficient = args.get("kl", {}).get("coefficient")
        assert rows["`kl.coefficient`"][place].startswith("no" if coefficient is None else str(coefficient))
        assert ("group_filter" in args) == (rows["`group_filter`"][place] != "none")
