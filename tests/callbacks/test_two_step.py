from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_backbone
from lightning.pytorch import LightningDataModule, Trainer
from says import ASK, BIRDS, CHOOSE, batch_of, letter_of, says
from torch.utils.data import DataLoader

from fgvr.callbacks import TwoStepInference
from fgvr.data import ClosedWorld, OpenWorld
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.modules import GRPO
from fgvr.rewards import Exact
from fgvr.rollouts.two_step import TwoStep
from fgvr.taxonomy.branch import branch_of
from fgvr.types import PromptBatch

TORN = ["Azure Finch"] * 3 + ["Amber Finch"] * 3 + [None] * 2
SEEN, NOVEL = ["Amber Finch", "Azure Finch", "Jade Owl"], ["Amber Finch"]
REPLIES = [TORN, ["Azure Finch"] * 8, [None] * 8]


class Asked(LightningDataModule):
    """Three photos of seen birds and one of a novel one."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.task: Any = ASK
        self.taxonomy, self.cohorts = BIRDS, ["novel", "seen"]
        self.batches: list[PromptBatch] = [batch_of(policy, NOVEL, "novel", "n"), batch_of(policy, SEEN, "seen", "s")]

    def classes_of(self, cohort: str) -> frozenset[str]:
        return frozenset({"Amber Finch", "Jade Owl"} if cohort == "novel" else {"Azure Finch", "Jade Owl"})

    def val_dataloader(self) -> Any:
        return [DataLoader([batch], batch_size=None) for batch in self.batches]  # pyright: ignore[reportArgumentType]

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> Any:
        """The seen photos, whose labels nobody knows."""
        batch = self.batches[1]
        unknown = [replace(example, label="", path=()) for example in batch.examples]
        return DataLoader([replace(batch, examples=unknown)], batch_size=None)  # pyright: ignore[reportArgumentType]


class Named(GRPO):
    """Greedy answers are the azure finch's, whatever is shown."""

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return ["<answer>Azure Finch</answer>"] * len(batch.examples)

    test_step = predict_step = validation_step


