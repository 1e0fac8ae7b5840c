from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import TensorBoardLogger

from fgvr.report.curves import Curve, read_curves


def test_a_thinned_curve_has_the_mean_of_each_stretch_at_its_last_step():
    # 5 points, 2 at the most: stretches of ceil(5 / 2) = 3: (1 + 2 + 6) / 3 = 3 at step 30, (4 + 8) / 2 = 6 at step 50
    curve = Curve([10, 20, 30, 40, 50], [1, 2, 6, 4, 8])
    assert curve.thinned(2) == Curve([30, 50], [3.0, 6.0])
    assert curve.thinned(5) is curve


def test_a_smoothed_curve_is_the_mean_of_the_last_points():
    # over 2: 1; (1 + 3) / 2 = 2; (3 + 8) / 2 = 5.5; (8 + 0) / 2 = 4
    assert Curve([1, 2, 3, 4], [1, 3, 8, 0]).smoothed(2).values == [1.0, 2.0, 5.5, 4.0]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.integers(1, 60))
def test_no_curve_leaves_its_range_or_its_last_step(values: list[float], most: int):
    curve = Curve(list(range(len(values))), values)
    for drawn in (curve.thinned(most), curve.smoothed(most)):
        assert drawn.steps[-1] == curve.steps[-1]
        assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for value in drawn.values)
    assert len(curve.thinned(most).steps) <= most


def test_what_a_run_did_again_is_drawn_once_and_no_number_not_at_all(tmp_path: Path):
    first = TensorBoardLogger(tmp_path, name="", version="")
    for step in (1, 2, 3):
        first.log_metrics({"reward": float(step), "gone": float("nan")}, step)
    first.finalize("success")
    again = TensorBoardLogger(tmp_path, name="", version="", purge_step=3)
    again.log_metrics({"reward": 9.0}, 3)
    again.finalize("success")
    assert read_curves(tmp_path) == {"reward": Curve([1, 2, 3], [1.0, 2.0, 9.0])}


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_without_event_files_there_are_no_curves(tmp_path: Path, name: str):
    assert read_curves(tmp_path / name) == {}
