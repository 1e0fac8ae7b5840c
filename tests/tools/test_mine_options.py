"""`python -m fgvr mine` as a user runs it: killed and resumed, by other rules without a model, and its refusals."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from rl_run import ends, learn_sft, start
from warm_start import Warm

from fgvr.__main__ import main
from fgvr.aviary import Aviary
from fgvr.options.deriving import read_options
from fgvr.options.store import read_store
from fgvr.shards.manifest import load_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.taxonomy.branch import branch_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import unsealed

FILES = ("replies.jsonl", "options.jsonl", "report.json", "sweep.csv", "sweep.png")
SMALL = ("--sampling.group_size=20", "--sampling.max_new_tokens=12", "--rows=160", "--device=cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a run that has learned some birds, and two hundred photos of these and others."""
    folder = tmp_path_factory.mktemp("mining")
    learn_sft(folder)
    birds = Aviary(species=48, unseen=4, novel=4, train=5, val=1, test=0, size=56, seed=3)
    pack(birds, folder / "birds", PackOptions(seed=0))
    return folder


def line(folder: Path, out: Path, *options: str) -> list[str]:
    model = ("--model=Trained", f"--model.run={folder / 'sft'}")
    return ["mine", f"--data={folder / 'birds'}", f"--out={out}", *model, *SMALL, *options]


def begin(words: list[str]) -> Warm:
    return Warm(words, os.environ)


def kill_at(process: Warm, store: Path, photos: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if store.exists() and store.read_bytes().count(b"\n") > photos:
            break
        time.sleep(0.01)
    assert process.poll() is None, "it must be killed while it still mines"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_mining_killed_three_times_writes_the_bytes_of_one_that_was_not(folder: Path, tmp_path: Path):
    said = ends(begin(line(folder, tmp_path / "whole")))
    for photos in (8, 60, 120):
        kill_at(begin(line(folder, tmp_path / "killed")), tmp_path / "killed/replies.jsonl", photos)
    ends(begin(line(folder, tmp_path / "killed")))
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    made, photos = read_store(tmp_path / "whole/replies.jsonl")
    assert len(photos) == made.photos == 200
    assert all(len(photo.replies) == 20 for photo in photos)
    assert "200 photos have options" in said
    _, choices = read_options(tmp_path / "whole/options.jsonl")
    report, _ = unsealed((tmp_path / "whole/report.json").read_bytes())
    assert report["kept"] == len(choices)
    assert report["kept"] + sum(report["dropped"].values()) == 200
    assert len(choices) > 20, "a run that says nothing well formed shows little"
    held_out = made.held_out
    assert held_out
    assert not any(held_out & {*choice.options} for choice in choices.values())


def test_other_rules_need_no_model(folder: Path, tmp_path: Path):
    assert main(line(folder, tmp_path, "--examples=16")) == 0
    replies = (tmp_path / "replies.jsonl").read_bytes()
    again = [f"--data={folder / 'birds'}", f"--out={tmp_path}", "--examples=16"]
    began = time.perf_counter()
    assert main(["mine", *again, "--rules.m=3", "--rules.keep_easy=true", "--source=Alike"]) == 0
    assert time.perf_counter() - began < 30
    assert (tmp_path / "replies.jsonl").read_bytes() == replies
    _, choices = read_options(tmp_path / "options.jsonl")
    assert choices
    assert all(len(choice.options) <= 3 for choice in choices.values())
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["m"]) for row in rows} == {1, 2, 3}
    assert {int(row["k"]) for row in rows} == {1, 2, 4, 8, 16, 20}
    with Image.open(tmp_path / "sweep.png") as plot:
        assert plot.width > 300


@pytest.mark.parametrize(("options", "named"), [
    (["--sampling.group_size=8"], "sampling"),
    (["--task=OpenWorld"], "task"),
    (["--pixels.max=7056", "--seed=3"], "pixels and seed"),
])  # fmt: skip
def test_without_a_model_what_is_sampled_is_not_set(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
):
    few = ["--examples=4"] if "--seed=3" not in options else []
    assert main(line(folder, tmp_path, *few, "--cohorts=[novel]", "--split=val")) == 0
    again = ["mine", f"--data={folder / 'birds'}", f"--out={tmp_path}", *few, "--cohorts=[novel]", "--split=val"]
    assert main([*again, *SMALL[:2]]) == 0, "what the replies were made with may be said again"
    assert main([*again, *options]) == 2
    assert f"so that {named} must be left out" in capsys.readouterr().err


