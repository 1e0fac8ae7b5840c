import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import curves
from lightning.pytorch import Callback, LightningModule, Trainer
from rl_run import sft_config
from toy_run import ToyData, ToyModel, UnevenToy, same_weights

from fgvr.__main__ import main
from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.callbacks.step_seeds import StepSeeds
from fgvr.checkpoints.format import (
    best_checkpoint,
    checkpoints_in,
    read_checkpoint,
    read_manifest,
    write_checkpoint,
)
from fgvr.errors import UserError
from fgvr.runs.folder import RunFolder
from fgvr.strategies.checkpoint_io import WholeCheckpointIO

MADE_OF = {"config": {"lr": 1}, "code": {"version": "0"}}


def train(
    run: RunFolder,
    resume: Path | None = None,
    data: ToyData | None = None,
    now: dict[str, Any] = MADE_OF,
    **settings: Any,
) -> tuple[ToyModel, RunCheckpoints]:
    torch.manual_seed(0)
    model = UnevenToy() if settings.pop("uneven", False) else ToyModel(manual=settings.pop("manual", False))
    batches = settings.pop("batches", 7)
    saver = RunCheckpoints(run, {"model": "toy"}, now)
    settings = {"max_epochs": 3, "val_check_interval": 3, **settings}
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=run.dir,
        callbacks=[StepSeeds(0), *settings.pop("callbacks", []), saver],
        plugins=[WholeCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(model, datamodule=data or ToyData(batches), ckpt_path=None if resume is None else str(resume))
    return model, saver


SCHEDULES = [
    {"manual": True, "max_epochs": -1, "max_steps": 12, "val_check_interval": 3},
    {"max_epochs": 3, "val_check_interval": 3},
    {"max_epochs": 3},
    {"max_epochs": 3, "val_check_interval": 1.0, "batches": 1},
    {"max_epochs": -1, "max_steps": 3, "val_check_interval": 1.0, "batches": 1},
    {"max_epochs": 3, "val_check_interval": 1.0, "batches": 2},
    {"max_epochs": 3, "val_check_interval": 1.0, "limit_val_batches": 0},
    {"max_epochs": -1, "max_steps": 10, "val_check_interval": 1.0},
    {"max_epochs": -1, "max_steps": 3, "limit_val_batches": 0, "batches": 1},
    {"max_epochs": 3, "check_val_every_n_epoch": 2, "val_check_interval": 1.0},
    {"max_epochs": -1, "max_steps": 12, "val_check_interval": 3},
    {"max_epochs": -1, "max_steps": 12, "val_check_interval": 4, "check_val_every_n_epoch": None},
    {"max_epochs": 2, "accumulate_grad_batches": 2},
    {"max_epochs": -1, "max_steps": 7, "accumulate_grad_batches": 2, "val_check_interval": 4},
    {"uneven": True, "max_epochs": 3, "val_check_interval": 2},
    {"uneven": True, "max_epochs": -1, "max_steps": 12, "val_check_interval": 1.0},
]


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
def test_every_checkpoint_resumes_into_the_same_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings = {"batches": 5} | settings  # of an epoch
    whole = RunFolder(tmp_path / "whole", save_every=1, keep=99)
    straight, _ = train(whole, **settings)
    last = checkpoints_in(whole.checkpoints)[-1]
    for path in checkpoints_in(whole.checkpoints)[:-1]:
        run = RunFolder(tmp_path / path.stem, save_every=1, keep=99)
        resumed, _ = train(run, resume=path, **settings)
        step = read_manifest(path).step
        assert same_weights(read_checkpoint(run.checkpoints / last.name), read_checkpoint(last)), step
        assert straight.lines[-len(resumed.lines) :] == resumed.lines, step
        assert any(f"at {step}" in line for line in resumed.lines if line.startswith("train")), step


def test_a_save_is_due_when_its_step_is_passed_and_waits_for_an_optimiser_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=5, keep=99)
    train(run, uneven=True, max_epochs=-1, max_steps=20, limit_val_batches=0)
    # steps after each of an epoch's seven batches: 0 1 4 4 5 8 8, then 8 9 12 12 13 16 16, then 16 17 20
    assert [read_manifest(path).step for path in checkpoints_in(run.checkpoints)] == [5, 12, 16, 20]


