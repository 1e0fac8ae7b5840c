"""A run's figures as the Hub reads them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.tools.published import MEASURES, Result, model_index, refuse_unpublishable, results_of, write_results

FIGURES = {
    "seen/exact": 0.5,
    "seen/n": 4.0,
    "seen/correctness": 0.75,
    "seen/correctness_low": 0.25,
    "seen/correctness_high": 1.0,
    "seen/wrong": 0.25,
    "start/seen/exact": 0.1,
    "data/seen/quarantined": 0.0,
    "step": 3,
    "digest": "sha256:0",
}


def test_only_measures_of_answers_with_their_intervals():
    found = {one.measure: one for one in results_of(FIGURES, "birds", "val")}
    assert set(found) == {"exact", "correctness"}
    # Wilson, z = 1.96, share 0.5 of 4: z^2 / n = 3.8415 / 4 = 0.9604; middle (0.5 + 0.4802) / 1.9604 = 0.5;
    # half 1.96 sqrt(0.25 / 4 + 0.9604 / 16) / 1.9604 = 1.96 x 0.35001 / 1.9604 = 0.35
    assert found["exact"].interval == (pytest.approx(0.15, abs=1e-3), pytest.approx(0.85, abs=1e-3))
    assert found["correctness"].interval == (0.25, 1.0)
    assert found["correctness"].told() == (
        "correctness, 4 photos of split val, seen classes; 95 % interval 0.2500 to 1.0000"
    )


def test_several_data_sets_each_have_their_own():
    figures = {"seen/exact": 0.5, "seen/cub/exact": 0.4, "seen/cub/n": 10, "seen/cars/exact": 0.6}
    found = results_of(figures, "cub", "test")  # the mean of both is neither's
    assert [(one.dataset, one.value, one.n) for one in found] == [("cars", 0.6, None), ("cub", 0.4, 10)]


def test_the_hub_s_own_reader_reads_the_files(tmp_path: Path):
    date = datetime(2026, 11, 27, 14, 30, 5, tzinfo=timezone(timedelta(hours=1)))
    results = results_of(FIGURES, "My Birds", "val")
    write_results(tmp_path, results, date, "org/birds", "https://example.org/page")
    entries = parse_eval_result_entries(yaml.safe_load((tmp_path / ".eval_results/my_birds_val.yaml").read_text()))
    assert {entry.task_id: entry.value for entry in entries} == {"seen_exact": 0.5, "seen_correctness": 0.75}
    for entry in entries:
        assert (entry.dataset_id, entry.date) == ("org/birds", "2026-11-27T13:30:05Z")
        assert entry.source_url == "https://example.org/page"
        assert "95 % interval" in str(entry.notes)
    write_results(tmp_path / "none", [], date)
    assert not (tmp_path / "none").exists()


def test_the_older_form_is_read_too():
    index = model_index("my_model", results_of(FIGURES, "birds", "val"))
    name, entries = model_index_to_eval_results(index)
    assert name == "my_model"
    assert {(one.dataset_name, one.dataset_config, one.dataset_split) for one in entries} == {("birds", "seen", "val")}
    assert {one.metric_type: one.metric_value for one in entries} == {"exact": 0.5, "correctness": 0.75}
    assert model_index("my_model", []) == []


@given(st.sampled_from(MEASURES), st.integers(1, 500), st.data())
def test_an_interval_holds_its_value(measure: str, n: int, data: st.DataObject):
    value = data.draw(st.integers(0, n)) / n
    (found,) = results_of({f"unseen/{measure}": value, "unseen/n": float(n)}, "birds", "test")
    assert isinstance(found, Result)
    if found.interval is not None:
        assert found.interval[0] <= value <= found.interval[1]


def test_what_the_hub_would_not_know_is_refused():
    refuse_unpublishable(None, None)
    refuse_unpublishable("org/my-set.v2", "https://example.org/my_page")
    for benchmark in ("not an id", "name", "a/b/c", ""):
        with pytest.raises(UserError, match="benchmark must be a data set's id on the Hub, ORG/NAME, got"):
            refuse_unpublishable(benchmark, None)
    for source in ("my page", "example.org", "https://a b"):
        with pytest.raises(UserError, match="source must be the address of a page"):
            refuse_unpublishable(None, source)
