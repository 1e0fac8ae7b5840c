import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt, tiny_policy
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import CSVLogger
from torch.utils.flop_counter import FlopCounterMode
from toy_rollouts import scored_group
from toy_stream import Numbers, ToyLearner, ToyStream, toy_trainer, write_set

from fgvr.callbacks import Throughput
from fgvr.callbacks.throughput import (
    PEAKS,
    Costs,
    costs_of,
    group_flops,
    peak_of,
    rows_flops,
    update_flops,
    vision_flops,
)
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.kernels.group_packing import pack_groups
from fgvr.models import LoRA, Policy
from fgvr.types import GroupRows, ImageFeatures, Overlap, RolloutBatch, RolloutRows, UpdateBatch

# Qwen2.5-VL's tower, in the 3B and the 7B alike: 32 layers of width 1280 with a gated MLP of 3420, so
# 4 * 1280^2 + 3 * 1280 * 3420 = 19,686,400 weights a layer; a patch embedding of 1176 * 1280; a merger of
# 5120^2 + 5120 * D weights for every 4 patches. 4 layers see the whole image, 28 see windows of 64 patches.
TOWER = 32 * 19_686_400 + 1176 * 1280
FULL, WINDOWED = 4 * 1280 * 4, 4 * 1280 * 28
# the decoders: 36 layers of 16 heads of 128, and 28 layers of 28 heads of 128
SMALL = Costs(2.775e9, 0.311e9, 4 * 16 * 128 * 36, TOWER, 5120 * (5120 + 2048) / 4, FULL, WINDOWED)
LARGE = Costs(6.525e9, 0.545e9, 4 * 28 * 128 * 28, TOWER, 5120 * (5120 + 3584) / 4, FULL, WINDOWED)


def test_a_group_of_the_3b_model_by_hand() -> None:
    # P = 356, C = 64, G = 8: 356 + 8 * 64 = 868 tokens, of which 512 go through the head.
    # Pairs: 356 * 357 / 2 + 8 * (64 * 356 + 64 * 65 / 2) = 63,546 + 8 * 24,864 = 262,458.
    # Forward: 2 * 2.775e9 * 868 + 2 * 0.311e9 * 512 + 294,912 * 262,458 = 4.817e12 + 0.318e12 + 0.077e12.
    # Tower, once: 2 * (631.5e6 + 9.175e6) * 1024 + 20,480 * 1024^2 + 143,360 * 1024 * 64 = 1.312e12 + 0.031e12.
    full = group_flops(SMALL, 356, [64] * 8, [1024])
    assert full == pytest.approx(3 * (4.8174e12 + 0.31846e12 + 0.0774e12) + 1.3434e12, rel=1e-4)
    assert round(full / 1e12, 1) == 17.0
    # With adapters the weights take no gradient: twice the products, the pairs three times as before.
    lora = group_flops(replace(SMALL, decoder_trained=False, head_trained=False), 356, [64] * 8, [1024])
    assert lora == pytest.approx(2 * (4.8174e12 + 0.31846e12) + 3 * 0.0774e12 + 1.3434e12, rel=1e-4)
    assert round(lora / 1e12, 1) == 11.8


@pytest.mark.parametrize(
    ("costs", "prompt", "completion", "group", "patches", "expected"),
    [
        (SMALL, 356, 256, 8, 1024, 46.1),
        (SMALL, 356, 1024, 8, 1024, 165.3),
        (SMALL, 1396, 64, 16, 5184, 51.6),
        (LARGE, 356, 64, 8, 1024, 37.3),
        (LARGE, 1396, 256, 8, 5184, 153.7),
    ],
)
def test_other_shapes_in_teraflop(
    costs: Costs, prompt: int, completion: int, group: int, patches: int, expected: float
) -> None:
    assert group_flops(costs, prompt, [completion] * group, [patches]) / 1e12 == pytest.approx(expected, rel=5e-3)


@given(
    prompt=st.integers(1, 400),
    completions=st.lists(st.integers(1, 80), min_size=1, max_size=8),
    images=st.lists(st.integers(4, 2000), max_size=3),
)
def test_a_group_costs_its_parts_without_the_copies_of_its_prompt(
    prompt: int, completions: list[int], images: list[int]
) -> None:
    alone = [group_flops(SMALL, prompt, [length], images) for length in completions]
    shared = group_flops(SMALL, prompt, [], images)
    assert group_flops(SMALL, prompt, completions, images) == pytest.approx(
        sum(alone) - (len(completions) - 1) * shared
    )


def rows_of(policy: Policy) -> GroupRows:
    """A group of completions of 3 and 5 tokens, and one of 7, each behind a prompt of its own."""
    ids = policy.processor.encode_target("<answer>Azure Finch</answer>") * 3
    completions = [[torch.tensor(ids[:3]), torch.tensor(ids[:5])], [torch.tensor(ids[:7])]]
    prompts = [prompt(policy), prompt(policy, seed=9)]
    return pack_groups(prompts, completions, [None, None], policy.processor.padding_token)


