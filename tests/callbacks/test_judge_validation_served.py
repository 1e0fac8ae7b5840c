"""A validation whose judge is a model behind a real HTTP server."""

import json
from pathlib import Path

import pytest
from judge_server import JudgeServer, right
from toy_validation import Toy, ToyData, trainer

from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.errors import UserError
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.server import Server
from fgvr.judges.taxonomy import TaxonomyJudge

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
SCREENED = {("Ruby", "Ruby"): "specific", ("Barred", "unknown"): "abstain"}


def validate(folder: Path, url: str, cache: str) -> dict[str, float]:
    judge = LLMJudge("judge", Server(url, timeout=1.0, attempts=2, patience=0.5), cache=SQLiteCache(folder / cache))
    run = trainer(folder, JudgeValidation(judge, second=TaxonomyJudge()))
    run.validate(Toy(), datamodule=ToyData(), verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}


def test_a_servers_verdicts_are_counted_cached_and_missed_when_it_is_gone(tmp_path: Path) -> None:
    with JudgeServer() as server:
        first = validate(tmp_path, server.url, "a.sqlite")
        rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
        asked = [row for row in rows if row["answer"] is not None]
        assert len(asked) == 5
        for row in asked:
            pair = row["label"], row["answer"]
            assert row["verdict"] == SCREENED.get(pair, right(*pair)), pair
            if pair not in SCREENED:
                assert sum(row["distribution"].values()) == pytest.approx(1)
        assert (first["seen/n"], first["seen/unjudged"], first["validation_judge/pairs"]) == (4, 0, 5)
        assert (first["validation_judge/cached"], first["validation_judge/screened"]) == (0, 2)
        again = validate(tmp_path, server.url, "a.sqlite")
        assert again["validation_judge/cached"] == 3
        alike = {name for name in first if not name.startswith("validation_judge/")}
        assert {name: again[name] for name in alike} == {name: first[name] for name in alike}
        before = (tmp_path / "answers.jsonl").read_bytes()
    with pytest.raises(UserError):
        validate(tmp_path, server.url, "b.sqlite")
    assert (tmp_path / "answers.jsonl").read_bytes() == before
