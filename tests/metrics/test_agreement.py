import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_answers import BINS

from fgvr.metrics import Agreement

PAIRS = st.lists(st.tuples(st.sampled_from(BINS), st.sampled_from(BINS)), max_size=30)


def agreement(pairs: list[tuple[int, int]]) -> dict[str, float]:
    metric = Agreement()
    metric.update(*torch.tensor(pairs, dtype=torch.long).view(-1, 2).T)
    return metric.compute()


def test_agreement_by_hand() -> None:
    pairs = [(4, 4)] * 4 + [(0, 0)] * 2 + [(3, 4)] * 2 + [(0, 4), (3, 3)] + [(-1, -1), (-2, 4), (4, -2)]
    # 10 that both judged, 7 the same. First: 4 times S, 3 W, 3 S-; second: 7 S, 2 W, 1 S-.
    # By chance: (4 * 7 + 3 * 2 + 3 * 1) / 100 = 0.37; kappa (0.7 - 0.37) / 0.63 = 11/21.
    assert agreement(pairs) == pytest.approx({"agreement": 0.7, "kappa": 11 / 21, "agreement_n": 10})


@pytest.mark.parametrize(
    ("pairs", "figures"),
    [
        ([], (0, 0, 0)),
        ([(-1, -1), (-2, 3)], (0, 0, 0)),
        ([(4, 4)] * 3, (1, 0, 3)),  # one verdict throughout: chance would agree as well, kappa is undefined
        ([(4, 0)] * 3, (0, 0, 3)),
        ([(4, 4), (0, 0)], (1, 1, 2)),
        ([(4, 0), (0, 4)], (0, -1, 2)),
    ],
)
def test_the_ends_of_the_range(pairs: list[tuple[int, int]], figures: tuple[float, float, float]) -> None:
    assert tuple(agreement(pairs).values()) == figures


@given(PAIRS)
def test_it_does_not_matter_which_judge_is_first(pairs: list[tuple[int, int]]) -> None:
    figures = agreement(pairs)
    assert figures == agreement([(second, first) for first, second in pairs])
    assert -1 <= figures["kappa"] <= figures["agreement"] <= 1
    both = [(first, second) for first, second in pairs if min(first, second) >= 0]
    assert figures["agreement"] * len(both) == pytest.approx(sum(first == second for first, second in both))
