"""Whole runs with the model in parts, started as a user starts them, held against those of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed_runs import final_figures
from rl_run import (
    divek_config,
    ends,
    grpo_config,
    json_rows,
    learn_sft,
    mine_options,
    sft_config,
    speciarl_config,
    start,
    tapo_config,
)
from sharded_runs import NOTED, end_all, start_ranks

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KL = {"kl": {"coefficient": 0.1}}
NOTES = {"class_path": "sharded_runs.NoteGradients"}


RUNS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "grpo": (grpo_config, KL | {"updates": 2}),
    "adapters": (grpo_config, KL | {"policy": {"lora": {"rank": 3, "alpha": 8}}}),
    "tapo": (tapo_config, {"triplet": {"gamma": 0.5, "eta1": 0.01, "negative": "full"}}),
    "divek": (divek_config, KL),
    "speciarl": (speciarl_config, KL),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, the supervised run that every other one starts from, and options mined from it."""
    folder = tmp_path_factory.mktemp("fsdp")
    learn_sft(folder)
    mine_options(folder)
    return folder


def on(world: int, config: Path, run: Path, *options: str) -> list[str]:
    """A run of so many processes with the model in parts, and what each of them said."""
    return end_all(start_ranks(config, run, world, *options))


def rollouts_of(run: Path) -> list[tuple[Any, ...]]:
    """What was sampled, by whichever process."""
    rows = [row for file in run.glob("rollouts*.jsonl") for row in json_rows(file)]
    return [(row["epoch"], row["place"], row["completion"]) for row in rows]


def assert_first_steps_alike(run: Path, whole: Path) -> None:
    """The loss and the gradient of the first step, before rounding has set the weights apart."""
    noted = [torch.load(one / NOTED, weights_only=True) for one in (run, whole)]
    assert float(noted[0]["losses"][0]) == pytest.approx(float(noted[1]["losses"][0]), rel=1e-5, abs=1e-6)
    ours, theirs = (one["gradients"][0] for one in noted)
    assert ours.keys() == theirs.keys()
    mine, yours = (torch.cat([one[name].flatten() for name in sorted(theirs)]) for one in (ours, theirs))
    assert (mine - yours).norm() <= 1e-6 * yours.norm()
    assert yours.norm() > 0


def assert_alike(run: Path, whole: Path, near: float = 2e-5) -> None:
    """The same samples and completions, and weights and figures that rounding alone sets apart."""
    assert_first_steps_alike(run, whole)
    ours, theirs = (read_checkpoint(checkpoints_in(one / "checkpoints")[-1]) for one in (run, whole))
    assert ours["global_step"] == theirs["global_step"]
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, weight in theirs["state_dict"].items():
        torch.testing.assert_close(
            ours["state_dict"][name], weight, rtol=1e-3, atol=near, msg=lambda m, n=name: f"{n}: {m}"
        )
    logs = [sorted(rollouts_of(one)) for one in (run, whole)]
    assert logs[0] == logs[1]
    assert final_figures(run) == pytest.approx(final_figures(whole), abs=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_parts_is_the_run_of_one_process(folder: Path, name: str) -> None:
    config_of, changes = RUNS[name]
    config = config_of(folder, name, NOTES, **changes)
    ends(start(config, folder / f"{name}-whole", "--trainer.max_steps=6"))
    on(2, config, folder / f"{name}-parts", "--trainer.max_steps=6", "--trainer.strategy=fsdp2")
    assert_alike(folder / f"{name}-parts", folder / f"{name}-whole")


def test_a_supervised_run_in_copies_of_parts_is_the_run_of_one_process(folder: Path) -> None:
    settings = yaml.safe_load(sft_config(folder).read_text())
    settings["trainer"]["callbacks"].append(NOTES)
    config = folder / "noted.yaml"
    config.write_text(yaml.safe_dump(settings))
    ends(start(config, folder / "one", "--trainer.max_steps=8"))
    settings["trainer"]["strategy"] = {"class_path": "fgvr.strategies.FSDP2Strategy", "init_args": {"replicate": 2}}
    config = folder / "copies.yaml"
    config.write_text(yaml.safe_dump(settings))
    on(4, config, folder / "copies", "--trainer.max_steps=8")
    assert_alike(folder / "copies", folder / "one")


@pytest.mark.parametrize("lora", [None, {"rank": 3, "alpha": 8}], ids=["full", "lora"])
def test_a_run_whose_processes_read_their_own_rows_is_the_run_of_one_that_reads_all(
    folder: Path, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    model = tmp_path / "model"
    assert main(["export", "--ckpt", str(folder / "sft"), "--out", str(model), "--samples", "1"]) == 0
    config = grpo_config(folder, f"rows-{lora is None}", NOTES, **KL)
    settings = yaml.safe_load(config.read_text())
    policy = settings["model"]["init_args"]["policy"]
    policy["backbone"] = {"class_path": "fgvr.models.Pretrained", "init_args": {"path": str(model)}}
    if lora is not None:
        policy["lora"] = lora
    config.write_text(yaml.safe_dump(settings))
    ends(start(config, tmp_path / "whole", "--trainer.max_steps=4"))
    said = on(2, config, tmp_path / "parts", "--trainer.max_steps=4", "--trainer.strategy=fsdp2")
    assert "its own rows" in said[0]
    assert_alike(tmp_path / "parts", tmp_path / "whole")


def test_processes_that_draw_for_themselves_are_refused(folder: Path) -> None:
    process = start(sft_config(folder), folder / "unseeded", "--trainer.strategy=fsdp2", "--seed_everything=false")
    assert "seed_everything must be a number with the strategy fsdp2, got false" in ends(process, 2)
