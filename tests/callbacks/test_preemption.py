"""Signals at chosen moments of real runs: what is saved, how the run ends, and that it then goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rl_run import ends, grpo_config, json_rows, learn_sft, start
from sharded_runs import end_all, start_ranks
from signalled import Moment
from toy_run import same_weights

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint, read_manifest

CONFIG = """
model: {{class_path: toy_run.ToyModel, init_args: {{journal: {folder}.txt}}}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_epochs: 3, val_check_interval: 5, log_every_n_steps: 1, callbacks: {callbacks}}}
run: {{dir: {folder}, allow_changed: [code], best: seen/exact, save_every: 99, keep: 99}}
"""
BY = {"SIGUSR1": 75, "SIGUSR2": 75, "Ctrl-C": 130, "SIGTERM": 143, "SIGTERM after a warning": 75}
NAMES = {"Ctrl-C": "SIGINT", "SIGTERM after a warning": "SIGUSR1 SIGTERM"}


def sending(moment: Moment, step: int, by: str = "SIGUSR1", **options: Any) -> dict[str, Any]:
    return {
        "class_path": "signalled.Send",
        "init_args": {"moment": moment, "step": step, "names": NAMES.get(by, by), **options},
    }


def fit(folder: Path, *callbacks: dict[str, Any], options: tuple[str, ...] = ()) -> int:
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(CONFIG.format(folder=folder, callbacks=json.dumps(list(callbacks))))
    return main(["fit", "--config", str(config), *options])


def steps(run: Path) -> list[int]:
    return [read_manifest(path).step for path in checkpoints_in(run / "checkpoints")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert fit(run) == 0
    return run


# an epoch is of seven batches; a step that ends one, or that a validation follows (the fifth), is saved after that
MOMENTS: list[tuple[Moment, int, str, list[int]]] = [
    *(("batch", 2, by, [3]) for by in BY),
    *(("start", 0, by, [1]) for by in ("SIGUSR1", "SIGTERM")),
    *(("sanity", 0, by, []) for by in BY if by != "SIGTERM after a warning"),
    *(("batch", 4, by, [5]) for by in ("SIGUSR1", "Ctrl-C")),  # goes on to the end of the validation
    ("batch", 4, "SIGTERM", []),  # leaves
    *(("validation", 5, by, [5]) for by in ("SIGUSR2", "Ctrl-C")),
    *(("validation", 5, by, []) for by in ("SIGTERM", "SIGTERM after a warning")),
    ("batch", 6, "SIGUSR1", [5, 8]),  # goes on to the first step of the next epoch
    ("batch", 6, "SIGTERM", [5]),  # leaves: the fifth was the best
    ("epoch end", 7, "SIGUSR1", [5, 8]),
    ("batch", 20, "SIGUSR1", [5, 21]),
    ("batch", 20, "SIGTERM", [19]),
    *(("final", 21, by, [5, 21]) for by in ("SIGUSR1", "Ctrl-C", "SIGTERM")),
]


@pytest.mark.parametrize(("moment", "step", "by", "saved"), MOMENTS, ids=str)
def test_a_run_that_is_told_to_end_goes_on_as_if_nobody_had(
    tmp_path: Path, capsys: Any, whole: Path, moment: Moment, step: int, by: str, saved: list[int]
) -> None:
    run = tmp_path / "run"
    assert fit(run, sending(moment, step, by)) == BY[by]
    said = capsys.readouterr().err.splitlines()[-1]
    goes_on = "The same command goes on from the last checkpoint." if saved else "Nothing was saved yet"
    assert said.startswith(f"fgvr: stopped by {by}. {goes_on}")
    assert set(steps(run)) <= {*saved, *steps(whole)}
    assert steps(run)[-1:] == saved[-1:]
    assert not (run / "final_metrics.json").exists()
    assert fit(run, sending(moment, step, by)) == 0
    last = [checkpoints_in(one / "checkpoints")[-1] for one in (run, whole)]
    assert same_weights(*map(read_checkpoint, last))
    if saved:
        journals = [one.with_suffix(".txt").read_text().splitlines() for one in (run, whole)]
        assert sorted(set(journals[0])) == sorted(set(journals[1]))


def test_what_is_written_in_the_background_is_whole_when_the_run_leaves(tmp_path: Path, whole: Path) -> None:
    run, behind = tmp_path / "run", ("--run.save_in_background", "true")
    assert fit(run, sending("batch", 2, "SIGTERM"), options=behind) == 143
    assert steps(run) == [3]
    assert fit(run, sending("batch", 2, "SIGTERM"), options=behind) == 0
    last = [checkpoints_in(one / "checkpoints")[-1] for one in (run, whole)]
    assert same_weights(*map(read_checkpoint, last))


def test_a_run_without_checkpoints_leaves_at_once(tmp_path: Path) -> None:
    assert fit(tmp_path / "run", sending("batch", 2), options=("--trainer.enable_checkpointing", "false")) == 75
    assert (tmp_path / "run.txt").read_text().splitlines() == ["train 0.0 at 0", "train 0.1 at 1"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, the supervised run that every other one starts from, and one that nobody stops."""
    folder = tmp_path_factory.mktemp("rl")
    learn_sft(folder)
    ends(start(grpo_config(folder, "whole"), folder / "whole"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rollout_is_broken_off_and_sampled_again(learned: Path) -> None:
    """Between two groups: the step before is saved, which was not due; in an epoch's first batch it cannot be."""
    cases = ((3, "SIGUSR1", 3), (3, "SIGTERM", 3), (0, "SIGUSR1", None), (6, "SIGUSR2", 7), (6, "SIGTERM", None))
    for step, by, saved in cases:
        name = f"{step}-{by}"
        config = grpo_config(learned, name, sending("sampling", step, by))
        run, often = learned / name, "--run.save_every=99"
        told = ends(start(config, run, often), BY[by])
        assert f"fgvr: stopped by {by}." in told
        assert steps(run)[-1:] == ([] if saved is None else [saved]), (step, by)
        sampled = json_rows(run / "rollouts.jsonl") if saved else []
        assert {row["global_step"] for row in sampled} <= set(range(step + 2))
        ends(start(config, run, often))
        last = [checkpoints_in(one / "checkpoints")[-1] for one in (run, learned / "whole")]
        assert same_weights(*map(read_checkpoint, last))
        for log in ("rollouts.jsonl", "samples.jsonl"):
            assert (run / log).read_text() == (learned / "whole" / log).read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize(("moment", "names"), [("batch", "SIGUSR1"), ("sampling", "SIGTERM"), ("batch", "Ctrl-C")])
def test_all_processes_end_with_the_one_that_is_told_to(
    learned: Path, strategy: str, moment: Moment, names: str
) -> None:
    name = f"two-{strategy}-{moment}-{names}"
    config = grpo_config(learned, name, sending(moment, 2, names, rank=1))
    options = (f"--trainer.strategy={strategy}", "--run.save_every=99", "--run.save_in_background=true")
    for told in end_all(start_ranks(config, learned / name, 2, *options), BY[names]):
        assert f"fgvr: stopped by {names}. The same command goes on from the last checkpoint." in told
    assert steps(learned / name)[-1] == (2 if moment == "sampling" else 3)
    end_all(start_ranks(config, learned / name, 2, *options))
    assert steps(learned / name)[-1] == 12


TOGETHER = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.workers=2", "--run.save_every=99")


@pytest.fixture(scope="module")
def together(learned: Path) -> Path:
    """Of two processes, one of which starts the other, as on a laptop, and each has two workers."""
    run = learned / "together"
    ends(start(grpo_config(learned, "together"), run, *TOGETHER))
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("sent", "by"), [("SIGTERM", "SIGTERM"), ("SIGUSR1", "SIGUSR1")])
def test_a_signal_to_all_processes_of_a_run_and_their_workers(
    learned: Path, together: Path, sent: str, by: str
) -> None:
    """The step that was reached is saved, but where SIGTERM finds that a validation follows, or an epoch ends."""
    config = grpo_config(learned, f"all-{sent}")
    run, last = learned / f"all-{sent}", 0
    for step in (2, 4, 8):
        process = start(config, run, *TOGETHER)
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline and reached(run) <= step:
            time.sleep(0.02)
        os.killpg(process.pid, signal.Signals[sent])
        assert f"fgvr: stopped by {by}." in ends(process, BY[by])
        saved, made = max(steps(run), default=0), reached(run)
        can_be_saved = made % 6 in (1, 2, 3, 4)  # an epoch is of six steps, and a validation follows the fifth
        assert saved == made or (by == "SIGTERM" and not can_be_saved and saved == last), (step, made, saved, last)
        last = saved
    ends(start(config, run, *TOGETHER))
    ended = [checkpoints_in(one / "checkpoints")[-1] for one in (run, together)]
    assert [read_manifest(path).step for path in ended] == [12, 12]
    assert same_weights(*map(read_checkpoint, ended))


def reached(run: Path) -> int:
    """The latest step that the first process has made."""
    return max((row["global_step"] for row in json_rows(run / "rollouts.rank0.jsonl")), default=0)
