"""Runs that a judge behind a real server teaches: it is killed in the middle, comes back, and keeps its secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge_server import JudgeServer, Script
from rl_run import ends, json_rows, judged_config, learn_sft, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

pytestmark = pytest.mark.slow
KEY = "sk-planted-0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("judged")
    learn_sft(folder)
    return folder


def rewards(run: Path) -> list[tuple[int, str, float | None]]:
    return [(row["global_step"], row["completion"], row["reward"]) for row in json_rows(run / "rollouts.jsonl")]


def test_a_judge_that_dies_stops_the_run_and_once_back_it_ends_as_if_nothing_had_been(folder: Path):
    with JudgeServer(Script(delay=0.01, key=KEY), process=True) as server:
        address = {"FGVR_JUDGE_URL": server.url, "FGVR_JUDGE_KEY": KEY}
        calm = judged_config(folder, "calm", "calm.sqlite")
        ends(start(calm, folder / "calm", **address))

        config, run = judged_config(folder, "hit", "hit.sqlite"), folder / "hit"
        hit = start(config, run, **address)
        while hit.poll() is None and len(json_rows(run / "samples.jsonl")) < 4:
            pass
        server.kill()
        said = ends(hit, code=2)
        assert "may go without any reward" in said or "must answer, but" in said
        assert "Traceback" not in said
        assert "could not be judged" in said
        assert checkpoints_in(run / "checkpoints")
        told = ends(start(config, run, **address), code=2)  # nothing to come back to yet: a sentence, at once
        assert "must answer, but" in told

        server.start()
        assert server.url == address["FGVR_JUDGE_URL"]
        ends(start(config, run, **address))
    one, other = (checkpoints_in(folder / name / "checkpoints")[-1] for name in ("calm", "hit"))
    assert one.name == other.name
    assert same_weights(read_checkpoint(one), read_checkpoint(other))
    assert rewards(run) == rewards(folder / "calm")
    assert any(reward for *_, reward in rewards(run))

    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in said + told


def test_judging_goes_on_beside_the_sampling_and_the_log_says_how_much(folder: Path):
    with JudgeServer(Script(delay=0.05), process=True) as server:
        config = judged_config(folder, "beside", "beside.sqlite")
        ends(start(config, folder / "beside", FGVR_JUDGE_URL=server.url))
        assert server.count("peak") <= 64
        assert server.count("canaries") >= 20
    events = EventAccumulator(str(next((folder / "beside").rglob("events.out.tfevents*")).parent))
    events.Reload()
    hidden = [event.value for event in events.Scalars("overlap")]
    assert max(hidden) > 0.3
    assert sum(event.value for event in events.Scalars("judge/requests")) > 0


def test_without_an_address_the_run_says_what_to_set(folder: Path):
    said = ends(start(judged_config(folder, "lost", "lost.sqlite"), folder / "lost", FGVR_JUDGE_URL=""), code=2)
    assert "FGVR_JUDGE_URL" in said
    assert "Traceback" not in said