def test_the_seed_that_chose_the_examples_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(line(folder, tmp_path, "--examples=4", "--seed=3", "--split=val", "--cohorts=[seen]")) == 0
    again = ["mine", f"--data={folder / 'birds'}", f"--out={tmp_path}", "--examples=4", "--split=val"]
    assert main([*again, "--cohorts=[seen]"]) == 2
    assert "and the seed 3, which decides which examples" in capsys.readouterr().err
    assert main([*again, "--cohorts=[seen]", "--seed=3"]) == 0


def test_options_are_not_mined_by_a_question_that_shows_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Neither one that is given nor one that the run was taught."""
    closed = "--data.init_args.task=fgvr.data.ClosedWorld"
    ends(start(folder / "sft.yaml", folder / "closed", "--trainer.max_steps=1", closed))
    taught = [f"--model.run={folder / 'closed'}"]
    for options in (["--task=ClosedWorld"], ["--task=ClosedWorld", "--split=val"], taught):
        assert main(line(folder, tmp_path / "out", *options)) == 2
        assert "options are mined by asking for names, but the task is ClosedWorld" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_within_a_branch_only_its_photos_are_asked_about(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    taxonomy = Taxonomy.from_dict(load_manifest(folder / "birds").taxonomy)
    family = next(iter(taxonomy.paths.values()))[0]
    inner = branch_of(taxonomy, family).classes
    assert main(line(folder, tmp_path, "--examples=8", f"--within={family}")) == 0
    assert f"within {family}: 8 of 200 photos" in capsys.readouterr().out
    made, photos = read_store(tmp_path / "replies.jsonl")
    assert made.photos == 8
    assert {photo.label for photo in photos} <= inner
    head, choices = read_options(tmp_path / "options.jsonl")
    assert head["rules"]["within"] == family
    assert all({*choice.options} <= inner for choice in choices.values())


def test_every_cohort_of_a_test_has_its_row(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(line(folder, tmp_path, "--split=val", "--examples=3")) == 0
    report, _ = unsealed((tmp_path / "report.json").read_bytes())
    assert {cohort: own["photos"] for cohort, own in report["figures"].items()} == {"seen": 3, "novel": 3, "unseen": 3}
    assert "recall@1" in capsys.readouterr().out
    _, choices = read_options(tmp_path / "options.jsonl")
    assert all(choice.label == "" and "truth" not in choice.origins for choice in choices.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seed=1",), "made with another seed"),
        (("--sampling.temperature=0.5",), "made with another way of sampling"),
        (("--task=OpenWorld", "--task.question=Who?"), "made with another question"),
        (("--split=val",), "split"),
        (("--examples=9",), "shard set"),
        (("--rows=80",), "made with another number of rows at a time"),
    ],
)
def test_replies_that_were_made_otherwise_are_kept_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
):
    assert main(line(folder, tmp_path, "--examples=8")) == 0
    before = (tmp_path / "replies.jsonl").read_bytes()
    capsys.readouterr()
    assert main(line(folder, tmp_path, "--examples=8", *options)) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "replies.jsonl").read_bytes() == before


def test_what_cannot_be_mined_is_a_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = [f"--data={folder / 'birds'}", f"--out={tmp_path / 'out'}"]
    tiny = ["--model=TinyQwen", "--model.vocabulary=[a]", "--task=OpenWorld"]
    for words, said in (
        ([], "no such file"),
        (tiny, "holds nothing that was learned"),
        (["--cohorts=[base]"], "cohorts must be some of those of"),
        (["--rules.m=1"], "m must be from 2 to 26"),
        (["--within=Cat"], "within must name a node of the taxonomy, whole, but 'Cat' is none"),
        (["--rows=0"], "rows must be at least 1"),
        (["--sampling.positives=2"], "sampling.positives must be left out, got 2"),
        (
            line(folder, tmp_path, "--examples=1", "--split=val", "--padding=Alike")[3:],
            "Mined or RandomNames as the padding",
        ),
        (
            ["--split=val", "--source=Alike", *line(folder, tmp_path, "--examples=1")[3:]],
            "must not be found by their labels",
        ),
    ):
        assert main(["mine", *plain, *words]) == 2
        assert said in capsys.readouterr().err
