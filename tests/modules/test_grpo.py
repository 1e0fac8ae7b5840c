from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from lightning.pytorch.loggers import TensorBoardLogger
from preloaded import ranks_strategy
from prompted import REPLIES, Batches, Measured, Watched, fit
from scripted import WRONG, Scripted
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fgvr.callbacks import RolloutGeneration
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import Optimizer
from fgvr.objectives import KL, Advantage, Clip, GroupFilter
from fgvr.rewards import Exact, Format, Term, WeightedSum
from fgvr.types import RolloutBatch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)


def module(lora: LoRA | None = None, kind: type[Watched] = Watched, **options: Any) -> Watched:
    reward = WeightedSum({"exact": Term(Exact()), "format": Term(Format(), 0.5)})
    settings: dict[str, Any] = {
        "sampling": Sampling(group_size=4, max_new_tokens=24),
        "optimizer": Optimizer(lr=1e-3, schedule="constant", eps=1e-3),
    }
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84), lora=lora)
    return kind(config, reward, **settings | options)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {"reduction": "sequence", "kl": KL(0.04)},
    "dapo": {"reduction": "token", "clip": Clip(0.2, 0.28), "mask_truncated": True},
    "dr_grpo": {"reduction": "constant", "advantage": Advantage(scale="none")},
    "rloo": {"reduction": "sequence", "advantage": Advantage("leave_one_out", "none"), "clip": Clip(level="sequence")},
    "filtered": {"reduction": "token", "group_filter": GroupFilter(), "mask_truncated": True},
    "reused": {"reduction": "token", "updates": 2, "epochs": 2, "entropy_coefficient": 0.01},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_micro_batches_do_not_change_the_update(variant):
    steps = 3 if variant != "reused" else 12
    whole = fit(module(**VARIANTS[variant]), max_steps=steps)
    cut = fit(module(**VARIANTS[variant], micro_batch_tokens=1), max_steps=steps)
    assert_same(whole, cut)


@pytest.mark.filterwarnings("ignore:.*You are using.*DDP.*")
@pytest.mark.parametrize("variant", ["grpo", pytest.param("dapo", marks=pytest.mark.slow)])
def test_two_ranks_make_the_update_of_one(variant):
    alone = fit(module(**VARIANTS[variant], micro_batch_tokens=120))
    pair = module(**VARIANTS[variant], micro_batch_tokens=120)
    pair.configure_model()  # here too, so that the trained weights have somewhere to come back to
    together = fit(pair, devices=2, strategy=ranks_strategy())
    assert_same(alone, together)


class MeasuredGRPO(Measured, Watched):
    pass


def gradient(variant: str, micro_batch_tokens: int, **options: Any) -> torch.Tensor:
    """That of one update, before the optimiser: all of what the update is."""
    settings: dict[str, Any] = {"optimizer": Optimizer(max_grad_norm=1e9), "micro_batch_tokens": micro_batch_tokens}
    grpo = module(**VARIANTS[variant] | settings)
    grpo.__class__ = MeasuredGRPO
    grpo.configure_model()
    trained = {f"policy.{name}" for name, _ in grpo.trained_policy.trainable()}
    state = fit(grpo, max_steps=1, **options)
    return torch.cat([value.flatten() for name, value in state.items() if name in trained])


@pytest.mark.parametrize("variant", ["grpo", "dapo", "dr_grpo", "rloo"])
def test_every_cut_gives_the_same_gradient(variant):
    whole, *others = [gradient(variant, tokens) for tokens in (100_000, 200, 1)]
    for other in others:
        assert (other - whole).norm() <= 1e-6 * whole.norm()


@pytest.mark.filterwarnings("ignore:.*You are using.*DDP.*")
@pytest.mark.parametrize("variant", ["dr_grpo", pytest.param("filtered", marks=pytest.mark.slow)])
def test_two_ranks_have_the_gradient_of_one(variant):
    alone = gradient(variant, 100)
    together = gradient(variant, 100, devices=2, strategy=ranks_strategy())
    assert (together - alone).norm() <= 1e-6 * alone.norm()


def test_the_ratio_is_one_on_the_first_update_and_moves_on_the_next():
    grpo = module(reduction="token", epochs=3)
    fit(grpo, max_steps=1)
    assert grpo.logged[0]["ratio"] == pytest.approx(1, abs=1e-5)
    grpo = module(reduction="token", epochs=3)
    fit(grpo, max_steps=3)
    assert grpo.logged[0]["ratio"] != pytest.approx(1, abs=1e-3)
    assert grpo.global_step == 3


def test_a_run_ends_within_a_rollout_batch():
    grpo = module(epochs=4)
    fit(grpo, max_steps=6)
    assert grpo.global_step == 6
    assert len(grpo.logged) == 2


