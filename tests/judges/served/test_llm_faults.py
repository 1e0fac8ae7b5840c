"""The judge against a real server that fails by script and comes back: no wrong verdict, none lost."""

import json
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asked_judges import Make, different, lost, names, wrongly_judged
from judge_server import JudgeServer, Script, wait_until

from fgvr.errors import UserError
from fgvr.judges.base import Unjudged
from fgvr.judges.served import breaker
from fgvr.judges.served.llm import LLMJudge

FAULTS = {
    "500": 0.01, "503": 0.008, "429": 0.008, "drop": 0.006, "reset": 0.004, "hang": 0.001, "drip": 0.001, "408": 0.002,
    "html": 0.002, "says:banana": 0.002, "says:": 0.001, "raw:{": 0.001, 'raw:{"choices": []}': 0.001,
    "redirect": 0.001, "echo": 0.001, "gzip": 0.0005, "huge": 0.0005,
}  # fmt: skip


def test_the_faults_are_one_in_twenty():
    assert sum(FAULTS.values()) == pytest.approx(0.05)


class TestFaults:
    def test_none_wrong_and_none_lost(self, make: Make, server: JudgeServer):
        server.script.faults = FAULTS
        pairs = different(1000)
        found = make(server).verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        assert server.behaviour.counts["faults"] >= 30

    @pytest.mark.slow
    def test_none_wrong_and_none_lost_of_ten_thousand(self, make: Make):
        with JudgeServer(Script(faults=FAULTS), process=True) as server:
            judge, pairs = make(server, timeout=2.0, attempts=6), different(10_000)
            found = judge.verdicts(pairs)
            assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
            assert server.count("faults") >= 400
            assert server.count("peak") <= 64 + server.count("hang") + server.count(
                "drip"
            )  # the client hung up on those
            assert judge.tally()["judge/retries"] >= 400

    def test_one_bad_reply_among_64(self, make: Make, server: JudgeServer, caplog: pytest.LogCaptureFixture):
        pairs = [("Ruby Finch", name) for name in names(64)]
        server.script.on = {pairs[17][1]: "says:quite specific"}
        judge = make(server)
        found = judge.verdicts(pairs)
        assert isinstance(found[17], Unjudged)
        assert "3 attempts failed, at last: a reply without sense" in found[17].reason
        assert (lost(found), wrongly_judged(pairs, found)) == (1, [])
        assert judge.tally()["judge/unjudged"] == 1
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert warning.message.startswith(
            f"1 of 64 pairs could not be judged: '{pairs[17][1]}' for 'Ruby Finch' (3 att"
        )
        server.script.on = {}
        assert judge.verdicts(pairs)[:17] == found[:17]  # the others are stored
        assert judge.tally()["judge/requests"] == 2

    def test_a_refused_pair_is_asked_once(self, make: Make, server: JudgeServer):
        pairs = different(20)
        server.script.on = {pairs[0][1]: "400"}  # all have the same answer here
        found = make(server).verdicts([*pairs, ("Ruby Finch", "Crimson Bunting")])
        assert lost(found) == 20
        assert server.behaviour.counts["400"] == 20

    def test_warnings_name_a_few_and_count_the_rest(
        self, make: Make, server: JudgeServer, caplog: pytest.LogCaptureFixture
    ):
        pairs = different(20)
        server.script.on = {pairs[0][1]: "422"}
        make(server).verdicts([*pairs, ("Ruby Finch", "Crimson\x1b[2J Bunting")])
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert warning.message.count("refused: status 422") == 5
        assert warning.message.endswith("; and 15 more")

    def test_a_server_killed_and_back_within_patience_loses_nothing(self, make: Make):
        server, pairs = JudgeServer(Script(delay=0.05), process=True), different(400)
        server.start()
        judge = make(server, concurrency=16)
        judge.check()
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(judge.verdicts, pairs)
            wait_until(lambda: server.count("chat") > 100)
            server.kill()
            time.sleep(1.0)
            server.start()
            found = future.result(60)
        server.kill()
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        assert judge.tally()["judge/retries"] > 0

    def test_a_server_killed_for_good_leaves_pairs_unjudged_soon(self, make: Make):
        pairs = different(900)
        with JudgeServer(Script(delay=0.05)) as server:
            judge = make(server, concurrency=16, patience=1.0)
            judge.check()
            with ThreadPoolExecutor(1) as threads:
                future = threads.submit(judge.verdicts, pairs)
                wait_until(lambda: server.behaviour.counts["chat"] > 300)
                server.kill()
                began = time.monotonic()
                found = future.result(60)
                assert time.monotonic() - began < 6.0
        assert lost(found) > 100
        assert wrongly_judged(pairs, found) == []
        began = time.monotonic()
        again = judge.verdicts(pairs)
        assert time.monotonic() - began < 3.0
        assert lost(again) == lost(found)  # what was judged before is stored
        assert judge.tally()["judge/unjudged"] == 2 * lost(found)

    @pytest.mark.parametrize("fault", ["401", "403", "404", "400:the model judge is gone"])
    def test_a_set_up_gone_wrong_stops_the_call(self, make: Make, server: JudgeServer, fault: str):
        judge, pairs = make(server), different(300)
        judge.check()
        server.script.down = fault
        with pytest.raises(UserError, match=r"the judge's server .* but it answers status 40"):
            judge.verdicts(pairs)
        assert server.behaviour.counts["turned away"] < 100  # the rest was called off
        server.script.down = ""
        assert lost(judge.verdicts(pairs)) == 0

    def test_a_filter_that_names_the_model_loses_its_own_pairs_alone(self, make: Make, server: JudgeServer):
        pairs = [("Ruby Finch", name) for name in names(300)]
        server.script.on = {answer: f"400:judge: content filter triggered by {answer}" for _, answer in pairs[::30]}
        server.script.on |= {answer: "403:judge: the moderation flagged it" for _, answer in pairs[1::30]}
        found = make(server, timeout=20.0).verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (20, [])
        assert max(server.behaviour.pairs[json.dumps(list(pair))] for pair in pairs) == 1

    def test_a_wrong_set_up_is_found_by_check(self, make: Make, server: JudgeServer):
        with pytest.raises(UserError, match="got 'nobody': it serves 'judge'"):
            make(server, model="nobody").check()
        with pytest.raises(UserError, match="got 'nobody': it serves 'judge'"):
            make(server, model="nobody").verdicts([("Ruby Finch", "Crimson Bunting")])
        with JudgeServer() as gone:
            pass
        with pytest.raises(UserError, match=r"must answer, but: nothing good was heard for 0.2 s"):
            make(gone, patience=0.2).check()

    def test_threads_that_find_the_server_away_wait_for_it_together(self, make: Make):
        with JudgeServer() as gone:
            pass
        judge, began = make(gone, patience=1.0), time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(judge.verdicts, [("Ruby Finch", "Crimson Bunting")]) for _ in range(8)]
            assert all(isinstance(future.exception(), UserError) for future in futures)
        assert time.monotonic() - began < 4.0

    def test_it_is_examined_once(self, make: Make, server: JudgeServer):
        judge = make(server)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(judge.verdicts, [[pair] for pair in different(8)]))
        assert server.behaviour.counts["models"] == 1