def test_nothing_is_the_best_where_nothing_can_be_saved(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=99, keep=99, best="seen/exact")
    train(run, uneven=True, max_epochs=1, val_check_interval=1, batches=4)
    record = json.loads((run.checkpoints / "best.json").read_text())
    assert record["step"] in (1, 4)
    assert best_checkpoint(run.checkpoints, "").name == record["checkpoint"]


def test_a_finished_run_goes_on_when_it_is_given_more_steps(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_epochs": -1, "val_check_interval": 3}
    straight, _ = train(RunFolder(tmp_path / "whole", save_every=4), max_steps=24, **settings)
    run = RunFolder(tmp_path / "short", save_every=4)
    first, _ = train(run, max_steps=17, **settings)
    second, _ = train(run, resume=checkpoints_in(run.checkpoints)[-1], max_steps=24, **settings)
    ends = f"epoch {17 // 7} ends at 17"  # an epoch that the limit cut short
    assert [line for line in first.lines if line != ends] + second.lines == straight.lines
    ends_of = [read_checkpoint(one.checkpoints / "step-00000024.ckpt") for one in (run, RunFolder(tmp_path / "whole"))]
    assert same_weights(*ends_of)


def test_the_last_and_the_best_checkpoints_stay(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=2, keep=2, best="seen/exact", mode="min")
    _, saver = train(run)
    record = json.loads((run.checkpoints / "best.json").read_text())
    steps = [read_manifest(path).step for path in checkpoints_in(run.checkpoints)]
    assert steps == sorted({record["step"], *steps[-2:]})
    assert steps[-1] == 21
    path = best_checkpoint(run.checkpoints, "")
    assert path.name == record["checkpoint"]
    best = ToyModel()
    best.load_state_dict(read_checkpoint(path)["state_dict"])
    cohort = ToyData().val_dataloader()[0]
    value = torch.stack([best.eval().net(batch.float()).mean() for batch in cohort]).mean()
    assert value.item() == pytest.approx(record["value"])
    assert (saver.best_value, saver.best_step) == (record["value"], record["step"])


def test_a_best_figure_that_is_not_logged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 'seen/exct': the nearest is seen/exact, of \['images/s', .*'seen/exact'"):
        train(RunFolder(tmp_path, best="seen/exct"))
    with pytest.raises(UserError, match=r"got 'quality': choose one of \['images/s'"):
        train(RunFolder(tmp_path, best="quality"))


def test_a_best_figure_is_missed_by_a_validation_outside_the_training_too(tmp_path: Path) -> None:
    saver = RunCheckpoints(RunFolder(tmp_path, best="seen/exct"), {}, MADE_OF)
    trainer = Trainer(accelerator="cpu", callbacks=[saver], logger=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="the nearest is seen/exact"):
        trainer.validate(ToyModel(), datamodule=ToyData(), verbose=False)


def test_a_training_that_kept_no_best_checkpoint_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, saver = train(RunFolder(tmp_path, best="seen/exact"), max_epochs=1, val_check_interval=1.0, limit_val_batches=0)
    assert saver.best_step is None
    assert "so no best checkpoint is kept: lower trainer.val_check_interval" in caplog.text


@pytest.mark.parametrize(("best", "near"), [("seen/exakt", "seen/exact"), ("sen/species", "seen/species")])
def test_a_misspelt_best_figure_is_named_before_anything_is_built(
    tmp_path: Path, capsys: Any, best: str, near: str
) -> None:
    assert main(["fit", "--config", str(sft_config(tmp_path)), "--run.best", best]) == 2
    said = capsys.readouterr().err
    assert f"run.best must be a figure of the validation, got '{best}': the nearest is {near}, of [" in said
    assert "Trained:" not in said


def test_changed_data_is_refused_before_the_weights_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=5)
    train(run, max_epochs=1)
    path = checkpoints_in(run.checkpoints)[-1]
    (path / "state.pt").unlink()  # nobody looks at it
    with pytest.raises(UserError, match="data: fingerprint: toy-a -> toy-b"):
        train(run, resume=path, data=ToyData(content="b"))


def test_a_replacement_for_a_damaged_checkpoint_must_agree_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=3)
    train(run, max_epochs=1)
    early, late = checkpoints_in(run.checkpoints)[-2:]
    state = read_checkpoint(early)
    state["fgvr"]["fingerprint"]["config"] = {"lr": 2}
    write_checkpoint(state, early)
    (late / "state.pt").write_bytes(b"")
    with pytest.raises(UserError, match="config: lr: 2 -> 1"):
        train(run, resume=late)


