import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_answers import BINS, answered

from fgvr.errors import UserError
from fgvr.metrics import SPECIFICITY_WEIGHTS, DatasetCounts

ANSWERS = st.lists(st.tuples(st.sampled_from(["cub", "cars", "pets"]), st.sampled_from(BINS)), max_size=30)


def rows_of(answers: list[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    counts = DatasetCounts()
    counts.update([answered(value, dataset) for dataset, value in answers])
    return counts.rows()


def figures_of(rows: list[tuple[str, list[int]]]) -> dict[str, float]:
    return DatasetCounts.figures(rows, SPECIFICITY_WEIGHTS)


def test_macro_figures_by_hand() -> None:
    answers = [("cub", value) for value in (4, 4, 3, 0)] + [("cars", value) for value in (2, -1)]
    figures = figures_of(rows_of(answers))
    # cub: c = 3/4, s = (1 + 1 + 2/3) / 3 = 8/9, hm = 2 * 3/4 * 8/9 / (59/36) = 48/59
    # cars: c = 1/2, s = 1/3, hm = 2 * 1/2 * 1/3 / (5/6) = 2/5
    expected = {
        "cub/n": 4,
        "cub/correctness": 3 / 4,
        "cub/specificity": 8 / 9,
        "cub/harmonic_mean": 48 / 59,
        "cars/n": 2,
        "cars/correctness": 1 / 2,
        "cars/specificity": 1 / 3,
        "cars/harmonic_mean": 2 / 5,
        "macro_correctness": 5 / 8,  # (3/4 + 1/2) / 2, though cub has more answers
        "macro_specificity": 11 / 18,
        "macro_harmonic_mean": (48 / 59 + 2 / 5) / 2,  # not that of 5/8 and 11/18, which is 0.618
    }
    points = {name: value for name, value in figures.items() if not name.endswith(("_low", "_high"))}
    assert points == pytest.approx(expected)
    assert set(figures) - set(points) == {
        f"{name}_{end}" for name in expected if not name.endswith("/n") for end in ("low", "high")
    }


@pytest.mark.parametrize("answers", [[], [("cub", 4), ("cub", 0)]])
def test_one_dataset_needs_no_figures_of_its_own(answers: list[tuple[str, int]]) -> None:
    assert figures_of(rows_of(answers)) == {}


@given(ANSWERS, ANSWERS)
def test_it_does_not_matter_which_process_counted_what(first: list, second: list) -> None:
    together = figures_of(rows_of(first + second))
    assert figures_of(rows_of(first) + rows_of(second)) == together
    assert figures_of(rows_of(second) + rows_of(first)) == together


@given(ANSWERS)
def test_intervals_are_ranges_and_a_dataset_does_not_move_anothers(answers: list[tuple[str, int]]) -> None:
    figures = figures_of(rows_of(answers))
    for name in figures:
        if name.endswith("_low"):
            assert 0 <= figures[name] <= figures[name.replace("_low", "_high")] <= 1
    more = figures_of(rows_of([*answers, ("zoo", 4)]))
    assert {name: more[name] for name in figures if "/" in name} == {n: v for n, v in figures.items() if "/" in n}


@pytest.mark.parametrize("name", ["best_of", "best_of/2", "sampled"])
def test_a_dataset_called_like_a_figure_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must not be called like a figure"):
        rows_of([(name, 4)])
