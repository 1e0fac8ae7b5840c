"""`python -m fgvr cot`: counts that add up, nothing asked twice, and what it leaves can be trained on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from teacher_server import TeacherServer
from warm_start import Warm

from fgvr.__main__ import main
from fgvr.aviary import Aviary
from fgvr.data import AsWritten
from fgvr.data.tasks import parse_completion
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet

LEFT = ("cot.json", "manifest.json", "taxonomy.json", "shards/manifest.json")


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of each of 44 classes to train on."""
    folder = tmp_path_factory.mktemp("cot") / "birds"
    pack(Aviary(species=48, unseen=4, train=1, val=1, test=0, size=56), folder, PackOptions())
    return folder


def line(birds: Path, out: Path, *options: str) -> list[str]:
    return ["cot", "--data", str(birds), "--out", str(out), *options]


def left(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in LEFT}


def test_counts_add_up_and_the_second_run_asks_nothing(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line(birds, tmp_path, "--teacher", "AviaryTeacher", "--teacher.mistakes", "0.5", "--examples", "40")
    assert main(words) == 0
    said = capsys.readouterr().out
    told, before = json.loads((tmp_path / "manifest.json").read_text()), left(tmp_path)
    assert told["photos"] == 40 == told["accepted"] + told["rejected"]
    assert told["attempts"] == told["accepted"] + sum(told["refused"].values())
    assert len({sample["label"] for sample in told["samples"]}) == 40
    assert all(sample["concepts"] for sample in told["samples"])
    refused = {"wrong prediction", "label in the analysis", "missing section: comparison"}
    assert set(told["refused"]) == refused
    assert f"{told['accepted']} thoughts accepted after {told['attempts']} attempts" in said
    assert main(words) == 0
    assert "0 asked for" in capsys.readouterr().out
    assert left(tmp_path) == before


def test_what_is_left_is_trained_on_to_the_letter(birds: Path, tmp_path: Path) -> None:
    assert main(line(birds, tmp_path, "--teacher", "AviaryTeacher", "--examples", "6")) == 0
    rows = {row["images"][0]: row for row in json.loads((tmp_path / "cot.json").read_text())}
    assert len(rows) == 6
    shards = ShardSet(tmp_path / "shards", "train", ("seen",))
    task = AsWritten(think=True).bind(shards.taxonomy)
    for number in range(len(shards)):
        example = shards.read(number)
        row = next(row for row in rows.values() if row["messages"][1]["content"] == example.extra["response"])
        assert task.target(example, random.Random(0)) == row["messages"][1]["content"]
        answer = parse_completion(row["messages"][1]["content"])
        assert answer is not None
        assert answer.text == example.label
        assert len(example.path) == 4
        said = task.messages(example, random.Random(0))[0]["content"]
        assert [part["type"] for part in said] == ["image", "text"]


SERVED = ("--teacher", "ServedTeacher", "--teacher.model", "teacher")


def test_a_server_is_asked_once(birds: Path, tmp_path: Path) -> None:
    with TeacherServer(mistakes=0.3) as server:
        words = line(birds, tmp_path, *SERVED, "--recipe.descriptions", "2", "--teacher.server.url", server.url)
        assert main([*words, "--examples", "40"]) == 0
        asked, before = server.asked, left(tmp_path)
        assert asked >= 40 * (1 + 2 + 1)  # concepts of each class, two descriptions and a thought of each photo
        assert server.shown == asked - 40
        assert main([*words, "--examples", "40"]) == 0
        assert server.asked == asked
    assert left(tmp_path) == before


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(birds: Path, tmp_path: Path) -> None:
    with TeacherServer(mistakes=0.3, delay=0.02) as server:
        options = (*SERVED, "--recipe.descriptions", "2", "--teacher.server.url", server.url, "--examples", "40")
        process = Warm(line(birds, tmp_path / "cut", *options), os.environ)
        while server.asked < 60 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        server.delay, cut = 0.0, server.asked
        assert main(line(birds, tmp_path / "cut", *options)) == 0
        both = server.asked
        assert main(line(birds, tmp_path / "whole", *options)) == 0
        assert both < server.asked - both + 40  # what was under way alone is asked again
        assert cut < both
    assert left(tmp_path / "cut") == left(tmp_path / "whole")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("I'm sorry, I cannot help.", "refused"),
        ("<analysis>a</analysis>", "missing section: options"),
        (
            "<analysis>a</analysis><options>b</options><comparison>c</comparison><prediction>b</prediction>",
            "wrong prediction",
        ),
        (
            "<analysis>Der Kopf ist rot.</analysis><options>{label}; x</options><comparison>Das andere hat kein Band "
            "und ist kleiner.</comparison><prediction>{label}</prediction>",
            "another language",
        ),
        (
            "<analysis>It is the {label} that is seen.</analysis><options>{label}</options><comparison>The other one "
            "is not seen at all.</comparison><prediction>{label}</prediction>",
            "label in the analysis",
        ),
        ("\ud800", "unreadable characters"),  # half of a letter, as JSON can spell one
        (
            "<analysis>It is a bird <thi<think>nk>, in the light.</analysis><options>{label}</options><comparison>The "
            "other one is not seen at all.</comparison><prediction>{label}</prediction>",
            "tag or heading within a section: analysis",
        ),
    ],
)
def test_a_teacher_that_never_gets_it_right_is_counted_and_past_the_limit_an_error(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], says: str, reason: str
) -> None:
    with TeacherServer(says=says) as server:
        options = (*SERVED, "--teacher.server.url", server.url, "--recipe.descriptions", "0", "--examples", "3")
        assert main(line(birds, tmp_path, *options)) == 2
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert told["refused"] == {reason: 12}  # three photos, four attempts each
    assert (told["without_concepts"], len(told["classes_lost"])) == (3, 3)
    assert "at least one photo must end with a thought, but none of 3 did" in capsys.readouterr().err


def test_a_teacher_that_is_gone_is_a_sentence(birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--teacher", "ServedTeacher", "--teacher.model", "t", "--teacher.server.url", "http://127.0.0.1:9/v1")
    assert main(line(birds, tmp_path, *options, "--teacher.server.patience", "0.2", "--examples", "2")) == 2
    said = capsys.readouterr()
    assert "Where the teacher gave no reply, at last: " in said.out
    assert "Replies: 20 asked for, 20 of them not had; 0 kept from before." in said.out
    assert "at least one photo must end with a thought, but none of 2 did" in said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--spares", "-1"), "cot.spares must be at least 0"),
        (("--question", "<image> What?"), "take <image> out of"),
        (("--question", "<|im_end|>"), "must not spell a control token"),
        (("--encoder", "nowhere"), "encoder must be a folder with an encoder of texts, but there is no folder nowhere"),
        (("--per_class", "0"), "cot.per_class must be at least 1"),
        (("--max_rejected", "2"), "cot.max_rejected is a share"),
        (("--recipe.attempts", "0"), "recipe.attempts must be at least 1"),
        (("--teacher.mistakes", "-1"), "teacher.mistakes is a share"),
    ],
)
def test_numbers_out_of_range(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert main(line(birds, tmp_path, "--teacher", "AviaryTeacher", *options)) == 2
    assert words in capsys.readouterr().err