def update_of(rows: GroupRows) -> UpdateBatch:
    zeros = torch.zeros(len(rows.target_ids))
    return UpdateBatch([RolloutRows(rows, zeros, zeros, zeros)])


def products(costs: Costs) -> Costs:
    """Without pairs: however attention is computed, pytorch counts it in another way, if at all."""
    return replace(costs, pair=0.0, full=0.0, windowed=0.0)


def flops_of_padding(costs: Costs, rows: GroupRows) -> float:
    """Of a forward pass: computed, but no work."""
    return 2 * costs.decoder * int((rows.segments < 0).sum())


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_weights_are_counted_as_pytorch_counts_their_products(family: str) -> None:
    policy = tiny_policy(family)
    rows, costs = rows_of(policy), products(costs_of(policy))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy.completion_logprobs(rows)
    assert rows.images is not None
    images, length = rows.images.grid_thw.prod(1).tolist(), len(prompt(policy).input_ids)
    whole = group_flops(costs, length, [3, 5], images[:1]) + group_flops(costs, length, [7], images[1:])
    assert counter.get_total_flops() - flops_of_padding(costs, rows) == whole / 3
    assert update_flops(costs, update_of(rows)) == whole
    assert rows_flops(costs, rows, learned=False) == whole / 3  # as behind a negative, which is a constant


def test_what_is_trained_of_the_vision_part_is_computed_backwards() -> None:
    parts: dict[tuple[str, ...], tuple[bool, bool]] = {
        (): (True, True),
        ("vision",): (False, True),
        ("projector",): (True, False),
        ("vision", "projector"): (False, False),
    }
    found = {}
    for freeze, trained in parts.items():
        costs = costs_of(tiny_policy(freeze=freeze))
        assert (costs.tower_trained, costs.merger_trained) == trained
        found[freeze] = vision_flops(replace(costs, tower=5.0, merger=3.0, full=0.0, windowed=0.0), [10, 20])
    # forward 2 x 5 x 30 = 300 and 2 x 3 x 30 = 180; trained 3 x 300 and 3 x 180; the merger alone 300 and 3 x 180; the
    # tower alone 3 x 300 and 2 x 180, the merger's activations
    assert list(found.values()) == [1440, 840, 1260, 480]


@pytest.mark.parametrize("freeze", [("vision",), ("vision", "projector")])
def test_a_frozen_tower_needs_no_backward_pass(freeze: tuple[str, ...]) -> None:
    policy = tiny_policy(freeze=freeze)
    rows, costs = rows_of(policy), products(costs_of(policy))
    assert (costs.decoder_trained, costs.head_trained) == (True, True)
    with FlopCounterMode(display=False) as counter:
        policy.completion_logprobs(rows)[0].sum().backward()
    work = update_flops(costs, update_of(rows)) + 3 * flops_of_padding(costs, rows)
    # the head is computed once more on the way back, in place of being kept
    again = 2 * costs.head * len(rows.target_ids)
    assert counter.get_total_flops() == work + again


def test_features_that_are_carried_along_cost_nothing() -> None:
    policy = tiny_policy(freeze=("vision", "projector"))
    rows, costs = rows_of(policy), costs_of(policy)
    assert rows.images is not None
    carried = replace(rows, features=ImageFeatures(torch.zeros(18, 64), None))
    saved = vision_flops(costs, rows.images.grid_thw.prod(1).tolist())
    assert update_flops(costs, update_of(rows)) - update_flops(costs, update_of(carried)) == pytest.approx(saved)


def test_adapters_leave_the_weights_below_them_untrained() -> None:
    costs = costs_of(tiny_policy(lora=LoRA(4)))
    trained = ("decoder_trained", "head_trained", "tower_trained", "merger_trained")
    assert not any(getattr(costs, name) for name in trained)
    assert replace(costs, **dict.fromkeys(trained, True)) == costs_of(tiny_policy())


def test_known_devices_have_a_peak_and_a_processor_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_of(torch.device("cpu")) is None
    names = {
        "NVIDIA H200": 989.0,
        "NVIDIA A100-SXM4-80GB": 312.0,
        "NVIDIA L40S": 362.0,
        "NVIDIA L4": 121.0,
        "NVIDIA RTX A6000": 155.0,
        "NVIDIA GeForce RTX 4090": 165.0,
        "Tesla T4": None,
    }
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_of(torch.device("cuda")) == peak
    order = list(PEAKS)
    for place, part in enumerate(order):
        assert not any(earlier in part for earlier in order[:place]), part