@pytest.mark.parametrize("lora", [None, LoRA(rank=4, alpha=8.0)])
def test_the_reference_is_the_policy_the_run_began_with(lora):
    grpo = module(lora=lora, kl=KL(0.1))
    fit(grpo)
    assert grpo.logged[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert grpo.logged[-1]["kl"] > 1e-6
    assert not any(name.startswith("_frozen") for name in grpo.state_dict())


def test_refilling_takes_no_step():
    replies = {uid: [WRONG] * 4 for uid in REPLIES} | {"u0": REPLIES["u0"], "u3": REPLIES["u3"]}
    grpo = module(group_filter=GroupFilter())
    fit(grpo, [RolloutGeneration(Scripted(replies))], max_steps=1)
    assert grpo.global_step == 1
    assert len(grpo.logged) == 3  # two informative groups a batch, five wanted
    assert "reward" not in grpo.logged[0]
    assert grpo.logged[-1]["rollouts/surplus"] == 1
    assert grpo.logged[-1]["rollouts/uninformative"] == 9


def test_the_figures_have_the_names_that_users_know():
    grpo = module(kl=KL(0.01))
    fit(grpo, max_steps=1)
    names = {"entropy/learned", "sampling/sampling_logp_difference/mean", "sampling/sampling_logp_difference/max"}
    names |= {
        "reward",
        "reward_std",
        "rewards/exact/mean",
        "rewards/exact/std",
        "frac_reward_zero_std",
        "entropy",
        "kl",
    }
    names |= {f"completions/{name}" for name in ("mean_length", "min_length", "max_length", "clipped_ratio")}
    names |= {f"clip_ratio/{name}" for name in ("region_mean", "low_mean", "high_mean")}
    assert names <= set(grpo.logged[0])
    # of 20 replies RIGHT is given once, twice, once and once; u1 has four equal rewards
    assert grpo.logged[0]["rewards/exact/mean"] == pytest.approx(5 / 19)  # one reply has no token, so no reward
    assert grpo.logged[0]["frac_reward_zero_std"] == pytest.approx(1 / 5)


class Sometimes(Watched):
    """Its first batch alone has a figure that others have none of."""

    def log_rollouts(self, rollouts: RolloutBatch) -> None:
        own = {} if self.logged else {"seldom": 1.0}
        super().log_rollouts(replace(rollouts, figures=rollouts.figures | own))


def test_a_figure_that_a_batch_has_none_of_is_not_drawn_again(tmp_path: Path):
    grpo = module(kind=Sometimes)
    fit(grpo, logger=TensorBoardLogger(tmp_path, name="", version=""), log_every_n_steps=1)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert len(events.Scalars("reward")) == 3
    assert len(events.Scalars("seldom")) == 1


def test_a_non_finite_gradient_skips_its_step_is_counted_and_stops_the_run_in_the_end():
    grpo = module()
    grpo.poison = True
    fresh = module()
    fresh.configure_model()
    before = {name: value for name, value in fresh.state_dict().items() if name.startswith("policy.")}
    after = fit(grpo)
    assert grpo.skipped.tolist() == [3, 3]
    assert all(torch.equal(after[name], before[name]) for name in before)
    grpo = module(optimizer=Optimizer(max_skipped=1))
    grpo.poison = True
    with pytest.raises(UserError, match="gradients must be finite, but 2 steps in a row"):
        fit(grpo)


def test_right_answers_become_likelier():
    grpo = module(reduction="token", optimizer=Optimizer(lr=1e-3, schedule="constant"))
    grpo.configure_model()
    engine, batch = Scripted(REPLIES), Batches(0, 1, 1).batches[0]
    policy = grpo.trained_policy
    groups = engine.sample(policy, batch, grpo.sampling, [0] * 5)

    def likelihood() -> float:
        from fgvr.kernels.group_packing import pack_groups

        rows = pack_groups([groups[0].prompt], [[groups[0].completions[0].ids]], [None], 0)
        return float(policy.completion_logprobs(rows)[0].sum().detach())

    before = likelihood()
    fit(grpo, max_steps=3)
    assert likelihood() > before + 1


def test_without_the_callback_the_sentence_names_it():
    with pytest.raises(UserError, match=r"add fgvr\.callbacks\.RolloutGeneration to trainer\.callbacks"):
        fit(module(), callbacks=[])


def test_what_cannot_be_learned_from_is_refused_at_once():
    with pytest.raises(UserError, match="group_size must be at least 2, got 1"):
        module(sampling=Sampling(group_size=1))
    with pytest.raises(UserError, match="component of the reward, \\['exact', 'format'\\], got 'judge'"):
        module(group_filter=GroupFilter(score="judge"))
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        module(updates=0)


def test_images_that_are_not_those_of_the_prompt_are_refused():
    class Mixed(Scripted):
        def sample(self, *args: Any) -> Any:
            groups = super().sample(*args)
            return [replace(groups[0], prompt=replace(groups[0].prompt, images=groups[1].prompt.images)), *groups[1:]]

    with pytest.raises(ValueError, match="as many image tokens as the tower gives features"):
        fit(module(), [RolloutGeneration(Mixed(REPLIES))])


def test_a_start_that_cannot_be_read_is_not_trained():
    asked = module()
    assert asked.scores_start
    asked.check_start({})
    asked.check_start({"seen/parse_failures": 0.9, "unseen/parse_failures": 1.0, "seen/exact": 0.0})
    with pytest.raises(UserError, match=r"seen/parse_failures 1\.000, unseen/parse_failures 0\.970") as refused:
        asked.check_start({"seen/parse_failures": 1.0, "unseen/parse_failures": 0.97})
    for remedy in (
        "leave data.init_args.task out",
        "max_new_tokens",
        "fgvr.modules.SFT first",
        "max_start_failures to 1.0",
    ):
        assert remedy in str(refused.value)
    module(max_start_failures=1.0).check_start({"seen/parse_failures": 1.0})
