import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from fgvr.callbacks.final_metrics import write_figures
from fgvr.checkpoints.format import STATE, write_checkpoint
from fgvr.errors import UserError
from fgvr.runs.folder import (
    RunFolder,
    Start,
    choose_start,
    evaluation_checkpoint,
    how_to_go_on,
    set_later_aside,
)
from fgvr.whole_files import sealed

MADE_OF = {"config": {"trainer.max_steps": 9}, "code": {"version": "1"}}


def save(run: RunFolder, step: int, made_of: dict[str, Any] = MADE_OF) -> Path:
    path = run.checkpoints / f"step-{step:08d}.ckpt"
    write_checkpoint({"global_step": step, "w": torch.zeros(3), "fgvr": {"fingerprint": made_of}}, path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_an_empty_folder_starts_at_the_beginning(run: RunFolder) -> None:
    assert choose_start(run, MADE_OF) == Start()


def test_a_folder_with_checkpoints_goes_on_from_the_newest_whole_one(run: RunFolder, caplog: Any) -> None:
    caplog.set_level("INFO")
    first, second = save(run, 1), save(run, 2)
    os.truncate(second / STATE, 5)
    start = choose_start(run, MADE_OF)
    assert start.checkpoint == first
    assert f"{second} is damaged" in caplog.text
    assert f"Resuming at step 1 from {first}." in caplog.text


def test_a_stopped_run_says_how_it_goes_on(run: RunFolder) -> None:
    assert how_to_go_on(run) == "Nothing was saved yet: the same command starts from the beginning."
    save(run, 1)
    assert how_to_go_on(run) == "The same command goes on from the last checkpoint."
    assert "with --run.fresh false goes on" in how_to_go_on(RunFolder(run.dir, fresh=True))
    assert "with --run.resume auto goes on" in how_to_go_on(RunFolder(run.dir, resume="never"))


def test_what_repeats_a_start_goes_on_with_what_that_began(run: RunFolder) -> None:
    own, elsewhere = str(run.checkpoints / "step-00000001.ckpt"), "other/checkpoints/step-00000001.ckpt"
    for first, resume in (("auto", "auto"), ("never", "auto"), (own, "auto"), (elsewhere, elsewhere)):
        settings = {"dir": run.dir, "resume": first, "keep": 7}
        assert RunFolder.of_start(settings) == RunFolder(**settings)
        assert RunFolder.of_start({**settings, "again": True}) == RunFolder(run.dir, resume=resume, keep=7)
    assert RunFolder.of_start({"dir": run.dir, "fresh": True, "again": True}) == run


def test_a_run_is_not_kept_in_a_folder_called_after_home() -> None:
    with pytest.raises(UserError, match=r"run\.dir must not begin with ~, .* got ~/runs/x: write /.*/runs/x"):
        RunFolder(Path("~/runs/x"))


def test_only_damaged_checkpoints_are_no_reason_to_start_again(run: RunFolder) -> None:
    os.truncate(save(run, 1) / STATE, 5)
    with pytest.raises(UserError, match="None of the 1 checkpoints"):
        choose_start(run, MADE_OF)


def test_never_refuses_a_folder_that_holds_a_run(run: RunFolder) -> None:
    save(run, 1)
    with pytest.raises(UserError, match="already holds a run"):
        choose_start(RunFolder(run.dir, resume="never"), MADE_OF)


def test_changed_settings_are_refused_before_anything_is_built(run: RunFolder) -> None:
    save(run, 1)
    changed = {**MADE_OF, "config": {"trainer.max_steps": 10}}
    with pytest.raises(UserError, match="max_steps: 9 -> 10"):
        choose_start(run, changed)
    assert choose_start(RunFolder(run.dir, allow_changed=["config"]), changed).checkpoint is not None


def test_complete_means_the_figures_of_the_last_step_are_there(run: RunFolder) -> None:
    save(run, 9)
    assert not choose_start(run, MADE_OF).complete
    run.metrics_file.write_text(json.dumps({"step": 8}))
    assert not choose_start(run, MADE_OF).complete
    run.metrics_file.write_text(json.dumps({"step": 9}))
    assert choose_start(run, MADE_OF).complete
    assert choose_start(run, {**MADE_OF, "code": {"version": "2"}}).complete
    longer = {**MADE_OF, "config": {"trainer.max_steps": 20}}
    assert not choose_start(RunFolder(run.dir, allow_changed=["config"]), longer).complete


@pytest.mark.parametrize("text", ["", "[]", '{"step": "9"}', "\xff"])
def test_damaged_figures_of_a_complete_run_are_one_sentence(run: RunFolder, text: str) -> None:
    save(run, 9)
    run.metrics_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"final_metrics\.json must .*: remove it"):
        choose_start(run, MADE_OF)