def test_a_peak_must_be_above_zero() -> None:
    with pytest.raises(UserError, match="above 0, got 0"):
        Throughput(peak_tflops=0)


SAMPLE, UPDATE = 0.05, 0.02


class Learner(ToyLearner):
    """Two batches make one rollout batch, from which two steps are made; the policy is there to be measured."""

    def __init__(self) -> None:
        super().__init__()
        self.trained_policy = tiny_policy()
        self.rollouts: RolloutBatch | None = None
        self.last_rollouts: RolloutBatch | None = None

    def training_step(self, batch: Numbers, batch_idx: int) -> None:
        self.last_rollouts, self.rollouts = self.rollouts, None
        assert self.last_rollouts is not None
        for _ in self.last_rollouts.updates:
            time.sleep(UPDATE)
            super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.weight], lr=0.1)


class Sampler(Callback):
    def __init__(self, policy: Policy) -> None:
        self.updates = [update_of(rows_of(policy))] * 2

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        time.sleep(SAMPLE)
        ready = batch_idx % 2
        seconds = {"sample": SAMPLE * (1 + ready), "score": 0.0, "sync": 0.0}
        group = scored_group(["<answer>Wren</answer>"], [1.0])
        updates = self.updates if ready else []
        figures = {"rollouts/tokens": 100.0} if ready else {}
        pl_module.rollouts = RolloutBatch([group], updates, figures, seconds, Overlap(0.2, 0.15))  # pyright: ignore


def train(
    root: Path, first: bool, ckpt: Path | None = None, **settings: Any
) -> tuple[list[dict[str, str]], Throughput]:
    data = write_set(root / "set", {"train-seen": [24], "val-seen": [2]}) if ckpt is None else root / "set"
    module, meter, logger = Learner(), Throughput(peak_tflops=1e-3), CSVLogger(root / "csv")
    callbacks = [meter, Sampler(module.trained_policy)] if first else [Sampler(module.trained_policy), meter]
    trainer = toy_trainer(root, *callbacks, logger=logger, log_every_n_steps=1, **{"max_epochs": 1, **settings})
    stream = ToyStream([ShardSource(data)], OpenWorld(), batch_size=4, workers=0)
    trainer.fit(module, datamodule=stream, ckpt_path=ckpt, weights_only=False)
    trainer.save_checkpoint(root / "end.ckpt")
    lines = [line.split(",") for line in Path(logger.log_dir, "metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return [row for row in rows if row["num_tokens"]], meter


@pytest.mark.parametrize("first", [False, True], ids=["after the sampler", "before the sampler"])
def test_phases_are_told_apart_wherever_the_callback_stands(tmp_path: Path, first: bool) -> None:
    rows, meter = train(tmp_path, first, val_check_interval=2)
    row = {name: float(value) for name, value in rows[-1].items() if value}
    assert row["time/sample"] == pytest.approx(2 * SAMPLE)
    assert 2 * UPDATE <= row["time/update"] < 2 * UPDATE + SAMPLE
    assert 2 * (SAMPLE + UPDATE) <= row["step_time"] < 4 * (SAMPLE + UPDATE)
    # both updates: rows of 3 + 5 and of 7 completion tokens, each with its prompt; and 100 that were sampled
    policy = tiny_policy()
    tokens = 100 + 2 * (15 + 2 * len(prompt(policy).input_ids))
    assert meter.num_tokens == 3 * tokens  # six batches
    assert row["num_tokens"] == 3 * tokens
    assert row["tokens/s"] == pytest.approx(tokens / row["step_time"], rel=1e-4)
    assert (row["time/score_hidden"], row["overlap"]) == (pytest.approx(0.15), pytest.approx(0.75))
    work = 2 * update_flops(costs_of(policy), update_of(rows_of(policy)))
    assert row["unique_mfu"] == pytest.approx(work / row["time/update"] / 1e9, rel=1e-3)
    assert 0.05 < row["memory/peak_gb"] < 64


def test_tokens_are_counted_over_restarts(tmp_path: Path) -> None:
    _, first = train(tmp_path, False)
    _, second = train(tmp_path, False, tmp_path / "end.ckpt", max_epochs=2)
    assert second.num_tokens == 2 * first.num_tokens > 0


def test_without_a_known_peak_there_is_no_utilisation(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set", {"train-seen": [8], "val-seen": [2]})
    module, logger = Learner(), CSVLogger(tmp_path / "csv")
    trainer = toy_trainer(
        tmp_path, Sampler(module.trained_policy), Throughput(), logger=logger, log_every_n_steps=1, max_epochs=1
    )
    trainer.fit(module, datamodule=ToyStream([ShardSource(data)], OpenWorld(), batch_size=4, workers=0))
    assert "unique_mfu" not in trainer.logged_metrics
    assert "time/update" in trainer.logged_metrics
