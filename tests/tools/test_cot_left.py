"""What `cot` does about photos and teachers that fail, and what it leaves of an earlier run in its folder."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from conftest import photo, tiny_policy
from teacher_server import TeacherServer

from fgvr.aviary import Aviary
from fgvr.errors import UserError
from fgvr.judges.served.server import Server
from fgvr.shards.manifest import load_index, load_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.thoughts.aviary_teacher import AviaryTeacher
from fgvr.thoughts.building import Recipe
from fgvr.thoughts.served import SERVER, ServedTeacher
from fgvr.thoughts.teacher import Asked, Photo
from fgvr.tools.build_cot import cot

QUICK = Recipe(descriptions=0, attempts=1)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of each of 44 classes to train on."""
    folder = tmp_path_factory.mktemp("left") / "birds"
    pack(Aviary(species=48, unseen=4, train=3, val=0, test=0, size=56), folder, PackOptions(val=0, test=0))
    return folder


def told(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_text())


def test_other_photos_of_a_class_stand_in_and_what_they_were_for_is_told(birds: Path, tmp_path: Path) -> None:
    teacher = AviaryTeacher(mistakes=0.6)
    for name, spares in (("none", 0), ("two", 2)):
        cot(birds, tmp_path / name, teacher, examples=20, recipe=QUICK, spares=spares, max_rejected=0.9)
    without, made = told(tmp_path / "none"), told(tmp_path / "two")
    assert without["stood_in"] == 0
    assert made["photos"] == 20 + made["stood_in"] == made["accepted"] + made["rejected"]
    assert made["attempts"] == made["accepted"] + sum(made["refused"].values())
    assert len(made["classes_lost"]) < len(without["classes_lost"])
    first = {one["uid"]: one for one in made["samples"]}
    for one in made["samples"][20:]:
        assert first[one["instead_of"]]["label"] == one["label"]
        assert not first[one["instead_of"]]["accepted"]
    of_class = Counter(one["label"] for one in made["samples"])
    assert max(of_class.values()) == 3  # the photo and its two spares
    accepted = Counter(one["label"] for one in made["samples"] if one["accepted"])
    assert set(accepted.values()) == {1}


