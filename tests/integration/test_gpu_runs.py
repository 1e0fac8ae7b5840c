"""On a GPU: whole runs of every method, and with the model in parts those that are held against runs without."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed_runs import final_figures
from rl_run import (
    BIRDS,
    divek_config,
    ends,
    grpo_config,
    mine_options,
    sft_config,
    speciarl_config,
    start,
    tapo_config,
)
from sharded_runs import NOTED

import fgvr
from fgvr.aviary import Aviary
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.models import Trained
from fgvr.rollouts.local_teacher import LocalTeacher
from fgvr.thoughts.teacher import Asked, Photo
from fgvr.tools.export import export

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NOTES = {"class_path": "sharded_runs.NoteGradients"}
ADAPTERS = {"rank": 3, "alpha": 8}
BESIDE = {"lora": {**ADAPTERS, "full": ["projector"]}}  # a part trained in full beside adapters
RATES = {"lr": 1e-3, "schedule": "constant", "rates": {"projector": 1e-4}}
KINDS = {"full": (None, False), "lora": (ADAPTERS, False), "offload": (None, True), "lora-offload": (ADAPTERS, True)}
ON_GPU = ("--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.max_steps=6", "--run.save_in_background=true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("gpu")
    ends(start(sft_config(folder), folder / "sft", *ON_GPU[:2]))
    return folder


def test_every_method_trains_in_bfloat16(folder: Path) -> None:
    mine_options(folder, "cuda")
    lora = {"policy": {"lora": ADAPTERS}}
    configs = {
        "tapo": tapo_config(folder, "tapo"),
        "divek": divek_config(folder, "divek", **lora),
        "speciarl": speciarl_config(folder, "speciarl"),
        "offload": with_strategy(grpo_config(folder, "offload", **lora), offload=True),
        "checkpointed": grpo_config(folder, "checkpointed", policy={"gradient_checkpointing": True}),
        "rates": with_strategy(grpo_config(folder, "rates", policy=BESIDE, optimizer=RATES, kl={"coefficient": 0.1})),
    }
    options = (*ON_GPU, "--trainer.precision=bf16-mixed")
    processes = [start(config, folder / f"half-{name}", *options) for name, config in configs.items()]
    for process in processes:
        ends(process)
    for name in configs:
        assert "seen/exact" in final_figures(folder / f"half-{name}")


def test_a_run_and_its_export_name_photos_on_the_gpu_as_on_the_host(folder: Path) -> None:
    birds = Aviary(**{**BIRDS, "train": 0, "test": 1})
    photos = [birds.draw(species, 9_000_000 + number) for number, species in enumerate(birds.species)]
    host = fgvr.load(folder / "sft", device="cpu").predict(photos)
    export(folder / "sft", folder / "export")
    for place in ("sft", "export"):
        found = fgvr.load(folder / place, device="cuda").predict(photos)
        assert not [one.error for one in found if one.error]
        same = sum(one.answer == other.answer for one, other in zip(found, host, strict=True))
        assert same >= 0.9 * len(photos)  # bfloat16 may turn the closest ones
    two_step = fgvr.load(folder / "sft", device="cuda").predict(photos[:4], two_step=True, samples=4)
    assert not [one.error for one in two_step if one.error]


def test_a_model_on_the_gpu_is_its_own_teacher(folder: Path) -> None:
    photo = io.BytesIO()
    Aviary(**BIRDS).draw(Aviary(**BIRDS).species[0], 1).save(photo, "PNG")
    shown = Photo("u", "Jade Owl", (), photo.getvalue())
    questions = [Asked("description", "Which bird is this?", shown, number) for number in range(5)]
    first, again = (
        [
            one
            for part in LocalTeacher(Trained(str(folder / "sft")), batch=2, max_new_tokens=8).replies(questions)
            for one in part
        ]
        for _ in range(2)
    )
    assert first == again
    assert [place for place, _ in first] == list(range(5))
    assert all(isinstance(said, str) for _, said in first)


def with_strategy(config: Path, **arguments: Any) -> Path:
    settings = yaml.safe_load(config.read_text())
    strategy = {"class_path": "fgvr.strategies.FSDP2Strategy", "init_args": arguments}
    settings["trainer"]["strategy"] = strategy
    file = config.with_name(f"{config.stem}-parts.yaml")
    file.write_text(yaml.safe_dump(settings))
    return file


def steps_of(run: Path) -> list[tuple[float, torch.Tensor]]:
    """Each step's loss and whole gradient."""
    noted = torch.load(run / NOTED, weights_only=True, map_location="cpu")
    return [
        (float(loss), torch.cat([gradients[name].flatten() for name in sorted(gradients)]))
        for loss, gradients in zip(noted["losses"], noted["gradients"], strict=True)
    ]


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Path:
    """Runs of every kind of `KINDS`, one in parts and one without, all side by side."""
    processes = []
    for name, (lora, offload) in KINDS.items():
        policy = {} if lora is None else {"policy": {"lora": lora}}
        config = grpo_config(folder, name, NOTES, kl={"coefficient": 0.1}, **policy)
        processes.append(start(config, folder / f"{name}-whole", *ON_GPU))
        processes.append(start(with_strategy(config, offload=offload), folder / f"{name}-parts", *ON_GPU))
    for process in processes:
        ends(process)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_a_run_in_parts_is_the_run_without(pairs: Path, name: str) -> None:
    whole, parts = pairs / f"{name}-whole", pairs / f"{name}-parts"
    found, theirs = steps_of(parts), steps_of(whole)
    # until a group's rewards differ there is nothing to learn, and the weights are the start's
    first = next(number for number, (_, gradient) in enumerate(theirs) if gradient.norm() > 0)
    (loss, gradient), (other_loss, other) = found[first], theirs[first]
    assert not any(earlier.norm() for _, earlier in found[:first])
    assert loss == pytest.approx(other_loss, rel=1e-4, abs=1e-5)
    assert (gradient - other).norm() <= 1e-4 * other.norm()
    assert final_figures(parts).keys() == final_figures(whole).keys()
    saved = [read_checkpoint(checkpoints_in(run / "checkpoints")[-1]) for run in (parts, whole)]
    assert [one["global_step"] for one in saved] == [6, 6]
    assert saved[0]["state_dict"].keys() == saved[1]["state_dict"].keys()


def test_a_run_in_parts_goes_on_without_and_back(folder: Path) -> None:
    config = grpo_config(folder, "on")
    parts, run = with_strategy(config), folder / "on"
    options = (*ON_GPU, "--run.allow_changed=[config,code]")
    ends(start(parts, run, *options, "--trainer.max_steps=2"))
    said = ends(start(config, run, *options, "--trainer.max_steps=4"))
    assert "Resuming at step 2" in said
    said = ends(start(parts, run, *options, "--trainer.max_steps=6", "--trainer.precision=bf16-mixed"))
    assert "Resuming at step 4" in said
    assert checkpoints_in(run / "checkpoints")[-1].name == "step-00000006.ckpt"