def run(
    folder: Path,
    verb: str = "validate",
    task: Any = None,
    practised: Any = None,
    replies: Any = REPLIES,
    within: str | None = None,
    **options: Any,
) -> dict[str, float]:
    policy = says(replies, letter_of("Amber Finch"))
    module = Named(PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84)), Exact())
    module.policy = policy
    data = Asked(policy)
    data.task = task or data.task
    if within is not None:
        data.branch = branch_of(BIRDS, within)  # pyright: ignore[reportAttributeAccessIssue]
    if practised is not None:
        data.train_task = practised  # pyright: ignore[reportAttributeAccessIssue]
    callback = TwoStepInference(**({"choice": CHOOSE, "plan": TwoStep(8)} | options))
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], default_root_dir=folder,
    )  # fmt: skip
    if verb == "predict":
        trainer.predict(module, datamodule=data)
    else:
        getattr(trainer, verb)(module, datamodule=data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_photo_has_its_row_and_counts(tmp_path: Path):
    figures = run(tmp_path, plan=TwoStep(8, rotations=1))
    rows = rows_of(tmp_path / "two_step/step-00000000.jsonl")
    assert [(row["cohort"], row["uid"]) for row in rows] == [
        ("novel", "n0"),
        ("seen", "s0"),
        ("seen", "s1"),
        ("seen", "s2"),
    ]
    assert [row["gate"] for row in rows] == ["asked", "asked", "unanimous", "nothing read"]
    assert [row["answer"] for row in rows] == ["Amber Finch", "Amber Finch", "Azure Finch", None]
    assert rows[1]["right"] == {
        "greedy": False,
        "vote": rows[1]["vote"] == "Amber Finch",
        "answer": True,
        "options": True,
    }
    assert [sum(one["votes"] for one in row["votes"]) + sum(row["dropped"].values()) for row in rows] == [8] * 4
    assert figures["seen/two_step/accuracy"] == pytest.approx(2 / 3)
    assert figures["seen/two_step/options"] == pytest.approx(2 / 3)
    assert figures["seen/two_step/greedy"] == pytest.approx(1 / 3)
    assert figures["seen/two_step/right_of_reached"] == 1
    assert figures["seen/two_step/nothing_read"] == pytest.approx(1 / 3)
    assert figures["novel/two_step/accuracy"] == 1
    assert figures["novel/two_step/asked"] == 1


def test_two_passes_write_the_same_bytes_and_a_test_its_own(tmp_path: Path):
    for name in ("a", "b"):
        run(tmp_path / name)
    names = ["step-00000000.html", "step-00000000.jsonl"]
    assert sorted(file.name for file in (tmp_path / "a/two_step").iterdir()) == names
    for name in names:
        assert (tmp_path / "a/two_step" / name).read_bytes() == (tmp_path / "b/two_step" / name).read_bytes()
    run(tmp_path / "a", "test")
    assert (tmp_path / "a/two_step/test.jsonl").read_bytes() == (tmp_path / "a/two_step" / names[1]).read_bytes()


def test_photos_without_labels_are_named_in_prediction(tmp_path: Path):
    assert run(tmp_path, "predict", plan=TwoStep(8, rotations=1)) == {}
    rows = rows_of(tmp_path / "two_step/predict.jsonl")
    assert [(row["uid"], row["label"], row["answer"], row["by"]) for row in rows] == [
        ("s0", "", "Amber Finch", "choice"),
        ("s1", "", "Azure Finch", "vote"),
        ("s2", "", None, "abstain"),
    ]
    assert not any("right" in row for row in rows)
    assert (tmp_path / "two_step/predict.html").read_text().count("<article") == 3


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


def test_the_page_shows_as_many_photos_of_each_cohort_as_asked(tmp_path: Path):
    run(tmp_path, pictures=2)
    tags = Tags()
    tags.feed((tmp_path / "two_step/step-00000000.html").read_text())
    assert tags.seen.count("article") == tags.seen.count("img") == 3
    run(tmp_path / "none", pictures=0)
    assert "<article" not in (tmp_path / "none/two_step/step-00000000.html").read_text()


def test_a_gate_with_a_margin_says_nothing_of_its_own_cost(tmp_path: Path):
    assert "seen/two_step/gate_saves_in_hindsight" in run(tmp_path / "open")
    assert "seen/two_step/gate_saves_in_hindsight" in run(tmp_path / "closed", plan=TwoStep(8, margin=1.0)), (
        "it closed nothing"
    )


def test_what_cannot_be_done_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"train_task, and fgvr\.data\.OpenWorld into task"):
        run(tmp_path, task=CHOOSE)
    with pytest.raises(UserError, match="must be a fgvr"):
        TwoStepInference(OpenWorld())
    with pytest.raises(UserError, match="classes, cohort or open"):
        TwoStepInference(scope="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="every"):
        TwoStepInference(every=0)
    many = ClosedWorld(4, letters=True, none_of_these=0.1)
    with pytest.raises(UserError, match="need 27 letters"):
        TwoStepInference(many, TwoStep(8, options=26))
    with pytest.raises(UserError, match="need 27 letters"):
        run(tmp_path, choice=None, practised=many, plan=TwoStep(8, options=26))


def test_options_may_be_those_of_the_photos_own_cohort(tmp_path: Path):
    run(tmp_path, scope="cohort")
    rows = [json.loads(line) for line in (tmp_path / "two_step/step-00000000.jsonl").read_text().splitlines()]
    options = {(row["cohort"], name) for row in rows for name in row["options"]}
    assert options == {("novel", "Amber Finch"), ("seen", "Azure Finch")}, "what was said, of each cohort's own classes"
    made = rows[0]["made_with"]
    assert (made["scope"], made["samples"], made["options"], made["letters"]) == ("cohort", 8, 5, True)
    assert all(row["made_with"] == made for row in rows)
    with pytest.raises(UserError, match=r"nobody knows .* by --trainer\.callbacks\.init_args\.scope classes"):
        run(tmp_path / "predicted", "predict", scope="cohort")


def test_without_a_choice_it_asks_what_training_asks(tmp_path: Path):
    practised = ClosedWorld(2, letters=True, question="Which of these birds?")
    run(tmp_path / "own", choice=None, practised=practised)
    run(tmp_path / "usual", choice=None)
    asked = [
        [
            question["shown"]
            for row in rows_of(tmp_path / name / "two_step/step-00000000.jsonl")
            for question in row["questions"]
        ]
        for name in ("own", "usual")
    ]
    assert asked[0] == asked[1], "which options, and in which order, is the plan's"
    assert sum(map(len, asked)) == 2 * 4


@pytest.mark.parametrize("scope", ["classes", "open"])
def test_within_a_branch_no_other_name_is_an_option_whatever_was_said(tmp_path: Path, scope: str):
    replies = ["Azure Finch"] * 3 + ["Jade Owl"] * 3 + ["gull"] * 2
    run(tmp_path, replies=[replies] * 3, within="finches", scope=scope)
    rows = rows_of(tmp_path / "two_step/step-00000000.jsonl")
    assert {name for row in rows for name in row["options"]} == {"Azure Finch"}
    assert [row["gate"] for row in rows] == ["one name"] * 4
