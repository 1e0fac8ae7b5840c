from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import tiny_backbone
from prompted import Watched, fit

from fgvr.callbacks import DriftWatch, RolloutGeneration
from fgvr.callbacks.drift_watch import DIFFERENCE
from fgvr.errors import UserError
from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import Optimizer
from fgvr.rewards import Exact
from fgvr.rollouts import InProcess

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)


def module() -> Watched:
    """An entropy term moves the weights even where all of a group earn the same."""
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))
    optimizer, sampling = Optimizer(lr=3e-2, schedule="constant"), Sampling(group_size=4, max_new_tokens=8)
    return Watched(config, Exact(), optimizer, sampling, entropy_coefficient=1.0)


class Apart(InProcess):
    """Samples with a copy of the weights, as an engine in a process of its own does; some syncs never reach it."""

    def __init__(self, lost: int | None) -> None:
        super().__init__()
        self.lost, self.syncs = lost, 0
        self.copy: Policy | None = None

    def sync(self, policy: Policy) -> None:
        if self.copy is None:
            self.copy = copy.deepcopy(policy)
        elif self.syncs != self.lost:
            self.copy.load_state_dict(policy.state_dict())
        self.syncs += 1

    def stream(self, policy: Policy, *asked: Any) -> Any:
        assert self.copy is not None
        yield from super().stream(self.copy, *asked)


@pytest.mark.parametrize("lost", [None, 1, 2])
def test_a_sync_that_is_lost_is_told_of_at_that_step(lost: int | None, caplog: pytest.LogCaptureFixture) -> None:
    watch = DriftWatch()
    grpo = module()
    fit(grpo, [RolloutGeneration(Apart(lost)), watch], max_steps=4, limit_train_batches=4)
    assert watch.alarms == (lost is not None)
    told = [record.getMessage() for record in caplog.records if "log-probs must be the trainer's" in record.message]
    assert len(told) == watch.alarms
    if lost is not None:
        assert f"at step {lost + 1} they differ by" in told[0]
        assert grpo.logged[-1]["sampling/drift_alarms"] == 1


def test_in_process_there_is_no_drift(caplog: pytest.LogCaptureFixture) -> None:
    watch = DriftWatch(action="stop")
    fit(module(), [RolloutGeneration(InProcess()), watch])
    assert watch.alarms == 0


def shown(watch: DriftWatch, *differences: float) -> None:
    for step, difference in enumerate(differences):
        trainer: Any = SimpleNamespace(callback_metrics={DIFFERENCE: difference}, global_step=step)
        learner: Any = SimpleNamespace(last_rollouts=SimpleNamespace(figures={"reward": 1.0}), log=lambda *_: None)
        watch.on_train_batch_end(trainer, learner, None, None, 0)


@pytest.mark.parametrize(
    ("differences", "alarms"),
    [
        ((0.015, 0.016, 0.014, 0.017), 0),
        ((0.015, 0.016, 0.014, 0.201), 1),  # what stale weights of a real engine looked like
        ((0.3,), 1),
        ((1e-6, 9e-4), 0),
        ((1e-6, 2e-3), 1),
        ((1e-6, float("nan")), 1),
        ((1e-6, float("inf"), 1e-6), 1),
    ],
)
def test_more_than_rounding_is_an_alarm(differences: tuple[float, ...], alarms: int) -> None:
    watch = DriftWatch()
    shown(watch, *differences)
    assert watch.alarms == alarms
    again = DriftWatch(action="stop")
    again.load_state_dict(watch.state_dict())
    with pytest.raises(UserError, match=r"log-probs must be the trainer's but for rounding, but at step 0 they differ"):
        shown(again, 0.5)


def test_what_is_out_of_range_is_refused() -> None:
    for bad in ({"action": "shout"}, {"times": 0.5}, {"window": 0}, {"floor": -1.0}, {"ceiling": -0.1}):
        with pytest.raises(UserError, match="drift"):
            DriftWatch(**bad)  # pyright: ignore[reportArgumentType]
