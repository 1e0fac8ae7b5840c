import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_answers import BINS

from fgvr.metrics import UNJUDGED, BestOfN, VerdictHistogram

NAMES = ("correctness", "specificity", "harmonic_mean")


def best_of(photos: list[list[int]]) -> dict[str, float]:
    metric = BestOfN(len(photos[0]))
    for photo in photos:
        metric.update(torch.tensor([photo]))
    return metric.compute()


def figures_at(figures: dict[str, float], k: int) -> list[float]:
    return [figures[f"best_of/{k}/{name}"] for name in NAMES]


@st.composite
def sampled(draw: st.DrawFn) -> list[list[int]]:
    n = draw(st.integers(1, 6))
    return draw(st.lists(st.lists(st.sampled_from(BINS), min_size=n, max_size=n), min_size=1, max_size=5))


def test_best_of_two_out_of_four_by_hand() -> None:
    figures = best_of([[4, 0, 0, 0], [3, 2, 1, -1]])
    # k = 1. First photo: S with 1/4. Second: S- and G with 1/4 each. Expected correct: 3/4 of 2 photos: 3/8.
    # Weight 1/4 * 1 + 1/4 * 2/3 + 1/4 * 1/3 = 1/2, over 3/4 correct: 2/3. 2 * 3/8 * 2/3 / (25/24) = 12/25.
    assert figures_at(figures, 1) == pytest.approx([3 / 8, 2 / 3, 12 / 25])
    # k = 2. Of the 6 pairs, S is in 3: 1/2. S- is in 3: 1/2; G without S- in 2: 1/3. Correct: (1/2 + 5/6) / 2 = 2/3.
    # Weight 1/2 + 1/2 * 2/3 + 1/3 * 1/3 = 17/18, over 4/3: 17/24. Harmonic mean 2 * 2/3 * 17/24 / (33/24) = 68/99.
    assert figures_at(figures, 2) == pytest.approx([2 / 3, 17 / 24, 68 / 99])
    # k = 4: the best of each, S and S-: all correct, (1 + 2/3) / 2.
    assert figures_at(figures, 4) == pytest.approx([1, 5 / 6, 10 / 11])
    # of all eight answers: W 3, one each of S, S-, G, A and a reply that did not parse
    shares = {name.removeprefix("sampled/"): value for name, value in figures.items() if name.startswith("sampled/")}
    assert shares.pop("wrong") == pytest.approx(3 / 8)
    assert (shares.pop("unjudged"), shares.pop("more_specific")) == (0, 0)
    assert list(shares.values()) == pytest.approx([1 / 8] * 5)


@given(sampled())
@settings(max_examples=40)
def test_it_is_the_mean_over_all_choices_of_k(photos: list[list[int]]) -> None:
    """The slow twin chooses k of the n in every way, and takes the best of each choice."""
    figures, n = best_of(photos), len(photos[0])
    for k in {1, 2, 4, n} & set(range(1, n + 1)):
        bests = [max(choice) for photo in photos for choice in itertools.combinations(photo, k)]
        histogram = VerdictHistogram()  # every photo has as many choices, so all weigh the same
        histogram.update(torch.tensor(bests))
        expected = histogram.compute()
        assert figures_at(figures, k) == pytest.approx([expected[name] for name in NAMES])


@given(sampled())
@settings(max_examples=60)
def test_correctness_never_falls_with_more_to_choose_from(photos: list[list[int]]) -> None:
    figures = best_of(photos)
    ks = sorted(int(name.split("/")[1]) for name in figures if name.endswith("/correctness"))
    values = [figures[f"best_of/{k}/correctness"] for k in ks]
    assert all(more >= less - 1e-12 for less, more in itertools.pairwise(values))
    assert ks[0] == 1
    assert ks[-1] == len(photos[0])
    assert sum(value for name, value in figures.items() if name.startswith("sampled/")) == pytest.approx(1)


@given(sampled(), st.randoms())
@settings(max_examples=40)
def test_neither_the_order_of_answers_nor_that_of_photos_matters(photos: list[list[int]], rng) -> None:
    mixed = [rng.sample(photo, len(photo)) for photo in rng.sample(photos, len(photos))]
    assert best_of(mixed) == best_of(photos)


def test_the_worst_is_what_has_no_verdict_and_then_what_did_not_parse() -> None:
    figures = best_of([[UNJUDGED, -1], [-1, 0]])
    assert figures["best_of/2/correctness"] == 0
    assert (figures["sampled/unjudged"], figures["sampled/parse_failures"]) == (0.25, 0.5)
    metric = BestOfN(2)
    metric.update(torch.tensor([[UNJUDGED, -1], [-1, 0]]))
    assert metric._best(2) == [0, 1, 1, 0, 0, 0, 0, 0]


def test_large_binomials_are_exact() -> None:
    # the best of 32 out of 64 answers with one S among them has it with probability 1/2: C(63, 31) of C(64, 32)
    figures = best_of([[4] + [0] * 63])
    assert figures["best_of/32/correctness"] == 0.5
    assert figures["best_of/64/correctness"] == 1


def test_no_photos_and_too_few_answers() -> None:
    metric = BestOfN(3)
    metric.update(torch.zeros(0, 3, dtype=torch.long))
    assert set(metric.compute().values()) == {0.0}
    with pytest.raises(ValueError, match="at least 1"):
        BestOfN(0)
