import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from small_checkpoints import save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import ToyData, UnevenToy

from fgvr.callbacks.steps import StepLogger, passes, put_before_now, steps_behind, with_step_loggers


def train(logger: StepLogger, **settings: Any) -> UnevenToy:
    module = UnevenToy()
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=logger.root_dir,
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    with_step_loggers(trainer).fit(module, datamodule=ToyData())
    return module


def test_figures_stand_over_optimiser_steps_however_many_a_batch_makes(tmp_path: Path) -> None:
    train(StepLogger(tmp_path), max_epochs=2, val_check_interval=2)
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = [point.step for point in curves.Scalars("loss")]
    # after each of an epoch's seven batches, the first of which has nothing to log: 0 1 4 4 5 8 8, 8 9 12 12 13 16 16;
    # a batch without a step has nothing new to say
    assert steps == [1, 4, 5, 8, 9, 12, 13, 16]
    assert [point.value for point in curves.Scalars("done")] == steps
    assert [point.step for point in curves.Scalars("seen/exact")] == [1, 4, 8, 9, 12, 16]


def test_what_comes_after_the_checkpoint_is_drawn_again(tmp_path: Path) -> None:
    for done in (None, 3):
        logger = StepLogger(tmp_path, done)
        logger.trainer = Trainer(logger=False, accelerator="cpu")
        for step in range(5):
            logger.done = step
            logger.log_metrics({"loss": step + 10.0 * (done or 0)})
        logger.finalize("success")
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.value for point in curves.Scalars("loss")][:4] == [0, 1, 2, 3]
    assert 4.0 not in [point.value for point in curves.Scalars("loss")]


def test_a_logger_that_counts_nobodys_steps_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with_step_loggers"):
        StepLogger(tmp_path).log_metrics({"loss": 1.0})


@pytest.mark.parametrize(("kind", "steps"), [("own", 7), ("foreign", 0), ("none", 0)])
def test_weights_that_are_evaluated_bring_their_steps(tmp_path: Path, kind: str, steps: int) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    foreign = tmp_path / "of-lightning.ckpt"
    foreign.write_bytes(b"")
    trainer.ckpt_path = {"own": str(save(tmp_path, 7)), "foreign": str(foreign), "none": None}[kind]
    assert steps_behind(trainer) == steps


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(0, 0, False), (4, 5, True), (5, 5, False), (3, 9, True), (5, 9, False), (9, 31, True)],
)
def test_a_multiple_is_passed_once(before: int, now: int, expected: bool) -> None:
    assert passes(5, before, now) is expected


def test_curves_begun_before_a_clock_was_put_back_are_read_first(tmp_path: Path) -> None:
    now = int(time.time())
    old = [
        f"events.out.tfevents.{begun:010d}.node.{number}.0" for number, begun in enumerate((7, now + 50, now + 3600))
    ]
    for name in (*old, "events.out.tfevents.eel.node.9.0"):
        (tmp_path / name).write_text(name)
    put_before_now(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [path.read_text() for path in files] == [*old, "events.out.tfevents.eel.node.9.0"]
    begun = [int(path.name.split(".")[3]) for path in files[:3]]
    assert begun[0] == 7
    assert begun[1] == begun[2] - 1
    assert begun[2] < time.time()
    put_before_now(tmp_path)
    assert sorted(tmp_path.iterdir()) == files, "what is of the past stays"


def test_figures_that_belong_together_are_drawn_together(tmp_path: Path) -> None:
    logger = StepLogger(tmp_path)
    logger.trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, barebones=True)
    logger.log_metrics({"reward": 1.0})
    logger.log_metrics({"rewards/exact/mean": 1.0})
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir, size_guidance={"tensors": 0}).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    text = event.tensor_proto.string_val[0]
    assert b"Reward and its components" in text
    assert b"^(?:rewards/(.+)/mean)$" in text