def test_a_folder_holds_what_the_last_run_has_made_and_others_files_stay(birds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cot(birds, out, AviaryTeacher(), examples=4, recipe=QUICK)
    (out / "photos/mine.txt").write_text("x")
    before = {file.name for file in (out / "photos").iterdir()}
    cot(birds, out, AviaryTeacher(), examples=4, recipe=QUICK, seed=1)
    shown = {image for row in json.loads((out / "cot.json").read_text()) for image in row["images"]}
    assert {f"photos/{file.name}" for file in (out / "photos").iterdir()} == shown | {"photos/mine.txt"}
    assert len(before) == 5
    assert before != {Path(image).name for image in shown}
    assert sum(shard.samples for shard in load_manifest(out / "shards").shards) == 4


@pytest.mark.parametrize(("changed", "stays"), [(None, True), ("taxonomy.json", False), ("cot.json", False)])
def test_shards_are_packed_anew_of_other_conversations_or_classes_alone(
    birds: Path, tmp_path: Path, changed: str | None, stays: bool
) -> None:
    out = tmp_path / "out"
    cot(birds, out, AviaryTeacher(), examples=2, recipe=QUICK)
    (out / "shards/mark").touch()
    if changed is not None:
        (out / changed).write_text("{}")  # as of an earlier run about other data
    cot(birds, out, AviaryTeacher(), examples=2, recipe=QUICK)
    assert (out / "shards/mark").exists() == stays
    assert sum(shard.samples for shard in load_manifest(out / "shards").shards) == 2


def test_a_folder_with_something_else_is_refused(birds: Path) -> None:
    whole = (birds / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="is of something else: choose another out"):
        cot(birds, birds, AviaryTeacher())
    assert (birds / "manifest.json").read_bytes() == whole


@pytest.mark.parametrize(
    ("question", "says"), [(" \n", "must say what is asked"), ("<image> What?", "already: take <ima")]
)
def test_a_question_that_asks_nothing_or_shows_the_photo_again_is_refused(
    birds: Path, tmp_path: Path, question: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        cot(birds, tmp_path / "out", AviaryTeacher(), question=question)
    assert not (tmp_path / "out").exists()


def test_a_photo_that_cannot_be_read_is_told_and_another_taken(birds: Path, tmp_path: Path) -> None:
    cot(birds, tmp_path / "whole", AviaryTeacher(), examples=2, recipe=QUICK)
    birds = Path(copytree(birds, tmp_path / "copied"))
    uid = told(tmp_path / "whole")["samples"][0]["uid"]
    (shard,) = [one for one in load_manifest(birds).shards if one.split == "train"]
    (entry,) = [one for one in load_index(birds, shard) if one.key == uid]
    member = next(one for one in entry.members if not one.name.endswith(".json"))
    with (birds / shard.file).open("r+b") as file:
        file.seek(member.offset + 20)
        file.write(b"damaged")
    cot(birds, tmp_path / "damaged", AviaryTeacher(), examples=2, recipe=QUICK)
    made = told(tmp_path / "damaged")
    assert made["unreadable"] == [uid]
    assert (made["photos"], made["accepted"]) == (2, 2)
    labels = [[one["label"] for one in told(tmp_path / name)["samples"]] for name in ("whole", "damaged")]
    assert labels[0] == labels[1]


def test_a_folder_s_model_compares_texts(birds: Path, tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.base.save_pretrained(tmp_path / "qwen")
    policy.processor.save(tmp_path / "qwen")
    cot(birds, tmp_path / "out", AviaryTeacher(), examples=3, encoder=tmp_path / "qwen")
    made = told(tmp_path / "out")
    assert made["texts_compared_by"] == "the encoder qwen"
    assert all(len(one["concepts"]) >= 3 for one in made["samples"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the teacher's server .* must take the key of .*FGVR_TEACHER_KEY"),
        (404, "the teacher's server must serve 't' at"),
    ],
)
def test_a_server_that_will_have_none_of_it_is_told_of_as_the_teacher_s(
    birds: Path, tmp_path: Path, status: int, words: str
) -> None:
    with TeacherServer(status=status) as server, pytest.raises(UserError, match=words):
        cot(birds, tmp_path / "out", ServedTeacher("t", Server(server.url, key_env="FGVR_TEACHER_KEY")), examples=1)


def test_the_address_is_the_teacher_s(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER.url_env, raising=False)
    with pytest.raises(UserError, match=r"the teacher's server must have an address, .* FGVR_TEACHER_URL too"):
        cot(birds, tmp_path / "out", ServedTeacher("t"), examples=1)


@pytest.mark.parametrize("silent", ["concepts", "description"])
def test_a_photo_without_concepts_is_reasoned_about_all_the_same(birds: Path, tmp_path: Path, silent: str) -> None:
    with TeacherServer(silent=silent) as server:
        cot(birds, tmp_path / "out", ServedTeacher("t", Server(server.url)), examples=3, recipe=Recipe(descriptions=1))
    made = told(tmp_path / "out")
    assert (made["accepted"], made["without_concepts"]) == (3, 3)


def test_a_photo_travels_as_what_it_is() -> None:
    data = io.BytesIO()
    photo(30, 30).save(data, "WEBP")
    teacher = ServedTeacher("t", Server("http://127.0.0.1:9/v1"))
    asked = Asked("thought", "What?", Photo("u", "x", (), data.getvalue()), 0)
    shown = json.loads(teacher._body(asked))["messages"][0]["content"][0]["image_url"]["url"]
    assert shown.startswith("data:image/webp;base64,")


def test_replies_that_were_cut_off_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with TeacherServer(finish="length", silent="concepts") as server:
        teacher = ServedTeacher("teacher", Server(url=server.url), max_tokens=9)
        for number in range(2):
            teacher.reply(Asked("concepts", "List what is seen.", Photo("u", "l", (), b""), number))
        teacher.close()
        teacher.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["2 replies were cut off at teacher.max_tokens=9, so parts may be missing: raise it"]
