from __future__ import annotations

import json
from typing import Any

import pytest
from toy_birds import BIRDS

from fgvr.metrics.ladder import Asked
from fgvr.options.sweep import Cell
from fgvr.report.curves import Curve
from fgvr.report.evaluation_plots import LARGEST, best_of_plot, risk_plot, sweep_plot, tree_plot, verdicts_plot
from fgvr.report.judged import Node, accuracies
from fgvr.report.training_plots import REST, phases_plot, training_plots


def traces(plot: Any) -> list[dict[str, Any]]:
    return list(json.loads(plot.as_json())["data"])


def test_the_phases_of_a_step_are_stacked_up_to_all_of_it():
    steps = [1, 2]
    curves = {
        "time/sample": Curve(steps, [2.0, 4.0]),
        "time/update": Curve(steps, [3.0, 3.0]),
        "time/score_hidden": Curve(steps, [1.0, 1.0]),
        "time/option_refresh": Curve([2][:0] or [2], [60.0]),
        "step_time": Curve([1, 2, 3, 4], [6.0, 9.0, 1.0, 1.0]),
    }
    plot = phases_plot("", curves)
    assert plot is not None
    bars = {bar["name"]: bar["y"] for bar in traces(plot)}
    assert bars["sample"] == [2.0, 4.0]
    assert bars[REST] == [1.0, 2.0, 1.0, 1.0]  # 6 - 5, 9 - 7, and steps whose phases nobody timed
    assert "score_hidden" not in bars, "it passes while others are sampled"
    assert "Not in it, as it comes seldom: option_refresh." in plot.note
    assert phases_plot("", {"step_time": Curve([1], [1.0])}) is None


def test_a_curve_of_many_points_is_drawn_as_its_running_mean():
    few, many = ({"kl": Curve(list(range(n)), [0.0] * n)} for n in (10, 100))
    assert len(traces(training_plots({"a": few})[0])) == 1
    plot = training_plots({"a": many})[0]
    assert (plot.title, len(traces(plot))) == ("KL", 2)
    assert "running mean over 4 points" in plot.note  # 100 / 25


def test_runs_side_by_side_have_a_dash_each_and_a_figure_its_colour():
    curves = {"rewards/exact/mean": Curve([1, 2], [0, 1]), "reward": Curve([1, 2], [0, 2])}
    (plot,) = training_plots({"a": curves, "b": curves})
    drawn = {trace["name"]: trace["line"] for trace in traces(plot)}
    assert set(drawn) == {"reward, a", "exact, a", "reward, b", "exact, b"}
    assert drawn["reward, a"]["color"] == drawn["reward, b"]["color"] != drawn["exact, a"]["color"]
    assert drawn["reward, a"]["dash"] != drawn["reward, b"]["dash"]


def test_a_tree_is_coloured_by_accuracy_and_its_parents_hold_their_children():
    rows = [
        {"label": "Red Finch", "node": "Red Finch", "verdict": "specific", "answer": "", "uid": "", "cohort": ""},
        {"label": "Plain Wren", "node": "Finches", "verdict": "wrong", "answer": "", "uid": "", "cohort": ""},
    ]
    (tree,) = traces(tree_plot(accuracies(rows, BIRDS), "x"))
    at = {name: place for place, name in enumerate(tree["ids"])}
    assert tree["values"][at["bird"]] == 2
    assert tree["marker"]["colors"][at["Finches"]] == 1.0
    assert tree["marker"]["colors"][at["Wrens"]] == 0.0
    assert tree["parents"][at["bird"]] == ""
    with pytest.raises(ValueError, match="a tree needs names"):
        tree_plot([], "x")


def test_a_tree_of_too_many_names_ends_above_its_finest_rank():
    nodes = [Node("life", "", "", LARGEST, 0, 0), Node("birds", "life", "class", LARGEST, 0, 0)]
    plot = tree_plot([*nodes, *(Node(str(n), "birds", "species", 1, 0, 0) for n in range(LARGEST))], "x")
    assert traces(plot)[0]["ids"] == ["life", "birds"]
    assert f"{LARGEST:,} names of the finest ranks are left out" in plot.note


def asked(right: bool, confidence: float) -> Asked:
    return Asked("birds", right, right, right, True, "choice", "asked", 0.1, confidence, 1, 2, 3)


def test_risk_falls_with_coverage_where_confidence_is_worth_something():
    plot = risk_plot({"seen": [asked(True, 0.9), asked(False, 0.1)]})
    (line,) = traces(plot)
    # half the photos are right and the most confident ones: no risk up to there, and 1 - .5 / 1 at the end
    assert [line["y"][place] for place in (0, 24, 49)] == [0.0, 0.0, 0.5]
    assert (line["x"][24], line["x"][49]) == (0.5, 1.0)


def test_a_sweep_is_a_field_of_recalls():
    cells = [Cell(k, m, k * m / 10, 0.0, 1.0, 0.1, 1.0, 10.0) for k in (1, 2) for m in (1, 2)]
    (field,) = traces(sweep_plot("x", cells[:-1]))
    assert field["z"] == [[0.1, 0.2], [0.2, None]]
    assert (field["x"], field["y"], field["text"][0]) == (["1", "2"], ["1", "2"], ["0.10", "0.20"])


def test_verdicts_stand_worst_first_and_what_never_happened_is_left_out():
    figures = {"seen/n": 4.0, "seen/specific": 0.75, "seen/wrong": 0.25, "seen/generic": 0.0}
    plot = verdicts_plot({"at the end": figures})
    assert [bar["name"] for bar in traces(plot)] == ["wrong", "specific"]
    assert verdicts_plot({"x": {}}) is None


def test_the_best_of_several_answers_is_drawn_where_several_were_sampled():
    figures = {"seen/n": 4.0, "seen/best_of/1/correctness": 0.5, "seen/best_of/8/correctness": 0.75}
    plot = best_of_plot({"run": figures})
    assert traces(plot)[0]["x"] == [1, 8]
    assert best_of_plot({"run": {"seen/n": 4.0}}) is None