def test_seconds_add_up_over_restarts(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, save_every=3)
    _, first = train(run, max_epochs=1)
    _, second = train(run, resume=checkpoints_in(run.checkpoints)[-1], max_epochs=2)
    assert second.seconds > second.seconds_before > 0
    assert second.seconds_before <= first.seconds


class Stop(Callback):
    """Stops the training after the batch that makes `step`, as a callback may, or breaks off the validation there."""

    def __init__(self, step: int, in_validation: bool = False) -> None:
        self.step, self.in_validation = step, in_validation

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not self.in_validation and trainer.global_step >= self.step:
            trainer.should_stop = True

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.in_validation and trainer.global_step == self.step:
            raise KeyboardInterrupt


LAST = [
    {"max_epochs": -1, "max_steps": 10, "val_check_interval": 3},
    {"max_epochs": -1, "max_steps": 14, "val_check_interval": 1.0},
    {"max_epochs": 3, "val_check_interval": 1.0},
    {"max_epochs": 2, "val_check_interval": 1.0, "batches": 1},
    {"max_epochs": 3, "val_check_interval": 1.0, "accumulate_grad_batches": 2},
    {"max_epochs": 3, "val_check_interval": 1.0, "uneven": True},
    {"max_epochs": 1, "val_check_interval": 1.0, "uneven": True, "batches": 6},
]


@pytest.mark.parametrize("settings", LAST, ids=str)
def test_ctrl_c_in_the_last_validation_loses_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = RunFolder(tmp_path / "whole", save_every=99, best="seen/exact")
    train(whole, **settings)
    last = checkpoints_in(whole.checkpoints)[-1]
    step = read_manifest(last).step
    run = RunFolder(tmp_path / "run", save_every=99, best="seen/exact")
    with pytest.raises(SystemExit):
        train(run, callbacks=[Stop(step, in_validation=True)], **settings)
    kept = checkpoints_in(run.checkpoints)[-1]
    assert kept.name == last.name
    resumed, _ = train(run, resume=kept, **settings)
    assert not any(line.startswith("train") for line in resumed.lines)
    assert same_weights(read_checkpoint(checkpoints_in(run.checkpoints)[-1]), read_checkpoint(last))


STOPPED = [
    {"max_epochs": 3},
    {"max_epochs": -1, "max_steps": 17},
    {"uneven": True},
    {"val_check_interval": 1.0},
    {"accumulate_grad_batches": 2},
    {"batches": 1, "max_epochs": 12, "val_check_interval": 1.0},
]


@pytest.mark.parametrize("step", [3, 7, 9])
@pytest.mark.parametrize("settings", STOPPED, ids=str)
def test_a_run_that_a_callback_stopped_goes_on_as_if_it_had_not(
    tmp_path: Path, settings: dict[str, Any], step: int
) -> None:
    whole = RunFolder(tmp_path / "whole", save_every=99)
    straight, _ = train(whole, **settings)
    run = RunFolder(tmp_path / "run", save_every=99)
    first, _ = train(run, callbacks=[Stop(step)], **settings)
    kept = checkpoints_in(run.checkpoints)[-1]
    assert read_manifest(kept).step >= step
    second, _ = train(run, resume=kept, **settings)
    trained = [
        [line for line in lines if line.startswith("train")] for lines in (straight.lines, first.lines + second.lines)
    ]
    assert trained[0] == trained[1]
    ends = [checkpoints_in(one.checkpoints)[-1] for one in (whole, run)]
    assert same_weights(*map(read_checkpoint, ends))