def flipped(data: bytes) -> list[bytes]:
    bits = random.Random(0).sample(range(8 * len(data)), 240)
    return [data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :] for bit in bits]


def test_no_flipped_bit_in_the_figures_makes_a_run_complete_or_incomplete(run: RunFolder) -> None:
    save(run, 9)
    write_figures(run.metrics_file, {"seen/exact": 0.5}, step=9)
    assert choose_start(run, MADE_OF).complete
    for data in flipped(run.metrics_file.read_bytes()):
        run.metrics_file.write_bytes(data)
        with pytest.raises(
            UserError, match=r"final_metrics\.json must be readable JSON, but it is damaged .*: remove it"
        ):
            choose_start(run, MADE_OF)


def test_no_flipped_bit_in_the_record_of_the_best_leads_to_another_checkpoint(run: RunFolder) -> None:
    for step in (1, 3):  # one bit apart
        save(run, step)
    best = run.checkpoints / "best.json"
    record = {"figure": "seen/exact", "value": 0.5, "step": 1, "checkpoint": f"step-{1:08d}.ckpt"}
    best.write_bytes(sealed(record, indent=1))
    assert str(evaluation_checkpoint(run, "best")).endswith("1.ckpt")
    for data in flipped(best.read_bytes()):
        best.write_bytes(data)
        with pytest.raises(
            UserError, match=r"best\.json must be readable JSON, but it is damaged .*: give --ckpt_path"
        ):
            evaluation_checkpoint(run, "best")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"checkpoint": 1}'])
def test_a_damaged_record_of_the_best_checkpoint_is_one_sentence(run: RunFolder, text: str) -> None:
    save(run, 1)
    (run.checkpoints / "best.json").write_text(text)
    with pytest.raises(UserError, match=r"best\.json must .*: give --ckpt_path"):
        evaluation_checkpoint(run, "best")


def test_going_back_sets_the_later_checkpoints_aside(run: RunFolder) -> None:
    first, second = save(run, 1), save(run, 2)
    back = RunFolder(run.dir, resume=str(first))
    start = choose_start(back, MADE_OF)
    assert start.checkpoint == first
    assert second.is_dir()  # to choose changes nothing, because every process of a run does it
    set_later_aside(run, choose_start(run, MADE_OF))
    set_later_aside(back, start)
    assert (run.checkpoints / "set-aside-1" / second.name).is_dir()
    assert choose_start(run, MADE_OF).checkpoint == first


def test_another_runs_checkpoint_is_only_the_start(run: RunFolder, tmp_path: Path) -> None:
    other = save(RunFolder(tmp_path / "other"), 5)
    named = RunFolder(run.dir, resume=str(other))
    assert choose_start(named, MADE_OF).checkpoint == other
    own = save(run, 1)
    save(run, 2)
    (own / STATE).write_bytes(b"")
    start = choose_start(named, MADE_OF)
    set_later_aside(named, start)
    assert start.checkpoint == run.checkpoints / "step-00000002.ckpt"
    assert own.is_dir()


def test_a_named_checkpoint_must_be_there(run: RunFolder) -> None:
    with pytest.raises(UserError, match=r"nowhere\.ckpt is not there"):
        choose_start(RunFolder(run.dir, resume="nowhere.ckpt"), MADE_OF)


def test_settings_out_of_range() -> None:
    with pytest.raises(UserError, match="at least 1, got 0 and 3"):
        RunFolder(Path("x"), save_every=0)
    with pytest.raises(UserError, match="give one of the two"):
        RunFolder(Path("x"), fresh=True, resume="a.ckpt")


def test_which_checkpoint_is_evaluated(run: RunFolder) -> None:
    first, second = save(run, 1), save(run, 2)
    (run.checkpoints / "best.json").write_text(json.dumps({"checkpoint": first.name}))
    assert evaluation_checkpoint(run, None) == second
    assert evaluation_checkpoint(run, "last") == second
    assert evaluation_checkpoint(run, "best") == first
    assert evaluation_checkpoint(run, str(first)) == first
    assert evaluation_checkpoint(run, "none") is None
    with pytest.raises(UserError, match="is not there"):
        evaluation_checkpoint(run, "typo.ckpt")
    with pytest.raises(UserError, match="--ckpt_path none"):
        evaluation_checkpoint(RunFolder(run.dir / "empty"), None)
