from __future__ import annotations

from typing import Any

import pytest
import torch

from fgvr.strategies.asked import is_name, on_gpu, parts_asked, ranks_of, shards_asked

OURS = "fgvr.strategies.FSDP2Strategy"


@pytest.mark.parametrize(
    ("trainer", "ranks"),
    [
        ({"devices": 8}, 8),
        ({"devices": 8, "num_nodes": 4}, 32),
        ({"devices": "2", "num_nodes": 2}, 4),
        ({"devices": [0, 3]}, 2),
        ({"devices": "0,2,5"}, 3),
    ],
)
def test_ranks_are_counted_as_the_trainer_would(trainer: dict[str, Any], ranks: int):
    assert ranks_of(trainer) == ranks


@pytest.mark.parametrize("devices", ["auto", "-1", None])
def test_all_devices_are_those_of_the_accelerator(monkeypatch: pytest.MonkeyPatch, devices: str | None):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = {"devices": devices, "num_nodes": 2}
    assert ranks_of({**asked, "accelerator": "cpu"}) == 2, "a CPU is one device, whatever GPUs there are"
    assert ranks_of({**asked, "accelerator": "gpu"}) == 8
    assert ranks_of({**asked, "accelerator": "auto"}) == 8


@pytest.mark.parametrize(("accelerator", "gpu"), [("cpu", False), ("gpu", True), ("cuda", True)])
def test_an_accelerator_says_where(accelerator: str, gpu: bool):
    assert on_gpu({"accelerator": accelerator}) is gpu


def test_parts_are_asked_for_by_name_or_by_class():
    assert parts_asked({"strategy": "fsdp2"}) == {}
    assert parts_asked({"strategy": {"class_path": OURS}}) == {}
    assert parts_asked({"strategy": {"class_path": OURS, "init_args": {"shard": 2}}}) == {"shard": 2}
    others: list[Any] = ["auto", "ddp", None, {"class_path": "lightning.pytorch.strategies.DDPStrategy"}]
    assert all(parts_asked({"strategy": other}) is None for other in others)


def test_parts_make_up_a_copy():
    assert shards_asked({"strategy": "ddp"}, 8) == 1
    assert shards_asked({"strategy": "fsdp2"}, 8) == 8
    assert shards_asked({"strategy": {"class_path": OURS, "init_args": {"replicate": 2, "shard": None}}}, 8) == 4


def test_short_names_are_lightnings_and_ours():
    assert is_name("fsdp2")
    assert is_name("deepspeed_stage_3")
    assert not is_name("fsdpp")
