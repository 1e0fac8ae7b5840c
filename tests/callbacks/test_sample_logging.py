import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_rollouts import scored_group
from toy_stream import Numbers, SaveEverything, ToyLearner, ToyStream, toy_trainer, write_set

from fgvr.callbacks import SampleLogging
from fgvr.callbacks.sample_logging import completion_rows
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.types import Partner, RolloutBatch, Verdict

HOSTILE = "<b>\x00\x1b[31m\u202e鳥\ud800\r\n| x"


class Learner(ToyLearner):
    """Every third batch only gathers; the others make `steps` optimiser steps from the rollouts of their samples."""

    def __init__(self, steps: int = 1, fail_at: int | None = None) -> None:
        super().__init__()
        self.steps, self.fail_at = steps, fail_at
        self.last_rollouts: RolloutBatch | None = None

    def training_step(self, batch: Numbers, batch_idx: int) -> None:
        values = zip(batch.uids, batch.values.tolist(), strict=True)
        groups = [scored_group([f"<answer>{uid}</answer>", HOSTILE], [value, math.nan], uid) for uid, value in values]
        self.last_rollouts = RolloutBatch(groups, [], {}, {})
        if self.global_step == self.fail_at:
            raise KeyError("stopped")
        for _ in range(self.steps if batch.record.step % 3 else 0):
            super().training_step(batch, batch_idx)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"train-seen": [20], "val-seen": [2]})


def train(root: Path, data: Path, learner: Learner, callback: SampleLogging, ckpt: Path | None = None, **settings: Any):
    stream = ToyStream([ShardSource(data)], OpenWorld(), batch_size=4, workers=0)
    trainer = toy_trainer(root, callback, SaveEverything(), max_epochs=2, limit_val_batches=0, **settings)
    trainer.fit(learner, datamodule=stream, ckpt_path=ckpt, weights_only=False)