def completion(**choice: Any) -> str:
    return "raw:" + json.dumps({"choices": [{"message": {"content": ""}} | choice]})


SPELLS = {
    "refused": "503",
    "rate limit": 'raw:{"error": {"message": "slow down", "code": 429}}',
    "error": 'raw:{"error": {"message": "no healthy upstream", "type": "upstream_error"}}',
    "finish reason": completion(finish_reason="error"),
    "an error beside a choice": completion(error={"code": 502, "message": "Bad gateway"}),
    "no choices": 'raw:{"id": "1", "choices": []}',
    "another service": 'raw:{"status": "ok"}',
    "maintenance": "html",
    "maintenance, 403": "403:<html>We will be back soon</html>",
    "redirect": "redirect",
    "cut": 'raw:{"choices": [{"mess',
    "nothing": "raw:",
    "no text": completion(),
    "words of a gateway": "says:The service is temporarily unavailable.",
    "silence": "hang",
}


class TestOutages:
    CONCURRENCY = 16

    @pytest.mark.parametrize("nonsense", SPELLS.values(), ids=SPELLS)
    def test_a_spell_of_nonsense_is_waited_for(self, make: Make, server: JudgeServer, nonsense: str):
        timeout = 0.5 if nonsense == "hang" else 10.0  # on a busy machine half a second would pass without an outage
        judge = make(server, concurrency=self.CONCURRENCY, timeout=timeout)
        self.wait_for_it(judge, server, nonsense, 100, seconds=0.5)

    def test_seconds_of_errors_among_300_pairs(self, make: Make, server: JudgeServer):
        self.wait_for_it(make(server, concurrency=self.CONCURRENCY), server, SPELLS["rate limit"], 300, seconds=3.0)

    def wait_for_it(self, judge: LLMJudge, server: JudgeServer, nonsense: str, number: int, seconds: float) -> None:
        pairs = different(number)
        judge.check()
        server.script.delay = 0.02
        before = server.behaviour.counts["chat"]
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(judge.verdicts, pairs)
            wait_until(lambda: server.behaviour.counts["chat"] - before > 40)
            server.script.down = nonsense
            time.sleep(seconds)
            server.script.down = ""
            found = future.result(60)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        # what was under way when it began, beside the last good replies, and some that sounded it out
        assert 1 < server.behaviour.counts["turned away"] <= 3 * self.CONCURRENCY
        batches = -(-number // 40)
        again = server.behaviour.counts["chat"] - before - number - 2 * batches
        assert again <= 3 * self.CONCURRENCY

    @pytest.mark.parametrize("beyond", ["429", SPELLS["rate limit"]])
    def test_a_rate_that_is_kept_to_costs_few_requests(self, make: Make, server: JudgeServer, beyond: str):
        pairs, judge = different(400), make(server, attempts=3)
        judge.check()
        before = server.behaviour.counts["chat"]
        server.script.rate, server.script.beyond, server.script.retry_after = 100, beyond, "0.3"
        found = judge.verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        assert server.behaviour.counts["turned away"] > 0
        assert server.behaviour.counts["chat"] - before < 1.6 * (400 + 20)

    def test_the_log_says_that_it_waits_while_it_waits(
        self, make: Make, server: JudgeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(breaker, "SAID", 0.3)
        judge = make(server, patience=30.0)
        judge.check()
        server.script.down = "503:come back later"
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(judge.verdicts, different(100))
            wait_until(lambda: f"waiting for the judge's server {server.url}, for " in caplog.text)
            assert "30 s at most: status 503 'come" in caplog.text or "come back later" in caplog.text
            assert not future.done()
            time.sleep(1.0)
            server.script.down = ""
            assert lost(future.result(30)) == 0
        said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert 2 <= len(said) <= 4  # at twice the seconds each
        assert re.fullmatch(rf"the judge's server {re.escape(server.url)} answers again, after \d s", said[-1])

    def test_what_an_outage_costs_is_said_once(self, make: Make, server: JudgeServer, caplog: pytest.LogCaptureFixture):
        judge, pairs = make(server, patience=0.4), different(160)
        judge.check()
        judge.tally()
        server.script.down = "503"
        with ThreadPoolExecutor(8) as threads:
            groups = list(threads.map(judge.verdicts, (pairs[n : n + 4] for n in range(0, 160, 4))))
        assert sum(map(lost, groups)) == judge.tally()["judge/unjudged"] == 160
        server.script.down = ""
        assert lost(judge.verdicts(pairs)) == 0
        said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == 3
        assert "is given up, until it answers again: nothing good was heard for 0.4 s" in said[0]
        assert "of 4 pairs could not be judged" in said[1]
        assert re.search(r"answers again, after \d s; \d+ requests were given up meanwhile", said[2])

    def test_each_outage_is_said(self, make: Make, server: JudgeServer, caplog: pytest.LogCaptureFixture):
        judge, pairs = make(server, patience=0.2), different(10)
        judge.check()
        for n in range(2):
            server.script.down = "503"
            judge.verdicts(pairs[5 * n : 5 * n + 5])
            server.script.down = ""
            judge.verdicts([("Ruby Finch", f"Crimson Bunting {n}")])
        assert caplog.text.count("pairs could not be judged") == 2


class TestCloud:
    def test_requests_a_minute_are_bounded(self, make: Make, server: JudgeServer):
        judge = make(server, requests_per_minute=1800)  # 30 a second
        judge.check()
        began = time.monotonic()
        found = judge.verdicts(different(40))
        assert lost(found) == 0
        assert time.monotonic() - began >= 41 / 30  # and two canaries, the first at once

    def test_tokens_a_minute_are_bounded_by_what_the_server_counts(self, make: Make, server: JudgeServer):
        judge = make(server, tokens_per_minute=60 * 903 * 30)  # 30 requests a second, by what it says of each
        judge.check()
        began = time.monotonic()
        found = judge.verdicts(different(40))
        assert lost(found) == 0
        assert 0.7 * 41 / 30 <= time.monotonic() - began <= 10

    def test_a_cloud_that_takes_other_fields(self, make: Make, server: JudgeServer):
        refused = (
            "max_tokens",
            "temperature",
            "chat_template_kwargs",
            "structured_outputs",
            "response_format",
            "logprobs",
        )
        server.script.refuses = refused
        pairs, judge = different(40), make(server, temperature=None)
        found = judge.verdicts(pairs)
        assert (lost(found), wrongly_judged(pairs, found)) == (0, [])
        sent = server.behaviour.last["body"]
        assert sent["max_completion_tokens"] == 32
        assert not set(sent) & set(refused)
        with pytest.raises(UserError, match=r"must take judge\.temperature 0.0 .*set those to null"):
            make(server).check()
