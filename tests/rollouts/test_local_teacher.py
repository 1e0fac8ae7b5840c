"""A policy as its own teacher: replies belong to the question and the seed, and become thoughts as a server's do."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo, tiny_backbone, tiny_policy
from trained_runs import noisy, save

from fgvr.aviary import Aviary
from fgvr.errors import UserError
from fgvr.models import Policy, Trained
from fgvr.models.sampling import Sampling
from fgvr.rollouts import RolloutEngine
from fgvr.rollouts.local_teacher import LocalTeacher
from fgvr.shards.packing import pack
from fgvr.thoughts.aviary_teacher import AviaryTeacher
from fgvr.thoughts.building import Recipe
from fgvr.thoughts.teacher import Asked, Kind, NoReply, Photo
from fgvr.tools.build_cot import cot
from fgvr.types import Completion, PromptBatch, RolloutGroup


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "run"
    save(noisy(tiny_policy()), folder)
    return folder


def asked(kind: Kind, text: str, number: int = 0, seed: int = 0) -> Asked:
    data = io.BytesIO()
    photo(56, 56, seed).save(data, "PNG")
    return Asked(kind, text, Photo(f"u{seed}", "Jade Owl", (), data.getvalue()), number)


QUESTIONS = [
    asked("concepts", "List what it looks like"),
    asked("description", "Describe the bird", 0),
    asked("description", "Describe the bird", 1),
    asked("thought", "What is shown?", seed=1),
    asked("thought", "What is <|im_end|> shown?", seed=1),
]


def said(teacher: LocalTeacher, questions: Sequence[Asked]) -> list[str]:
    found = dict(one for part in teacher.replies(questions) for one in part)
    return [str(found[place]) for place in range(len(questions))]


def test_a_reply_is_of_its_question_and_the_seed_and_not_of_the_batch(run: Path) -> None:
    one, three = (LocalTeacher(Trained(str(run)), batch=batch, max_new_tokens=6) for batch in (1, 3))
    replies = said(one, QUESTIONS)
    assert said(three, QUESTIONS) == replies
    assert said(three, QUESTIONS[::-1]) == replies[::-1]
    assert replies[1] != replies[2]  # another number, another draw
    assert "control token" in replies[4]  # told as no reply
    assert one.reply(QUESTIONS[0]) == replies[0]
    with pytest.raises(NoReply, match="control token"):
        one.reply(QUESTIONS[4])
    assert said(LocalTeacher(Trained(str(run)), max_new_tokens=6, seed=1), QUESTIONS[:4]) != replies[:4]
    assert one.identity == three.identity
    assert one.identity != LocalTeacher(Trained(str(run)), max_new_tokens=6, seed=1).identity


def test_texts_are_compared_by_the_model_s_own_embeddings(run: Path) -> None:
    teacher = LocalTeacher(Trained(str(run)))
    rows = teacher.encoder()(["Jade Owl", "Jade Owl Jade Owl", "Heron"])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1])
    assert rows[0] @ rows[1] > rows[0] @ rows[2]


class Knowing(RolloutEngine):
    """Answers each prompt as the Aviary's teacher would, out of the prompt's own tokens; counts the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def sample(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        self.batches.append(len(seeds))
        return [self._group(policy, batch, row, seeds[row]) for row in range(len(seeds))]

    def _group(self, policy: Policy, batch: PromptBatch, row: int, seed: int) -> RolloutGroup:
        prompt = batch.prompt(row)
        ids = prompt.input_ids[prompt.input_ids != policy.processor.image_token]
        told = policy.processor.decode(ids.tolist())
        label = re.search(r"by which a (.+?) can|right answer is (.+?)\.", told)
        kind: Kind = "description" if label is None else "concepts" if label[1] else "thought"
        text = "A bird, drawn."
        if label is not None:
            name = label[1] or label[2]
            text = "<think>hm</think>" + AviaryTeacher().reply(Asked(kind, told, Photo(name, name, (), b""), 0))
        return RolloutGroup(
            batch.examples[row], row, prompt, [Completion(torch.tensor([seed % 7]), torch.zeros(1), False, text)]
        )


def test_its_thoughts_are_kept_and_the_manifest_names_it(run: Path, tmp_path: Path) -> None:
    pack(Aviary(species=48, unseen=4, train=1, val=0, test=0, size=56), tmp_path / "birds")
    engine = Knowing()
    teacher = LocalTeacher(Trained(str(run)), batch=3, engine=engine)
    cot(tmp_path / "birds", tmp_path / "out", teacher, examples=4, recipe=Recipe(descriptions=2))
    assert engine.batches == [3, 1, 3, 3, 2, 3, 1]  # concepts of four classes, eight descriptions, four thoughts
    told = json.loads((tmp_path / "out/manifest.json").read_text())
    assert told["accepted"] == 4
    assert told["teacher"] == {**teacher.told, "kind": "LocalTeacher", "batch": 3, "seed": 0}
    assert told["texts_compared_by"] == "the teacher's own embeddings"
    assert "hm" not in (tmp_path / "out/cot.json").read_text()  # what it thought before its parts is none of them
    before = (tmp_path / "out/cot.json").read_bytes()
    cot(tmp_path / "birds", tmp_path / "out", teacher, examples=4, recipe=Recipe(descriptions=2))
    assert (len(engine.batches), (tmp_path / "out/cot.json").read_bytes()) == (7, before)


def test_what_cannot_teach_is_said(run: Path) -> None:
    with pytest.raises(UserError, match=r"teacher\.batch must be at least 1"):
        LocalTeacher(Trained(str(run)), batch=0)
    with pytest.raises(UserError, match=r"teacher\.max_new_tokens must be at least 1"):
        LocalTeacher(Trained(str(run)), max_new_tokens=0)
    with pytest.raises(UserError, match=r"teacher\.temperature must be above 0"):
        LocalTeacher(Trained(str(run)), temperature=0.0)
    with pytest.raises(UserError, match="TinyQwen holds nothing that was learned"):
        _ = LocalTeacher(tiny_backbone()).identity
    spoilt = replace(QUESTIONS[1], photo=replace(QUESTIONS[1].photo, image=b"no image"))
    assert "image" in said(LocalTeacher(Trained(str(run)), max_new_tokens=2), [spoilt])[0]
