import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fgvr.callbacks.final_metrics import print_figures, score_start, write_figures
from fgvr.errors import UserError
from fgvr.runs.folder import RunFolder, Start


def test_the_file_is_flat_and_has_no_nan(tmp_path: Path) -> None:
    write_figures(tmp_path / "m.json", {"seen/exact": 0.5, "unseen/exact": math.nan}, step=7, seconds=None)
    read = json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda name: name)
    own = {"fgvr": read["fgvr"], "digest": read["digest"]}
    assert read == {"seen/exact": 0.5, "unseen/exact": None, "step": 7, "seconds": None, **own}


def test_the_table_has_a_column_per_cohort() -> None:
    console = Console(width=60, record=True)
    print_figures({"seen/exact": 0.7, "unseen/exact": 0.25, "seen/n": 384.0, "loss": math.inf}, "run", console)
    assert cells(console) == [
        ["exact", "", "0.7000", "0.2500"],
        ["n", "", "384", ""],
        ["loss", "none", "", ""],
    ]


def test_what_the_run_began_with_stands_beside_what_it_ends_with() -> None:
    console = Console(width=80, record=True)
    began = {"start/seen/exact": 0.5, "start/unseen/exact": None, "start/seen/none": 0.25, "start/data/seen/bad": 3.0}
    print_figures({**began, "seen/exact": 0.75, "seen/none": 0.0, "unseen/exact": 0.25, "all": 2.0}, "run", console)
    assert heads(console) == ["figure", "value", "seen start", "seen", "unseen start", "unseen"]
    assert cells(console) == [
        ["exact", "", "0.5000", "0.7500", "none", "0.2500"],
        ["none", "", "0.2500", "0.0000", "", ""],
        ["all", "2", "", "", "", ""],
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    return folder


def test_a_start_is_scored_until_the_run_has_a_checkpoint_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    values = iter([0.1, 0.2, 0.3])

    def evaluate() -> dict[str, float]:
        return {"seen/exact": next(values), "seen/none": math.nan}

    for start, expected in (
        (Start(), 0.1),
        (Start(), 0.2),  # stopped before its first checkpoint: perhaps with another start
        (Start(tmp_path / "other/checkpoints/step-00000009.ckpt"), 0.3),
        (Start(run.checkpoints / "step-00000004.ckpt"), 0.3),
    ):
        assert score_start(run, start, True, evaluate) == {"start/seen/exact": expected, "start/seen/none": None}


def test_a_start_that_is_not_known_is_said_and_no_other_is_put_in_its_place(run: RunFolder, caplog: Any) -> None:
    own = Start(run.checkpoints / "step-00000004.ckpt")
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        assert score_start(run, own, True, dict) == {}
    assert "has checkpoints but no start_metrics.json" in caplog.text
    assert not (run.dir / "start_metrics.json").exists()


def test_a_start_without_validation_leaves_no_figures_of_an_earlier_one(run: RunFolder) -> None:
    (run.dir / "start_metrics.json").write_text('{"seen/exact": 1, "fgvr": "0"}')
    assert score_start(run, Start(), True, dict) == {}
    assert not (run.dir / "start_metrics.json").exists()


def test_a_damaged_start_is_named(run: RunFolder) -> None:
    (run.dir / "start_metrics.json").write_text('{"seen/ex')
    with pytest.raises(UserError, match=r"start_metrics.json must be readable JSON.*remove it"):
        score_start(run, Start(run.checkpoints / "step-00000004.ckpt"), True, dict)


def test_the_table_begins_with_what_matters_and_leaves_out_what_says_nothing() -> None:
    console = Console(width=60, record=True)
    figures = {"seen/unread": 0.0, "seen/none": math.nan, "seen/n": 8.0, "seen/genus": 0.5, "seen/family": 1.0}
    print_figures(figures | {"seen/exact": 0.0, "data/seen/quarantined": 3.0}, "run", console)
    assert cells(console) == [["exact", "0.0000"], ["family", "1.0000"], ["genus", "0.5000"], ["n", "8"]]


def test_an_interval_stands_in_the_cell_of_its_figure() -> None:
    console = Console(width=100, record=True)
    figures = {"seen/correctness_low": 0.934, "seen/correctness_high": 0.97, "seen/correctness": 0.9512}
    began = {f"start/{name}": value / 2 for name, value in figures.items()}
    lone = {"unseen/correctness": 0.5, "unseen/odd_low": 0.25, "unseen/odd_high": None}
    print_figures(began | figures | lone, "run", console)
    assert heads(console) == ["figure", "seen start", "seen", "unseen"]
    assert cells(console) == [
        ["odd_low", "", "", "0.2500"],  # the end of no interval
        ["correctness", "0.4756", "0.9512 (0.93-0.97)", "0.5000"],
    ]


def test_intervals_give_way_where_the_table_would_be_too_wide() -> None:
    figures = {f"{cohort}/correctness": 0.5 for cohort in ("seen", "unseen", "novel")}
    figures |= {f"{name}_{end}": value for name in [*figures] for end, value in (("low", 0.25), ("high", 0.75))}
    for width, cell in ((90, "0.5000 (0.25-0.75)"), (60, "0.5000")):
        console = Console(width=width, record=True, force_terminal=True)
        print_figures(figures, "run", console)
        assert cells(console) == [["correctness", cell, cell, cell]]


def test_rows_are_in_the_order_in_which_they_are_read() -> None:
    rows = [
        *("exact", "genus", "variant", "correctness", "validation_reward", "macro_correctness", "n", "specific"),
        *(
            "wrong",
            "unjudged",
            "kappa",
            "cub200/correctness",
            "a/b/n",
            "best_of/1/correctness",
            "best_of/2/correctness",
        ),
        *("best_of/16/correctness", "sampled/wrong"),
    ]
    named = [*(f"seen/{row}" for row in rows), "judge/requests", "all"]
    for order in (named, named[::-1]):
        console = Console(width=100, record=True)
        print_figures(dict.fromkeys(order, 0.5), "run", console)
        shown = [row for row, *_ in cells(console)]
        free = {"cub200/correctness", "a/b/n", "judge/requests", "all"}  # equals stay as they came
        assert [row for row in shown if row not in free] == [row for row in rows if row not in free]
        assert set(shown[11:13]) | set(shown[17:]) == free


def heads(console: Console) -> list[str]:
    (line,) = [line for line in console.export_text(clear=False).splitlines() if "figure" in line]
    return [cell.strip() for cell in line.split("┃")[1:-1]]


def cells(console: Console) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    return [row for row in rows if row]
