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
