"""A gradient a hundred times what it was: its step is left out, counted, and known again by the run that goes on."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from conftest import sequenced, tiny_backbone, tiny_policy
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from fgvr.data.collate import SFTCollate
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.modules import SFT, Optimizer
from fgvr.modules.spikes import SEEN_LEAST, SpikeRule
from fgvr.types import ReadRecord


def rule(norms: list[float], times: float | None = 100.0, clip: float = 1.0) -> SpikeRule:
    spikes = SpikeRule(times, clip)
    for norm in norms:
        spikes.saw(norm, spike=False)
    return spikes


def test_a_spike_by_hand():
    # eight norms .05 to .12: the median (the lower of the two in the middle) is .08, and 100 x .08 = 8
    spikes = rule([0.05, 0.12, 0.06, 0.11, 0.07, 0.10, 0.08, 0.09])
    assert spikes.usual() == pytest.approx(0.08)
    assert spikes.is_spike(8.01)
    assert not spikes.is_spike(7.99)
    # of 1e-4 a hundredfold is .01, which a step is taken with as it is: none below `clip` is a spike
    quiet = rule([1e-4] * 8)
    assert not quiet.is_spike(1.0)
    assert quiet.is_spike(1.01)
    assert not rule([1e-4] * 8, times=None).is_spike(1e9)


def test_too_few_steps_and_steps_of_nothing_say_nothing_of_what_is_usual():
    assert not rule([0.1] * (SEEN_LEAST - 1)).is_spike(1e9)
    assert not rule([0.1] * (SEEN_LEAST - 1) + [0.0] * 40).is_spike(1e9)
    assert rule([0.1] * SEEN_LEAST + [0.0] * 40).is_spike(10.1)


def test_a_spike_is_counted_and_does_not_become_usual():
    spikes = rule([0.1] * 8)
    for _ in range(40):
        assert spikes.is_spike(20.0)
        spikes.saw(20.0, spike=True)
    assert (int(spikes.count), spikes.usual()) == (40, pytest.approx(0.1))


@given(st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=60), st.floats(1e-3, 1e6), st.integers(-6, 6))
def test_the_unit_of_a_gradient_does_not_matter_nor_what_is_long_past(norms: list[float], norm: float, power: int):
    scale = 2.0**power
    found = rule(norms).is_spike(norm)
    assert rule([scale * one for one in norms], clip=scale).is_spike(scale * norm) == found
    assert rule([1e6] * 40 + (norms * 5)[-32:]).usual() == rule((norms * 5)[-32:]).usual()
    again = SpikeRule(100.0, 1.0)
    again.load_state_dict(rule(norms).state_dict())
    assert again.is_spike(norm) == found


class Spiked(SFT):
    """One batch over and over, whose loss is a thousand times itself at chosen steps."""

    at: frozenset[int] = frozenset()

    def train_dataloader(self) -> DataLoader:
        policy = tiny_policy()
        collate = SFTCollate(policy.processor.padding_token, 10_000, 128)
        items = [sequenced(policy, name, seed=place) for place, name in enumerate(("Jade Owl", "Heron"))]
        batch = collate(items, ReadRecord(0, 0, (0, 1), ("0", "1")))
        return DataLoader([batch], batch_size=None)  # pyright: ignore[reportArgumentType]

    def take_step(self) -> None:
        if self.global_step in self.at:
            for _, parameter in self.trained_policy.trainable():
                if parameter.grad is not None:
                    parameter.grad *= 1000
        self.before = {name: value.clone() for name, value in self.trained_policy.state_dict().items()}
        super().take_step()
        after = self.trained_policy.state_dict()
        self.stood_still = all(torch.equal(value, after[name]) for name, value in self.before.items())


def spiked(at: set[int], **options: float | None) -> Spiked:
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))
    module = Spiked(config, Optimizer(lr=1e-4, schedule="constant", **options))  # pyright: ignore[reportArgumentType]
    module.at = frozenset(at)
    return module


def fit(module: Spiked, steps: int) -> Spiked:
    Trainer(
        accelerator="cpu",
        max_steps=steps,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    return module


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*Skipping val loop.*")


def test_its_step_is_left_out_named_and_counted(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        module = fit(spiked({8}), steps=9)
    assert module.stood_still
    assert (module.skipped.tolist(), int(module.spikes.count)) == ([1, 1], 1)
    assert float(module.trainer.callback_metrics["train/spikes"]) == 1
    assert float(module.trainer.callback_metrics["train/skipped_steps"]) == 1
    (told,) = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert told.startswith("step 8 is skipped: its gradient's norm is ")
    assert not fit(spiked({8}, spike=None), steps=9).stood_still


def test_a_run_that_goes_on_knows_it_as_the_run_that_was_not_cut():
    first = fit(spiked(set()), steps=8)
    on = spiked({0})
    on.configure_model()
    on.load_state_dict(first.state_dict())
    assert fit(on, steps=1).stood_still, "the norms before the cut are in its checkpoint"
    fresh = spiked({0})
    assert not fit(fresh, steps=1).stood_still, "a run of one step has nothing to compare with"


def test_spikes_without_end_stop_the_run():
    with pytest.raises(
        UserError, match="gradients must be near those of the steps before, but 3 steps in a row, up to 10"
    ):
        fit(spiked({8, 9, 10, 11}, max_skipped=2), steps=12)


@pytest.mark.parametrize("times", [0.5, math.nan])
def test_a_share_of_what_is_usual_is_no_spike(times: float):
    with pytest.raises(UserError, match=r"optimizer\.spike must be at least 1"):
        Optimizer(spike=times)
