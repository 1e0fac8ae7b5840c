"""How a run ends, row by row of docs/runs.md: the exit code, the sentence, and what the same command does next."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_manifest
from fgvr.errors import ENOUGH
from fgvr.signals import SAID
from fgvr.watchdog.process import HUNG

PAGE = (Path(__file__).parents[1] / "docs/runs.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## How a run ends")[2].partition("## ")[0].splitlines()
    if line.startswith("| ")
][1:]
CONFIG = """
model: {{class_path: toy_run.ToyModel}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_epochs: 3, val_check_interval: 5, log_every_n_steps: 1, callbacks: [{callback}]}}
run: {{dir: {folder}/run, allow_changed: [code], save_every: 4}}
"""
STOPS = "{class_path: test_exits.At, init_args: {step: 6, what: %s}}"
EARLY = "{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: seen/exact, mode: max, "
EARLY += "stopping_threshold: -1000.0}}"


class At(Callback):
    """Does one thing, once, as a step is made."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        mark = Path(trainer.default_root_dir) / f"done-{self.what}"
        if trainer.global_step != self.step or mark.exists():
            return
        mark.touch()
        if self.what == "stop":
            trainer.should_stop = True
        elif self.what == "bug":
            raise KeyError("eel")
        elif self.what == "full":
            with open("/dev/full", "w") as disk:
                disk.write("eel")
        else:
            for name in self.what.split("+"):
                signal.raise_signal(signal.Signals[name])


def fit(folder: Path, callback: str = "", *options: str) -> int:
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(folder=folder, callback=callback))
    return main(["fit", "--config", str(file), *options])


def saved(folder: Path) -> int:
    return max((read_manifest(path).step for path in checkpoints_in(folder / "run/checkpoints")), default=0)


def with_bug(folder: Path) -> int:
    with pytest.raises(KeyError):
        fit(folder, STOPS % "bug")
    print("Traceback", end="")  # python's, which the pytest around it keeps
    return 1


def standing_still(folder: Path) -> int:
    options = ("--run.restarts", "3", "--trainer.limit_train_batches", "3")
    for _ in range(4):
        assert fit(folder, "{class_path: test_exits.StandsStill}", *options) == 75
    return fit(folder, "{class_path: test_exits.StandsStill}", *options)


class StandsStill(Callback):
    """Whatever it is started for, its node takes it away at once."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signal.raise_signal(signal.SIGUSR1)


# what begins a row: a callback, or how else it is brought about, and the step saved then
ROWS: dict[str, tuple[str | Callable[[Path], int], int]] = {
    "the last step is made": ("", 21),
    "what you can mend": (lambda folder: fit(folder, "", "--run.save_every", "0"), 0),
    "no room on the disk": (STOPS % "full", 4),
    "the same step for the fifth time": (standing_still, 0),
    "a bug": (with_bug, 4),
    "`trainer.max_time`": (lambda folder: fit(folder, "", "--trainer.max_time", "00:00:00:00"), 1),
    "SIGUSR1": (STOPS % "SIGUSR1", 6),
    "SIGUSR2": (STOPS % "SIGUSR2", 6),
    "SIGTERM after one of these": (STOPS % "SIGUSR1+SIGTERM", 6),
    "early stopping": (EARLY, 5),
    "another callback": (STOPS % "stop", 6),
    "Ctrl-C": (STOPS % "SIGINT", 6),
    "SIGTERM: `kill`": (STOPS % "SIGTERM", 6),
    "SIGHUP": (STOPS % "SIGHUP", 6),
}
ELSEWHERE = {  # where the others are tested, with processes of their own
    "a second one of these three": "test_signals.py: test_a_second_one_ends_the_process_at_once",
    "a process hangs": "callbacks/test_beats.py: test_a_hang_of_one_process_ends_both_with_their_stacks",
    "SIGKILL": "integration/test_kill_and_resume.py: test_killed_at_random_the_run_ends_as_if_it_had_not_been",
    "the user's quota": "integration/test_small_disks.py: test_what_was_saved_is_whole_and_the_run_goes_on_from_it",
    "another process of the": "callbacks/test_failures.py: test_an_error_of_one_process_ends_both_with_its_sentence",
}


def row_of(cause: str) -> list[str]:
    (row,) = [row for row in TABLE if row[0].startswith(cause)]
    return row


@pytest.fixture(autouse=True)
def _nothing_is_ignored() -> Iterator[None]:
    """As `nohup`, or a script's `&`, would have it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("cause", ROWS)
def test_a_run_ends_as_its_row_says(tmp_path: Path, capsys: Any, cause: str) -> None:
    _, code, sentence, _ = row_of(cause)
    end, step = ROWS[cause]
    callback = end if isinstance(end, str) else ""
    assert (fit(tmp_path, end) if isinstance(end, str) else end(tmp_path)) == int(code)
    said = capsys.readouterr()
    assert sentence in said.out + said.err
    assert saved(tmp_path) == step
    complete = json.loads((tmp_path / "run/final_metrics.json").read_text()) if step == 21 else {}
    while (after := fit(tmp_path, callback)) == 76 and saved(tmp_path) > step:
        pass  # early stopping, which stops again, later
    assert after == 0
    again = capsys.readouterr().err
    assert ("is complete (step 21)" in again) == (step == 21)
    assert (f"Resuming at step {step}" in again) == (0 < step < 21)
    assert saved(tmp_path) == 21
    figures = json.loads((tmp_path / "run/final_metrics.json").read_text())
    assert figures["step"] == 21
    assert "stopped_by" not in figures
    assert complete.items() <= figures.items()


def test_every_row_is_tested() -> None:
    causes = [*ROWS, *ELSEWHERE]
    assert sorted(row[0] for row in TABLE) == sorted(row_of(cause)[0] for cause in causes)
    for place in ELSEWHERE.values():
        file, test = place.split(": ")
        assert f"def {test}(" in (Path(__file__).parent / file).read_text(encoding="utf-8")


def test_every_code_of_the_table_is_told_in_the_program() -> None:
    codes = {int(code) for row in TABLE for code in re.findall(r"\d+", row[1])}
    assert codes - {137} == {0, 1, 2, HUNG, ENOUGH} | {code for _, code in SAID.values()}
