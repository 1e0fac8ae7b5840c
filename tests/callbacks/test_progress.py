import logging
import os
import pty
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from toy_run import ToyData, ToyModel, UnevenToy

from fgvr.callbacks.progress import BesideBar, Progress, clock, fitting


def train(tmp_path: Path, progress: Progress, module: ToyModel | None = None, **settings: Any) -> None:
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module or ToyModel(), datamodule=ToyData())
    trainer.validate(ToyModel(), datamodule=ToyData(), verbose=False)


def test_a_log_file_gets_a_line_now_and_then(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, Progress(seconds=0.0), max_epochs=-1, max_steps=21)
    lines = capfd.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 21
    assert re.fullmatch(
        r"step 20/21 \| loss [\d.]+ \| tokens/s 5,300 \| images/s 31 \| lr \d\.\d\de-\d\d"
        r" \| 0:00:\d\d passed, 0:00:\d\d left",
        steps[19],
    )
    assert re.search(r"\| 0:00:\d\d passed$", steps[18])  # too early to tell the time left
    assert [line for line in lines if line.startswith("validation")][-4:] == [f"validation {n}/4" for n in (1, 2, 3, 4)]


def test_a_log_file_is_not_flooded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, Progress(seconds=1000.0), max_epochs=2, num_sanity_val_steps=0)
    steps = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split(" |")[0] for line in steps] == ["step 1/14", "step 14/14"]


def test_steps_are_the_optimisers_when_gradients_are_gathered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, Progress(seconds=1000.0), max_epochs=2, accumulate_grad_batches=2)
    steps = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert steps[-1].startswith("step 8/8 ")  # the last of an epoch's seven batches stands alone


def test_an_end_in_epochs_is_not_guessed_when_batches_are_no_steps(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, Progress(seconds=0.0), module=UnevenToy(), max_epochs=1)
    steps = [line.split(" |")[0] for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert steps == ["step 0/?", "step 1/?", "step 4/?", "step 4/?", "step 5/?", "step 8/?", "step 8/?"]
    train(tmp_path, Progress(seconds=0.0), module=UnevenToy(), max_epochs=-1, max_steps=5)
    assert "step 5/5 |" in capfd.readouterr().err


def on_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, **settings: Any) -> str:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        train(tmp_path, Progress(), **settings)
        terminal.flush()
        os.set_blocking(leader, False)
        written = b""
        with suppress(BlockingIOError):  # a terminal gives what it has in pieces
            while True:
                written += os.read(leader, 100_000)
    os.close(leader)
    return written.decode()


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = on_terminal(tmp_path, monkeypatch, 160, max_epochs=1)
    assert "━" in written
    assert re.search(r"7/7.*loss", written, re.DOTALL)


def test_a_narrow_terminal_keeps_steps_bar_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = on_terminal(tmp_path, monkeypatch, 80, max_epochs=-1, max_steps=21)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written)
    assert re.search(r"step +21/21 0:00:\d\d left +━{5,} loss [\d.]+ \| tokens/s 5,300", plain), plain
    assert "images/s" not in plain


class Rewarded(ToyModel):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        shares = {"completions/clipped_ratio": 0.0312, "frac_reward_zero_std": 0.25}
        parts = {"rewards/exact/mean": 0.4375, "rewards/length/mean": -0.0625, "rewards/exact/std": 0.5}
        seen = {"reward": 0.53125, "completions/mean_length": 12.25, "entropy": 0.7071, "kl": 0.00125}
        self.log_dict({**shares, **parts, **seen}, prog_bar=True)
        return loss


def test_a_reward_comes_first_with_what_to_watch_beside_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, Progress(seconds=1000.0), module=Rewarded(), max_epochs=1)
    line = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")][-1]
    assert line.startswith(
        "step 7/7 | reward 0.531 | exact 0.438 | length reward -0.062 | length 12.2 | truncated 3% | entropy 0.707"
        " | kl 0.0012 | zero-var 25% | loss "
    ), line
    assert re.search(r"\| loss [\d.]+ \| lr \d\.\d\de-\d\d \| tokens/s 5,300 \| 0:00:\d\d passed$", line), line


def test_a_narrow_terminal_keeps_reward_length_and_entropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = on_terminal(tmp_path, monkeypatch, 100, module=Rewarded(), max_epochs=1)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written)
    assert re.search(r"━{5,} reward 0.531 \| length 12.2 \| entropy 0.707\s", plain), plain


def test_switched_off_it_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(seconds=0.0)
    progress.disable()
    train(tmp_path, progress, max_epochs=1)
    assert "step" not in capfd.readouterr().err


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 3725, None)] == ["0:00:00", "0:01:00", "1:02:05", "?"]


@pytest.mark.parametrize(
    ("width", "kept"), [(80, "reward 0.641 | length 40.4 | entropy 0.067"), (20, "reward 0.641"), (3, "reward 0.641")]
)
def test_figures_give_way_from_the_right(width: int, kept: str):
    assert fitting("reward 0.641 | length 40.4 | entropy 0.067", width) == kept
    assert fitting("", width) == ""


@pytest.mark.parametrize("width", [80, 110, 120, 140, 160])
def test_steps_and_time_left_are_there_at_any_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    written = on_terminal(tmp_path, monkeypatch, width, module=Rewarded(), max_epochs=-1, max_steps=21)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written)
    line = next(line for line in re.split(r"[\r\n]+", plain) if "21/21" in line)
    assert re.search(r"step +21/21 .*0:00:\d\d left.*reward [\d.]+", line), line
    assert len(line) <= width


def test_what_a_terminal_would_obey_is_logged_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    handler = BesideBar()
    record = logging.LogRecord("fgvr", logging.WARNING, "", 0, "not used: %s\n(why)", ("a\x1b[2J\u202e.jpg",), None)
    handler.emit(record)
    assert capsys.readouterr().err == "not used: a\\x1b[2J\\u202e.jpg\n(why)\n"
