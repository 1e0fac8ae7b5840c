from __future__ import annotations

import pytest
from conftest import tiny_backbone

from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.modules import DiVEk
from fgvr.modules.divek import guess_figures
from fgvr.rewards import Exact, Term

POLICY = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84))


def test_its_reward_is_a_right_choice_and_a_well_formed_reply():
    module = DiVEk(POLICY, format_weight=0.5, terms={"exact": Term(Exact(), 0.0)})
    assert {name: term.weight for name, term in module.reward.terms.items()} == {
        "choice": 1.0, "format": 0.5, "exact": 0.0,
    }  # fmt: skip
    for name in ("choice", "format"):
        with pytest.raises(UserError, match="give the further reward another name"):
            DiVEk(POLICY, terms={name: Term(Exact())})


def test_the_guess_floor_is_the_mean_of_one_over_m():
    # half of the questions show two options, a quarter three, a quarter five: 1/4 + 1/12 + 1/20
    figures = {"options/2": 0.5, "options/3": 0.25, "options/5": 0.25, "rewards/choice/mean": 0.8, "reward": 1.0}
    floor = 1 / 4 + 1 / 12 + 1 / 20
    found = guess_figures(figures)
    assert found["choice/guess_floor"] == pytest.approx(floor)
    assert found["choice/above_guess"] == pytest.approx((0.8 - floor) / (1 - floor))
    assert guess_figures({"reward": 1.0}) == {}
    # a guess of "none of these" earns .2 in the nine of ten questions that show the label
    passed_over = guess_figures(figures | {"label/shown": 0.9, "label/left_out": 0.1}, none_of_these=0.2)
    assert passed_over["choice/guess_floor"] == pytest.approx(floor * (1 + 0.9 * 0.2))
