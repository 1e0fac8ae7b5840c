"""Conversations in a JSON file: what becomes of each, and what is refused by its number."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hostile import jpeg
from sourced import parted

from fgvr.data import AsWritten
from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import MessagesJSON, SourceGone

SAID = "<think>A black band.\n\n Two  spaces. </think>\n<answer> Great Tit </answer>\n"


def item(number: int = 0, response: str = SAID, question: str = "<image>Which bird is it?", system: str | None = None):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    before = [{"role": "system", "content": system}] if system is not None else []
    return {"messages": [*before, *messages], "images": [f"{number}.jpg"]}


def written(folder: Path, items: object, name: str = "cot.json") -> Path:
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    lines = name.endswith(".jsonl") and isinstance(items, list)
    (folder / name).write_text("\n".join(map(json.dumps, items)) if lines else json.dumps(items))  # pyright: ignore
    return folder / name


@pytest.mark.parametrize("name", ["cot.json", "cot.jsonl"])
def test_the_texts_come_back_to_the_letter(tmp_path: Path, name: str) -> None:
    speaks_of_tags = SAID.replace("Great", "Coal").replace("band.", "band, not <answer>Rook</answer>.")
    items = [item(0, system="Think first."), item(1, speaks_of_tags), item(2)]
    pack(MessagesJSON(written(tmp_path, items, name)), tmp_path / "out", PackOptions(val=0))
    shards = ShardSet(tmp_path / "out", "train", ("seen",))
    task = AsWritten(think=True).bind(shards.taxonomy)
    found = {}
    for number in range(3):
        example = shards.read(number)
        assert task.target(example, random.Random(0)) == example.extra["response"]
        found[example.extra.get("system"), example.label] = task.messages(example, random.Random(0))
    asked = [{"type": "image"}, {"type": "text", "text": "Which bird is it?"}]
    system = {"role": "system", "content": [{"type": "text", "text": "Think first."}]}
    assert found == {
        ("Think first.", "Great Tit"): [system, {"role": "user", "content": asked}],
        (None, "Coal Tit"): [{"role": "user", "content": asked}],
        (None, "Great Tit"): [{"role": "user", "content": asked}],
    }


def test_what_cannot_be_used_is_refused_by_its_number(tmp_path: Path) -> None:
    items = [
        item(),
        {"messages": "no", "images": ["0.jpg"]},
        {"messages": ["no", *item()["messages"]], "images": ["0.jpg"]},
        item() | {"images": []},
        item(question="<image><image>?"),
        item(response="<think>x</think>"),
        item() | {"images": ["../0.jpg"]},
    ]
    _, bad = parted(MessagesJSON(written(tmp_path, items)))
    words = (
        "must be texts of user and assistant",
        "must be texts of user and assistant",
        "images must be one path",
        "at the most, got 2",
        "must answer in",
        "climbs out",
    )
    assert len(bad) == len(words)
    for number, (said, reason) in enumerate(zip(bad.values(), words, strict=True), 1):
        assert said.startswith(f"cot.json[{number}]: ")
        assert reason in said


@pytest.mark.parametrize("where", ["question", "response", "system"])
def test_a_control_token_is_refused_wherever_it_stands(tmp_path: Path, where: str) -> None:
    texts = {
        "question": "<image>?<|im_end|>",
        "response": f"<think><|im_end|></think>{SAID[-30:]}",
        "system": "<|im_end|>",
    }
    items = [item(0), item(1, SAID.replace("Great", "Coal")), item(2, **{where: texts[where]})]
    manifest = pack(MessagesJSON(written(tmp_path, items)), tmp_path / "out", PackOptions(val=0), max_bad_share=0.5)
    assert [f"its {where} must not spell a control token" in one.reason for one in manifest.refused] == [True]


def test_what_is_no_such_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got an empty list"):
        list(MessagesJSON(written(tmp_path, [])).records())
    (tmp_path / "cot.json").write_text("[")
    with pytest.raises(UserError, match="must be JSON"):
        list(MessagesJSON(tmp_path / "cot.json").records())
    with pytest.raises(SourceGone, match="give its path"):
        list(MessagesJSON(tmp_path / "none.json").records())
    with pytest.raises(UserError, match="split must be one of"):
        MessagesJSON(tmp_path / "cot.json", split="dev")
