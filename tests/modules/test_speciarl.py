from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from prompted import Watched, fit
from scripted import LOOSE, RIGHT, TAXONOMY, WRONG, Scripted

from fgvr.callbacks import RolloutGeneration
from fgvr.errors import UserError
from fgvr.judges import Judge, TaxonomyJudge, Unjudged
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import GRPO, Optimizer, SpeciaRL
from fgvr.objectives import KL
from fgvr.rewards import Exact, Format, Specificity, SpecificityReward, Term, WeightedSum

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
FAMILY, NOTHING = "<answer>Finch</answer>", "<answer>None</answer>"
REPLIES = {
    "u0": [RIGHT, WRONG, LOOSE, FAMILY],
    "u1": [WRONG, WRONG, LOOSE, WRONG],
    "u2": [FAMILY, FAMILY, NOTHING, "…"],
    "u3": [NOTHING, NOTHING, WRONG, "an owl…"],
    "u4": [RIGHT, "<answer>Amber Finch</answer>", LOOSE, LOOSE],
}
ALIKE = {uid: [FAMILY] * 4 for uid in REPLIES}


class WatchedSpeciaRL(SpeciaRL, Watched):
    """Keeps what is logged."""


def settings(**options: Any) -> dict[str, Any]:
    return {
        "sampling": Sampling(group_size=4, max_new_tokens=24),
        "optimizer": Optimizer(lr=1e-3, schedule="constant", eps=1e-3),
        "kl": KL(coefficient=0.05),
    } | options


def config() -> PolicyConfig:
    return PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))


def trained(module: Any, replies: Any = None) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    weights = fit(module, [RolloutGeneration(Scripted(replies or REPLIES))])
    return weights, [{k: v for k, v in row.items() if not k.startswith("time/")} for row in module.logged]


@pytest.mark.parametrize("specificity", [Specificity(), Specificity(rule="scala1", unparsable="minus_one")])
def test_it_is_grpo_with_the_specificity_reward(specificity: Specificity):
    judge = TaxonomyJudge()
    one, logged = trained(WatchedSpeciaRL(config(), judge, specificity, **settings()))
    reward = SpecificityReward(judge, specificity)
    as_term = WeightedSum({"specificity": Term(SpecificityReward(judge, specificity))})
    for given in (reward, as_term):
        other, same = trained(Watched(config(), given, **settings()))  # pyright: ignore[reportArgumentType]
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert logged == same
    assert len(logged) == 3
    assert "rewards/specificity/mean" in logged[0]


def test_verdicts_and_anchors_are_logged_as_shares():
    _, (first, *_) = trained(WatchedSpeciaRL(config(), TaxonomyJudge(), **settings()))
    # of 20 replies: 2 right, 3 of the family, 6 wrong (the Amber Finch too), 3 nothing, 6 that do not parse
    shares = {name: value for name, value in first.items() if name.startswith("verdicts/")}
    assert shares == pytest.approx(
        {
            "verdicts/specific": 0.1, "verdicts/less_specific": 0.15, "verdicts/wrong": 0.3,
            "verdicts/abstain": 0.15, "verdicts/parse_failures": 0.3, "verdicts/generic": 0,
            "verdicts/more_specific": 0,
        }
    )  # fmt: skip
    # the five groups' best: specific twice, less specific, abstain, and one where all are wrong
    anchors = {name: value for name, value in first.items() if name.startswith("anchors/")}
    assert anchors == pytest.approx(
        {
            "anchors/specific": 0.4, "anchors/less_specific": 0.2, "anchors/generic": 0, "anchors/abstain": 0.2,
            "anchors/wrong": 0.2,
        }
    )  # fmt: skip


class Moved(WatchedSpeciaRL):
    """Begins away from its reference, so that the KL has something to pull at."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        with torch.no_grad():
            for _, weight in self.trained_policy.trainable():
                weight.mul_(1.3)
        self.begun = {name: value.clone() for name, value in self.state_dict().items()}


def test_groups_all_alike_teach_nothing_but_what_the_kl_asks():
    free = Moved(config(), TaxonomyJudge(), **settings(kl=None))
    still, logged = trained(free, ALIKE)
    assert all(torch.equal(free.begun[name], still[name]) for name in still)
    assert logged[0]["frac_reward_zero_std"] == 1
    slow = Optimizer(lr=1e-4, schedule="constant")
    held = Moved(config(), TaxonomyJudge(), **settings(kl=KL(coefficient=1.0), optimizer=slow))
    pulled, logged = trained(held, ALIKE)
    assert any(not torch.equal(held.begun[name], pulled[name]) for name in pulled)
    assert logged[0]["rewards/specificity/std"] == 0
    assert logged[-1]["kl"] < logged[0]["kl"]


class Failing(Judge):
    """Cannot say anything of the samples it is given."""

    def __init__(self, lost: int):
        self.lost = lost

    def verdicts(self, pairs):
        return [Unjudged("no answer") if n < self.lost else found for n, found in enumerate(self._of(pairs))]

    def _of(self, pairs):
        return TaxonomyJudge().bind(TAXONOMY).verdicts(pairs)


def test_a_group_that_could_not_be_judged_is_dropped_and_too_many_stop_the_run():
    module = WatchedSpeciaRL(config(), Failing(1), **settings())
    fit(module, [RolloutGeneration(Scripted(REPLIES), max_unscorable=0.2)])
    assert module.logged[0]["rollouts/unscorable"] == 1  # the first answer is of u0
    assert module.logged[0]["rollouts/kept"] == 4
    with pytest.raises(UserError, match="at most 10% of the groups may go without any reward, but 1 of 5 did"):
        fit(WatchedSpeciaRL(config(), Failing(1), **settings()), [RolloutGeneration(Scripted(REPLIES))])


def test_groups_without_a_single_answer_are_no_failure_of_the_judge():
    module = WatchedSpeciaRL(config(), TaxonomyJudge(), **settings())
    fit(module, [RolloutGeneration(Scripted(REPLIES | {"u1": [LOOSE] * 4, "u2": [LOOSE] * 4}))])
    assert module.logged[0]["rollouts/unscorable"] == 0
    assert module.logged[0]["rollouts/kept"] == 5


def test_further_terms_stand_beside_the_judges():
    module = SpeciaRL(config(), TaxonomyJudge(), terms={"format": Term(Format(), 0.0)}, **settings())
    assert list(module.reward.terms) == ["specificity", "format"]
    with pytest.raises(UserError, match="the judge's own"):
        SpeciaRL(config(), TaxonomyJudge(), terms={"specificity": Term(Exact())}, **settings())


def test_a_single_reward_counts_under_its_own_name():
    assert list(GRPO(config(), Exact(), **settings()).reward.terms) == ["exact"]
