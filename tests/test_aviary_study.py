"""What a study says of its runs' figures."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def aviary_study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("aviary_study")


def test_an_interval_is_student_s(aviary_study):
    # mean 2, deviation 1; 4.303 / sqrt(3) = 2.484
    assert aviary_study.interval([1.0, 2.0, 3.0]) == "2.000 ± 2.484"
    assert aviary_study.interval([0.5, 0.5], sign="+") == "+0.500 ± 0.000"


def test_arms_are_compared_with_the_first_seed_by_seed(aviary_study, tmp_path):
    runs = {}
    for arm, gains in {"dapo": (0.0, 0.0), "tapo": (0.1, 0.1)}.items():
        runs[arm] = [aviary_study.Run(arm, seed, (), tmp_path / arm / str(seed)) for seed in (0, 1)]
        for run, gain, base in zip(runs[arm], gains, (0.2, 0.4), strict=True):
            run.folder.mkdir(parents=True)
            figures = {"novel/exact": base + gain, "start/novel/exact": 0.75, "seconds": 90.0}
            (run.folder / "final_metrics.json").write_text(json.dumps(figures))
            if arm == "tapo":
                with SummaryWriter(run.folder / "tensorboard") as writer:
                    for step in range(30):
                        writer.add_scalar("divergence", float(step >= 15), step)
    start, dapo, tapo = aviary_study.table(runs, ["novel/exact"], ["divergence"]).splitlines()[2:]
    assert start == "| start | 0.750 |  |  |"
    # 0.2 and 0.4: deviation 0.1414, 12.706 * 0.1414 / sqrt(2) = 1.271
    assert dapo == "| dapo | 0.300 ± 1.271 | - | 90 |"
    # the same seeds gain 0.1 each: the difference is certain where the values are not
    assert tapo == "| tapo | 0.400 ± 1.271 (+0.100 ± 0.000) | 0.0000 to 1.0000 | 90 |"


def test_a_single_seed_has_no_interval(aviary_study, tmp_path):
    with pytest.raises(SystemExit, match="an interval needs 2 to 10 seeds, got 1"):
        aviary_study.study({"dapo": []}, tmp_path, seeds=1)


def test_a_run_that_ended_is_kept_and_one_that_fails_names_its_log(aviary_study, tmp_path):
    run = aviary_study.Run("dapo", 0, (tmp_path / "none.yaml",), tmp_path / "dapo/0")
    with pytest.raises(SystemExit, match=r"dapo with seed 0 ended with \d+: see .*dapo/0.log"):
        run.finish()
    (run.folder / "final_metrics.json").write_text("{}")
    run.finish()


def test_an_arm_starts_from_the_run_of_another_with_its_seed(aviary_study, monkeypatch, tmp_path):
    began: list[tuple[str, int, Path | None]] = []

    def finish(run):
        assert run.start is None or (run.start / "final_metrics.json").exists()
        began.append((run.arm, run.seed, run.start))
        run.folder.mkdir(parents=True)
        figures = {"seen/exact": 0.5 + 0.1 * run.seed, "seen/length": 12.0, "seen/n": 4.0, "seconds": 1.0}
        (run.folder / "final_metrics.json").write_text(json.dumps(figures))

    monkeypatch.setattr(aviary_study.Run, "finish", finish)
    arms = {"after": [tmp_path / "a.yaml"], "first": [tmp_path / "b.yaml"]}
    aviary_study.study(arms, tmp_path, seeds=2, figures=["seen/exact"], after={"after": "first"})
    assert sorted(began) == [
        *(("after", seed, tmp_path / "first" / str(seed)) for seed in (0, 1)),
        *(("first", seed, None) for seed in (0, 1)),
    ]
    assert "| first | 0.550 ± 0.635 (+0.000 ± 0.000) | 1 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table.png").is_file()


def test_an_arm_stands_behind_the_one_that_it_starts_from_however_far_that_goes(
    aviary_study: ModuleType, tmp_path: Path
) -> None:
    assert aviary_study.in_order(["c", "b", "a", "d"], {"c": "b", "b": "a"}) == ["a", "d", "b", "c"]
    with pytest.raises(SystemExit, match="in a circle, as a, b do"):
        aviary_study.in_order(["a", "b", "c"], {"a": "b", "b": "a"})
    with pytest.raises(SystemExit, match="after must name arms of the study, a, got z"):
        aviary_study.study({"a": []}, tmp_path, after={"a": "z"})
