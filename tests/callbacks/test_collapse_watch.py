from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from prompted import REPLIES
from rl_run import Alarmed
from triplet_rollouts import WatchedTAPO, fit_triplets

from fgvr.callbacks import CollapseWatch
from fgvr.callbacks.collapse_watch import WATCHED
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import SFT, TAPO
from fgvr.objectives import Triplet
from fgvr.rewards import Exact

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
CALM = {"divergence": 0.1, "reward": 0.6, "clip_ratio/high_mean": 0.01} | dict.fromkeys(WATCHED[3:], 0.5)
HACKED = {"divergence": 0.4, "reward": 0.3, "clip_ratio/high_mean": 0.05} | dict.fromkeys(WATCHED[3:], 0.9)


def tapo(triplet: Triplet = Triplet(), of: type[TAPO] = TAPO, **options: Any) -> Any:  # noqa: B008 - frozen
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))
    return of(config, Exact(), triplet, sampling=Sampling(group_size=4, max_new_tokens=24, positives=2), **options)


def watched(watch: CollapseWatch, figures: dict[str, float], times: int, module: Any) -> None:
    """Batches that all looked like this."""
    module.last_rollouts = SimpleNamespace(figures={"reward": figures["reward"]})
    trainer: Any = SimpleNamespace(callback_metrics=figures, global_step=7)
    for _ in range(times):
        watch.on_train_batch_end(trainer, module, None, None, 0)


def test_all_signs_at_once_are_told_with_their_figures(caplog: pytest.LogCaptureFixture):
    watch, module = CollapseWatch(window=3), tapo(updates=2)
    watched(watch, CALM, 3, module)
    watched(watch, HACKED, 2, module)
    assert not caplog.records
    watched(watch, HACKED, 1, module)
    (record,) = caplog.records
    for said in ("at step 7", "divergence 0.1 -> 0.4", "reward 0.6 -> 0.3", "in 3 batches", "lower triplet.gamma"):
        assert said in record.getMessage()
    assert module.gamma_scale == 1.0
    watched(watch, HACKED, 6, module)  # as bad as before, but no worse
    assert len(caplog.records) == 1


@pytest.mark.parametrize("calm", WATCHED)
def test_with_one_sign_missing_it_says_nothing(calm: str, caplog: pytest.LogCaptureFixture):
    watch, module = CollapseWatch("stop", window=3), tapo(updates=2)
    watched(watch, CALM, 3, module)
    watched(watch, HACKED | {calm: CALM[calm]}, 3, module)
    assert not caplog.records


def test_with_one_update_a_batch_there_is_no_clipping_to_go_by():
    watch, module = CollapseWatch("stop", window=3), tapo()
    never = {"clip_ratio/high_mean": 0.0}
    watched(watch, CALM | never, 3, module)
    with pytest.raises(UserError, match="go on from an earlier checkpoint, and lower triplet"):
        watched(watch, HACKED | never, 3, module)


def test_it_backs_off_each_time_and_goes_on_from_a_checkpoint_as_if_it_had_never_stopped():
    whole, module = CollapseWatch("back_off", window=3, factor=0.5), tapo(updates=2)
    watched(whole, CALM, 3, module)
    watched(whole, HACKED, 3, module)
    watched(whole, CALM, 2, module)
    again, resumed = CollapseWatch("back_off", window=3, factor=0.5), tapo(updates=2)
    again.load_state_dict(whole.state_dict())
    again.on_train_start(SimpleNamespace(), resumed)  # pyright: ignore[reportArgumentType]
    assert resumed.gamma_scale == module.gamma_scale == 0.5
    for watch, own in ((whole, module), (again, resumed)):
        watched(watch, CALM, 1, own)
        watched(watch, HACKED, 3, own)
    assert resumed.gamma_scale == module.gamma_scale == 0.25
    assert whole.state_dict() == again.state_dict()


def test_batches_without_an_update_or_without_a_figure_are_passed_over():
    watch, module = CollapseWatch(window=3), tapo()
    watched(watch, CALM | {"reward": float("nan")}, 3, module)
    watched(watch, {"reward": 0.5}, 3, module)
    module.last_rollouts = SimpleNamespace(figures={})
    watch.on_train_batch_end(SimpleNamespace(callback_metrics=CALM), module, None, None, 0)  # pyright: ignore
    watched(watch, CALM, 3, tapo(Triplet(gamma=0.0)))
    assert watch.state_dict() == {"seen": [], "gamma_scale": 1.0}


def test_in_a_run_it_sees_what_is_logged_and_scales_gamma():
    module, watch = tapo(Triplet(gamma=0.4), WatchedTAPO), CollapseWatch(window=1)
    watch.gamma_scale = 0.5
    fit_triplets(module, REPLIES, [watch])
    assert [step["triplets/gamma"] for step in module.logged] == pytest.approx([0.2, 0.2])
    seen = watch.state_dict()["seen"]
    assert seen == [[step[name] for name in WATCHED] for step in module.logged]


def test_a_warning_changes_nothing_and_backing_off_what_comes_after(caplog: pytest.LogCaptureFixture):
    runs = []
    for watches in ([], [Alarmed("warn", window=1)], [Alarmed("back_off", window=1, factor=0.25)]):
        module = tapo(Triplet(gamma=0.4), WatchedTAPO)
        weights = fit_triplets(module, REPLIES, watches, max_steps=5)
        runs.append((weights, [step["triplets/gamma"] for step in module.logged]))
    (plain, _), (warned, same), (backed_off, lowered) = runs
    assert same == pytest.approx([0.4] * 5)
    assert all(torch.equal(plain[name], warned[name]) for name in plain)
    assert lowered == pytest.approx([0.4, 0.4, 0.1, 0.1, 0.025])  # after every second batch
    assert any(not torch.equal(plain[name], backed_off[name]) for name in plain)
    said = [record.getMessage() for record in caplog.records if "collapse" in record.name]
    assert len(said) == 4
    assert "gamma is 0.0625 times what it was set to from here on" in said[-1]


def test_a_stop_ends_the_run_with_a_sentence():
    module = tapo(Triplet(gamma=0.4), WatchedTAPO)
    with pytest.raises(UserError, match=r"at step 2 the policy drives .* go on from an earlier checkpoint"):
        fit_triplets(module, REPLIES, [Alarmed("stop", window=1)], max_steps=5)


def test_a_checkpoint_that_is_read_twice_is_seen_once():
    """As where the weights to start from are scored before they are trained."""
    watch, again, module = CollapseWatch(window=3), CollapseWatch(window=3), tapo(updates=2)
    watched(watch, CALM, 2, module)
    for _ in range(2):
        again.load_state_dict(watch.state_dict())
    assert again.state_dict() == watch.state_dict()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="warn, back_off or stop"):
        CollapseWatch("ignore")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"collapse_watch\.window must be at least 1, got 0"):
        CollapseWatch(window=0)
    with pytest.raises(UserError, match=r"below 1, got 1\.5"):
        CollapseWatch(factor=1.5)
    with pytest.raises(UserError, match="which SFT has not: leave"):
        CollapseWatch().on_fit_start(SimpleNamespace(), SFT.__new__(SFT))  # pyright: ignore[reportArgumentType]