def rows_of(root: Path) -> list[dict[str, Any]]:
    lines = (root / "rollouts.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]


def test_a_row_holds_what_was_said_and_what_it_was_worth() -> None:
    texts = ["<answer>Wren</answer>", HOSTILE]
    first, second = completion_rows(scored_group(texts, [0.5, math.nan], place=7, cut=[1]))
    assert first == {
        "place": 7,
        "uid": "u0",
        "label": "Robin",
        "completion": "<answer>Wren</answer>",
        "answer": "Wren",
        "rewards": {"exact": 0.5, "format": 1.0},
        "reward": 0.5,
        "advantage": 0.0,
        "length": 21,
        "truncated": False,
    }
    assert (second["answer"], second["reward"], second["rewards"]) == (None, None, {"exact": None, "format": 0.0})
    assert second["truncated"] is True
    assert json.loads(json.dumps(second, allow_nan=False))["completion"] == HOSTILE


def test_a_row_has_the_verdict_of_a_reward_that_judges_and_the_options_of_a_choice() -> None:
    group = scored_group(["<answer>Wren</answer>", "?"], [0.0, math.nan])
    example = replace(group.rollout.example, extra={"shown": ["Wren", "Robin"]})
    judged = replace(group, verdicts=(Verdict.LESS_SPECIFIC, None), rollout=replace(group.rollout, example=example))
    rows = list(completion_rows(judged))
    assert [row["verdict"] for row in rows] == ["less specific", None]
    assert [row["shown"] for row in rows] == [["Wren", "Robin"]] * 2
    assert "verdict" not in next(completion_rows(group))


def test_every_completion_of_every_batch_is_in_the_file(tmp_path: Path, data: Path) -> None:
    train(tmp_path, data, Learner(steps=2), SampleLogging())
    rows = rows_of(tmp_path)
    assert len(rows) == 2 * 20 * 2
    assert [(row["completion"] == HOSTILE, row["reward"] is None) for row in rows[:2]] == [(False, False), (True, True)]
    # of an epoch's five batches, 0 and 3 only gather; the others make two steps each
    steps = {(row["epoch"], row["step"]): (row["global_step"], row["learned"]) for row in rows}
    assert [steps[0, n] for n in range(5)] == [(0, False), (2, True), (4, True), (4, False), (6, True)]


def test_the_file_can_be_thinned_out(tmp_path: Path, data: Path) -> None:
    train(tmp_path, data, Learner(), SampleLogging(every_jsonl=3))
    assert sorted({row["step"] for row in rows_of(tmp_path)}) == [0, 3]


def test_a_resumed_run_leaves_no_picture_of_what_came_after_its_checkpoint(tmp_path: Path, data: Path) -> None:
    with pytest.raises(KeyError):
        train(tmp_path, data, Learner(fail_at=4), SampleLogging(every=1, groups=1))
    folder = tmp_path / "pictures" / "rollouts" / "0"
    (folder / "step-00000099.png").touch()
    (folder / "step-of-mine.png").touch()
    drawn = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    train(tmp_path, data, Learner(), SampleLogging(every=1, groups=1), tmp_path / "last.ckpt")
    now = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert sorted(now) == [*(f"step-{step:08}.png" for step in range(1, 7)), "step-of-mine.png"]
    assert {name for name in now if now[name] == drawn.get(name)} >= {f"step-0000000{n}.png" for n in (1, 2, 3)}


def test_a_resumed_run_writes_no_completion_twice_and_loses_none(tmp_path: Path, data: Path, caplog: Any) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    train(straight, data, Learner(), SampleLogging())
    with pytest.raises(KeyError):
        train(cut, data, Learner(fail_at=4), SampleLogging())
    torn = '{"epoch":0,"step":4,"global_step":3,"place":0,"uid":"lost","completion":"","reward":1,"advantage":1}\n{"ep'
    with (cut / "rollouts.jsonl").open("a") as file:
        file.write(torn.replace('"epoch":0', '"epoch":1'))
    train(cut, data, Learner(), SampleLogging(), cut / "last.ckpt")
    assert (cut / "rollouts.jsonl").read_text() == (straight / "rollouts.jsonl").read_text()
    assert "dropped 2 lines" in caplog.text


def test_groups_are_shown_at_the_first_step_and_when_their_steps_are_passed(tmp_path: Path, data: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    train(tmp_path, data, Learner(steps=2), SampleLogging(every=5, groups=2), logger=logger, log_every_n_steps=1)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0}).Reload()
    assert sorted(events.Tags()["images"]) == ["rollouts/0", "rollouts/1"]
    # two steps a batch, three such batches an epoch: 2 4 6 8 10 12
    assert [image.step for image in events.Images("rollouts/0")] == [2, 6, 10]
    (shown, *_) = events.Tensors("rollouts/1/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    files = sorted(str(file.relative_to(tmp_path / "pictures")) for file in tmp_path.rglob("*.png"))
    assert files == [f"rollouts/{place}/step-{step:08}.png" for place in (0, 1) for step in (2, 6, 10)]
    assert "Robin" in text
    assert "<b>" not in text


@pytest.mark.parametrize("wrong", [{"every": 0}, {"groups": -1}, {"every_jsonl": 0}])
def test_counts_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"must be 1 or more, got .*: leave SampleLogging out"):
        SampleLogging(**wrong)


def test_a_module_without_rollouts_has_nothing_to_show(tmp_path: Path, data: Path) -> None:
    stream = ToyStream([ShardSource(data)], OpenWorld(), batch_size=4, workers=0)
    toy_trainer(tmp_path, SampleLogging(), max_steps=2).fit(ToyLearner(), datamodule=stream)
    assert rows_of(tmp_path) == []


def test_a_triplets_rows_name_its_partners_and_whose_photo_each_completion_is_about() -> None:
    group = scored_group(["a", "b", "c"], [1.0, 0.0, 0.0])
    partners = {"positive": Partner((), "p0", "Robin"), "negative": Partner((), "n0", "Wren")}
    rollout = replace(group.rollout, example=replace(group.rollout.example, **partners), from_positive=2)
    rows = list(completion_rows(replace(group, rollout=rollout)))
    assert [row["photo"] for row in rows] == ["anchor", "positive", "positive"]
    assert {(row["positive"], row["negative"]) for row in rows} == {("p0", "n0")}
