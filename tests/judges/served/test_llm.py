"""The judge as a whole, against a real server that judges by rule."""

import json
import random
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asked_judges import BIRDS, Make, different, lost, wrongly_judged
from jsonargparse import ArgumentParser
from judge_server import JudgeServer, Script, right, wait_until

from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.server import Server
from fgvr.types import Verdict


class TestVerdicts:
    def test_in_order_with_repeats(self, make: Make, server: JudgeServer):
        pairs = different(30) * 3
        random.Random(1).shuffle(pairs)
        judge = make(server)
        found = judge.verdicts(pairs)
        assert [str(entry.verdict) for entry in found if isinstance(entry, Judgement)] == [right(*p) for p in pairs]
        counts = judge.tally()
        assert counts == {
            "judge/pairs": 90,
            "judge/screened": 0,
            "judge/repeats": 60,
            "judge/cached": 0,
            "judge/requests": 1 + 3 + 20 + 30 + 2,  # models, probes, canaries at first, pairs, canaries with them
            "judge/retries": 0,
            "judge/unjudged": 0,
            "judge/canaries": 22,
            "judge/canaries_passed": 0,
        }
        assert judge.tally() == dict.fromkeys(counts, 0)
        assert judge.verdicts([]) == []

    def test_what_needs_no_model_is_not_asked(self, make: Make, server: JudgeServer):
        judge = make(server).bind(BIRDS)
        pairs = [("Ruby Finch", text) for text in ("ruby finch", "Rubra vulgaris", "", "I do not know", "wren or owl")]
        found = judge.verdicts(pairs)
        assert [entry.verdict for entry in found if isinstance(entry, Judgement)] == [4, 4, 1, 1, 0]
        assert judge.tally()["judge/screened"] == 5
        assert not [pair for pair in server.behaviour.pairs if json.loads(pair) in map(list, pairs)]

    @pytest.mark.parametrize("answer", ["Quaddle" * 30, "\u0958" * 150])  # the latter is twice as long in NFC
    def test_a_long_answer_is_wrong_and_not_asked(self, make: Make, server: JudgeServer, answer: str):
        (found,) = make(server).verdicts([("Ruby Finch", answer)])
        assert isinstance(found, Judgement)
        assert found.verdict == Verdict.WRONG
        assert server.behaviour.pairs.total() == server.behaviour.counts["canaries"]

    def test_a_label_that_no_model_could_be_asked_about(self, make: Make, server: JudgeServer):
        judge = make(server)
        for label in ("x" * 201, ""):
            with pytest.raises(UserError, match="a label must be 1 to 200 characters"):
                judge.verdicts([("Ruby Finch", "Ash Finch"), (label, "Ash Finch")])
        assert lost(judge.verdicts([("Ruby Finch", "Ash Finch")])) == 0  # nobody waits for what was given up

    def test_twins_in_the_two_forms_of_an_accent_are_one_question(self, make: Make, server: JudgeServer):
        composed = [("Héron Pourpré", "Aigrette Dorée")]
        decomposed = [(unicodedata.normalize("NFD", a), unicodedata.normalize("NFD", b)) for a, b in composed]
        assert composed != decomposed
        judge = make(server)
        first, second = judge.verdicts(composed + decomposed)
        assert first == second
        assert make(server).verdicts(decomposed) == [first]
        assert server.behaviour.pairs[json.dumps(list(composed[0]))] == 1

    def test_the_distribution_is_kept(self, make: Make, server: JudgeServer):
        for _ in range(2):  # asked, then from the cache
            (found,) = make(server).verdicts([("Ruby Finch", "Crimson Bunting")])
            assert isinstance(found, Judgement)
            shares = found.distribution
            assert shares is not None
            assert max(shares, key=shares.__getitem__) == found.verdict
            assert sum(shares.values()) == pytest.approx(1)

    @pytest.mark.parametrize("obeys", [("structured_outputs",), ("json_schema",), ()])
    def test_any_constraint_will_do(self, make: Make, server: JudgeServer, obeys: tuple[str, ...]):
        server.script.obeys = obeys
        pairs = different(60)
        found = make(server).verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])

    def test_a_server_that_refuses_every_extra_field_will_do(self, make: Make, server: JudgeServer):
        server.script.refuses = ("structured_outputs", "response_format", "chat_template_kwargs", "logprobs")
        pairs = different(60)
        found = make(server).verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        assert all(entry.distribution is None for entry in found if isinstance(entry, Judgement))

    def test_no_more_requests_are_open_than_allowed(self, make: Make, server: JudgeServer):
        server.script.delay = 0.01
        judge = make(server, concurrency=7)
        pairs = different(160)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(judge.verdicts, (pairs[n::8] for n in range(8))))
        assert server.behaviour.counts["peak"] == 7


class TestHint:
    def test_a_bound_judge_tells_what_it_knows_of_the_label(self, make: Make, server: JudgeServer):
        judge = make(server).bind(BIRDS)
        judge.verdicts([("Ruby Finch", "Crimson Bunting")])
        said = server.behaviour.last["body"]["messages"][1]["content"]
        assert '"path": ["bird", "Songbirds", "Finches", "Ruby Finch"], "synonyms": ["Rubra vulgaris"]' in said

    def test_a_bound_judge_shares_all_but_the_taxonomy(self, make: Make, server: JudgeServer):
        judge = make(server)
        bound = judge.bind(BIRDS)
        bound.verdicts([("Ruby Finch", "Crimson Bunting")])
        assert judge.tally()["judge/pairs"] == 1
        asked = server.behaviour.counts["chat"]
        judge.verdicts([("Jumbo Jet", "Concorde")])  # not examined a second time
        assert server.behaviour.counts["chat"] == asked + 2
        bound.verdicts([("Jumbo Jet", "Concorde")])  # no hint: the same question
        assert server.behaviour.counts["chat"] == asked + 2


