"""The formula of docs/runs.md: by hand, against simulated kills, and as the page prints it."""

from __future__ import annotations

import importlib
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("goodput")


def test_by_hand(bench: Any):
    # r = 1/100; a save after 9 s of work and a stall of 1 s: e^(-.02) / (e^.1 - 1) = .980199 / .105171 = 9.320063 saves
    # a life, each of 9 s; a life and the restart before it take 100 e^.03 = 103.045453: 83.880571 / 103.045453
    assert bench.goodput(bench.Costs(stall=1, lag=2, restart=3), 9, 100) == pytest.approx(0.814015, abs=1e-6)
    # without a lag it is Daly's: 100 e^.03 (e^.1 - 1) = 10.837386 s for 9 of work
    assert bench.goodput(bench.Costs(stall=1, lag=0, restart=3), 9, 100) == pytest.approx(9 / 10.837386, rel=1e-6)


def test_the_intervals_by_hand(bench: Any):
    costs = bench.Costs(stall=2, lag=0, restart=9)
    assert bench.young(costs, 100) == pytest.approx(20.0)  # sqrt(2 x 2 x 100)
    # root = sqrt(2 / 200) = .1: 20 (1 + .1 / 3 + .01 / 9) - 2 = 20.688889 - 2
    assert bench.daly(costs, 100) == pytest.approx(18.688889)


def some_costs(bench: Any, rng: random.Random) -> tuple[Any, float, float]:
    between = 10 ** rng.uniform(1, 4)
    costs = bench.Costs(*(between * 10 ** rng.uniform(-4, -1) for _ in range(3)))
    return costs, between * 10 ** rng.uniform(-2.5, -0.5), between


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_random_kills_leave(bench: Any, seed: int):
    costs, work, between = some_costs(bench, random.Random(seed))
    formula, simulated = bench.goodput(costs, work, between), bench.simulate(costs, work, between, 40_000, seed)
    assert simulated == pytest.approx(formula, abs=0.012)  # the error of a mean of 40,000 lives, five times over


@pytest.mark.parametrize("seed", range(40))
def test_properties(bench: Any, seed: int):
    costs, work, between = some_costs(bench, random.Random(seed))
    share = bench.goodput(costs, work, between)
    assert 0 < share < work / (work + costs.stall)
    for worse in ("stall", "lag", "restart"):
        assert bench.goodput(bench.replace(costs, **{worse: getattr(costs, worse) * 2}), work, between) < share
    assert bench.goodput(costs, work, between * 2) > share
    # only the proportions count
    scaled = bench.Costs(7 * costs.stall, 7 * costs.lag, 7 * costs.restart)
    assert bench.goodput(scaled, 7 * work, 7 * between) == pytest.approx(share)
    # without kills nothing but the stalls is lost
    assert bench.goodput(costs, work, 1e12) == pytest.approx(work / (work + costs.stall), rel=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_is_the_best_one(bench: Any, seed: int):
    costs, _, between = some_costs(bench, random.Random(seed))
    best = max(bench.goodput(costs, between * 10 ** (k / 200), between) for k in range(-700, 100))
    assert bench.goodput(costs, bench.daly(costs, between), between) == pytest.approx(best, rel=1e-4)
    assert math.isclose(bench.goodput(costs, bench.young(costs, between), between), best, rel_tol=2e-2)


def test_a_large_run_saved_in_the_background_trains_for_97_percent_of_its_time(bench: Any):
    costs = bench.LARGE[1].costs(background=True)
    assert bench.goodput(costs, bench.daly(costs, 7200), 7200) >= 0.97


def test_the_page_has_the_table_that_the_benchmark_prints(bench: Any):
    page = (ROOT / "docs" / "runs.md").read_text()
    rows = re.findall(r"^\| (7B.*) \|$", page, flags=re.MULTILINE)
    columns = [list(column.cells) for column in bench.paper().columns]
    assert rows == [" | ".join(str(cell) for cell in row) for row in zip(*columns, strict=True)]
