"""Runs that are killed at chosen moments and gone on with, and whether they end as one that nobody disturbed."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_run import Kill, Moment, ends, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

KILLS: list[tuple[Moment, int]] = [("sampled", 2), ("refilling", 4), ("updating", 7)]
OF_THE_CLOCK = ("time/", "step_time", "memory/", "tokens/s")


def killers(kills: Sequence[tuple[Moment, int]] = KILLS) -> list[dict[str, Any]]:
    """The callbacks that kill a run at these moments."""
    return [{"class_path": "rl_run.Kill", "init_args": {"step": step, "moment": moment}} for moment, step in kills]


def spare(run: Path, kills: Sequence[tuple[Moment, int]] = KILLS) -> Path:
    """Marks every kill as done."""
    run.mkdir(exist_ok=True)
    for moment, step in kills:
        (run / Kill(step, moment).mark).touch()
    return run


def kill_at_chosen_moments(config: Path, run: Path, kills: Sequence[tuple[Moment, int]] = KILLS) -> str:
    """Starts the run until it has ended; what all of its processes said."""
    told = [ends(start(config, run), -signal.SIGKILL) for _ in kills]
    assert {path.name for path in run.glob("killed-*")} == {f"killed-{moment}-{step}" for moment, step in kills}
    return "".join([*told, ends(start(config, run))])


def curves(run: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith(OF_THE_CLOCK)]
    return {name: {point.step: point.value for point in events.Scalars(name)} for name in names}


def final_figures(run: Path) -> dict[str, Any]:
    figures = json.loads((run / "final_metrics.json").read_text())
    assert figures.pop("seconds") > 0
    del figures["digest"]  # of the seconds too
    return figures


def assert_same_end(run: Path, whole: Path) -> None:
    """Every checkpoint's weights and optimiser state, every sample and completion, every final figure."""
    ours, theirs = (checkpoints_in(one / "checkpoints") for one in (run, whole))
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert ours[-1].name == "step-00000012.ckpt"
    for path, other in zip(ours, theirs, strict=True):
        one, two = read_checkpoint(path), read_checkpoint(other)
        assert one["state_dict"]
        assert same_weights(one, two)
        assert one["lr_schedulers"] == two["lr_schedulers"]
        assert one["callbacks"]["Throughput"] == two["callbacks"]["Throughput"]
    for log in ("rollouts.jsonl", "samples.jsonl"):
        assert (run / log).read_text() == (whole / log).read_text()
    assert final_figures(run) == final_figures(whole)