class TestCache:
    def test_a_second_call_asks_nothing(self, make: Make, server: JudgeServer):
        pairs, judge = different(300), make(server)
        first = judge.verdicts(pairs)
        judge.tally()
        assert judge.verdicts(pairs) == first
        counts = judge.tally()
        assert (counts["judge/cached"], counts["judge/requests"]) == (300, 0)

    def test_a_second_run_asks_nothing_but_whether_the_judge_can_judge(self, make: Make, server: JudgeServer):
        pairs = different(300)
        first = make(server).verdicts(pairs)
        server.behaviour.pairs.clear()
        assert make(server).verdicts(pairs) == first
        assert sum(server.behaviour.pairs.values()) == 20

    def test_the_first_verdict_stays(self, make: Make, server: JudgeServer):
        first, second = make(server), make(server)
        server.script.says, server.script.delay = "generic", 0.3
        with ThreadPoolExecutor(2) as threads:  # two processes, as it were: they share the cache and nothing else
            both = [threads.submit(judge.verdicts, [("Ruby Finch", "Crimson Bunting")]) for judge in (first, second)]
            wait_until(lambda: server.behaviour.pairs['["Ruby Finch", "Crimson Bunting"]'] == 2)
            server.script.says = "specific"
            assert both[0].result() == both[1].result()

    def test_another_model_or_revision_is_asked_anew(self, make: Make, server: JudgeServer):
        for options in ({}, {"revision": "2"}, {"constrain": "json_schema"}, {"max_tokens": 16}):
            make(server, **options).verdicts([("Ruby Finch", "Crimson Bunting")])
        assert server.behaviour.pairs['["Ruby Finch", "Crimson Bunting"]'] == 4

    @pytest.mark.parametrize("obeys", [("structured_outputs",), ("json_schema",), ()])
    def test_a_replay_asks_nobody(self, make: Make, obeys: tuple[str, ...], caplog: pytest.LogCaptureFixture):
        pairs = different(50)
        with JudgeServer(Script(obeys=obeys, refuses=("chat_template_kwargs",) if not obeys else ())) as server:
            first = make(server).bind(BIRDS).verdicts(pairs)
        replay = make(server, offline=True).bind(BIRDS)  # the server is gone
        replay.check()
        again = replay.verdicts([*pairs, ("Ruby Finch", "Crimson Bunting")])
        assert again[:-1] == first
        assert again[-1] == Unjudged("not in the cache, and offline")
        counts = replay.tally()
        assert (counts["judge/cached"], counts["judge/unjudged"], counts["judge/requests"]) == (50, 1, 0)
        assert "'Crimson Bunting' for 'Ruby Finch' (not in the cache, and offline)" in caplog.text


class TestSetUp:
    def test_nothing_is_opened_before_it_is_needed(self, make: Make, server: JudgeServer, tmp_path: Path):
        threads = threading.active_count()
        judge = make(server).bind(BIRDS)
        judge.tally()
        assert (threading.active_count(), server.behaviour.counts["chat"]) == (threads, 0)
        assert not (tmp_path / "cache.sqlite").exists()
        assert judge.remote

    def test_it_is_set_up_by_a_yaml(self, tmp_path: Path):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--config", action="config")
        parser.add_subclass_arguments(Judge, "judge")
        (tmp_path / "run.yaml").write_text(f"""
            judge:
              class_path: fgvr.judges.served.llm.LLMJudge
              init_args:
                model: Qwen/Qwen3-30B-A3B-Instruct-2507-FP8
                server: {{url: "http://node:1/v1", key_file: {tmp_path}/key, timeout: 5}}
                constrain: none
                cache: {{class_path: fgvr.judges.caches.sqlite.SQLiteCache, init_args: {{path: {tmp_path}/a.sqlite}}}}
        """)
        judge = parser.instantiate(parser.parse_args(["--config", str(tmp_path / "run.yaml")])).judge
        assert isinstance(judge, LLMJudge)
        assert judge.server == Server("http://node:1/v1", key_file=tmp_path / "key", timeout=5.0)
        assert isinstance(judge.cache, SQLiteCache)
        assert (judge.constrain, judge.cache.path) == ("none", tmp_path / "a.sqlite")

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"model": " "}, r"judge\.model must be the name"),
            ({"model": "m", "max_tokens": 1}, r"judge\.max_tokens must be at least 8"),
            ({"model": "m", "constrain": "guided"}, r"judge\.constrain must be one of auto, structured_outputs, json_"),
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, Any], sentence: str):
        with pytest.raises(UserError, match=sentence):
            LLMJudge(**wrong)

    def test_it_closes_and_opens_again(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(2)
        judge.verdicts(pairs[:1])
        judge.release()
        judge.release()
        assert lost(judge.verdicts(pairs)) == 0
        assert server.behaviour.counts["models"] == 1

    def test_the_url_is_read_when_it_is_needed(
        self, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        judge = LLMJudge("judge", cache=SQLiteCache(tmp_path / "cache.sqlite"))
        monkeypatch.delenv("FGVR_JUDGE_URL", raising=False)
        with pytest.raises(UserError, match="FGVR_JUDGE_URL"):
            judge.check()
        monkeypatch.setenv("FGVR_JUDGE_URL", server.url)
        judge.check()
        judge.release()