class OneStep(Callback):
    """Does something after a certain step, once whatever is due there has been begun to be saved."""

    def __init__(self, step: int, deed: Callable[[RunCheckpoints], None]) -> None:
        self.step, self.deed = step, deed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            savers: list[Any] = trainer.checkpoint_callbacks
            self.deed(savers[0])


def fill_disk(saver: RunCheckpoints) -> None:
    """For the process that writes in the background alone."""
    assert saver._background is not None
    assert saver._background._writer is not None
    resource.prlimit(saver._background._writer._process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


@pytest.mark.slow
def test_in_the_background_the_same_is_saved_and_nothing_counts_before_it_is_whole(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_every": 2, "keep": 2, "best": "seen/exact", "mode": "min"}
    runs = [RunFolder(tmp_path / name, save_in_background=name == "behind", **settings) for name in ("once", "behind")]
    _, saver = train(runs[0])
    seen: list[set[str]] = []
    watch = OneStep(4, lambda _: seen.append({path.name for path in runs[1].checkpoints.iterdir()}))
    _, behind = train(runs[1], callbacks=[watch])
    assert (behind.best_step, behind.saved_step) == (saver.best_step, saver.saved_step) == (behind.best_step, 21)
    assert all(name.startswith((".", "step-", "best")) for name in seen[0])
    records = [json.loads((run.checkpoints / "best.json").read_text()) for run in runs]
    assert records[0] == records[1]
    ours, theirs = (checkpoints_in(run.checkpoints) for run in runs)
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert all(same_weights(*map(read_checkpoint, pair)) for pair in zip(ours, theirs, strict=True))
    assert not [*runs[1].checkpoints.glob(".*")]


@pytest.mark.slow
def test_what_the_disk_refuses_in_the_background_ends_the_run_with_its_sentence(tmp_path: Path, caplog: Any) -> None:
    run = RunFolder(tmp_path / "full", save_every=2, save_in_background=True)
    with pytest.raises(UserError, match=r"step-00000006\.ckpt could not be written \(File too large; .*are untouched"):
        train(run, callbacks=[OneStep(5, fill_disk)], limit_val_batches=0)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-00000002.ckpt", "step-00000004.ckpt"]
    run = RunFolder(tmp_path / "stopped", save_every=4, save_in_background=True)

    def stop(_: RunCheckpoints) -> None:
        raise RuntimeError("another's mistake")

    with pytest.raises(RuntimeError, match="another's mistake"):
        train(run, callbacks=[OneStep(4, stop)], limit_val_batches=0)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000004.ckpt"]  # what was begun is finished


CLI = """
model: {{class_path: toy_run.ToyModel}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_epochs: 2, val_check_interval: 5, log_every_n_steps: 1}}
run: {{dir: {run}, allow_changed: [code], save_every: 4}}
"""


def test_what_is_saved_has_been_drawn_whenever_the_process_ends(tmp_path: Path, monkeypatch: Any) -> None:
    """A kill between the save of a step and what Lightning draws of it leaves no gap in the curves."""
    config = tmp_path / "toy.yaml"
    config.write_text(CLI.format(run=tmp_path / "run"))

    def ended(self: RunCheckpoints, trainer: Trainer) -> None:
        save(self, trainer)
        self.finish(trainer)
        raise KeyError("the end")

    save = RunCheckpoints._save
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "_save", ended)
        with pytest.raises(KeyError):
            main(["fit", "--config", str(config)])
    assert [read_manifest(path).step for path in checkpoints_in(tmp_path / "run/checkpoints")] == [4]
    assert main(["fit", "--config", str(config)]) == 0
    drawn = curves(tmp_path / "run")
    assert list(drawn["loss"]) == list(range(1, 15))
