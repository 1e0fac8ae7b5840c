"""A judge's server in a thread, well again for each test, and judges that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked_judges import Make
from judge_server import JudgeServer, Script

from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.server import Server


@pytest.fixture(scope="module")
def served() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


@pytest.fixture
def server(served: JudgeServer) -> JudgeServer:
    served.behaviour.script = Script()
    for counts in (served.behaviour.counts, served.behaviour.pairs, served.behaviour.spoilt):
        counts.clear()
    return served


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes judges that are closed at the end."""
    made: list[LLMJudge] = []

    def judge(server: JudgeServer, model: str = "judge", file: str = "cache.sqlite", **options: Any) -> LLMJudge:
        settings = {"url": server.url, "timeout": 1.0, "attempts": 4, "patience": 20.0}
        for name in list(options):
            if name in Server.__dataclass_fields__:
                settings[name] = options.pop(name)
        made.append(LLMJudge(model, Server(**settings), cache=SQLiteCache(tmp_path / file), **options))
        return made[-1]

    yield judge
    for each in made:
        each.release()
