"""Canaries among the questions, on a real server that begins to find everything right."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asked_judges import BIRDS, Make, different, lost
from judge_server import JudgeServer, wait_until

from fgvr.errors import UserError
from fgvr.judges.base import Unjudged
from fgvr.taxonomy.tree import Taxonomy


class TestCanaries:
    @pytest.mark.parametrize("says", ["specific", "generic", "more specific"])
    @pytest.mark.parametrize("taxonomy", [BIRDS, None])
    def test_a_server_that_finds_all_right_is_stopped_before_its_first_verdict(
        self, make: Make, server: JudgeServer, says: str, taxonomy: Taxonomy | None
    ):
        server.script.says, server.script.canaries = says, ""
        judge = make(server)
        judge = judge.bind(taxonomy) if taxonomy is not None else judge
        with pytest.raises(UserError, match="of the last 20 it found 20 right, such as"):
            judge.check()
        with pytest.raises(UserError, match="must find known-wrong answers wrong"):
            judge.verdicts([("Ruby Finch", "Crimson Bunting")])
        assert list(judge.cache.entries()) == []

    def test_one_that_begins_to_find_all_right_is_stopped_within_a_batch(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(400)
        assert lost(judge.verdicts(pairs[:200])) == 0
        server.script.says, server.script.canaries = "specific", ""
        with pytest.raises(UserError, match="must find known-wrong answers wrong"):
            judge.verdicts(pairs[200:203])
        assert len(list(judge.cache.entries())) == 200
        with pytest.raises(UserError, match="must find known-wrong answers wrong"):  # also when it behaves again
            judge.verdicts(pairs[200:203])
        server.script.says, server.script.canaries = "right", "wrong"
        judge.check()
        assert lost(judge.verdicts(pairs)) == 0

    def test_one_slip_is_looked_into_and_forgiven(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(300)
        judge.verdicts(pairs[:290])
        asked = server.behaviour.counts["canaries"]
        assert asked == 20 + 15
        server.script.canaries = "generic"
        server.script.delay = 0.2
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(judge.verdicts, pairs[290:])
            wait_until(lambda: server.behaviour.counts["canaries"] == asked + 1)
            time.sleep(0.3)
            server.script.canaries = "wrong"
            found = future.result()
        assert lost(found) == 0
        assert server.behaviour.counts["canaries"] == asked + 21
        assert judge.tally()["judge/canaries_passed"] == 1

    def test_one_rides_with_every_twenty_and_with_every_call(self, make: Make, server: JudgeServer):
        judge = make(server)
        judge.check()
        judge.tally()
        pairs = different(205)
        judge.verdicts(pairs[:1])
        assert judge.tally()["judge/canaries"] == 1
        judge.verdicts(pairs[1:])
        assert judge.tally()["judge/canaries"] == 5 + 5 + 1

    def test_they_are_never_stored_nor_taken_from_the_cache(self, make: Make, server: JudgeServer):
        judge = make(server)
        judge.verdicts(different(100))
        assert len(list(judge.cache.entries())) == 100
        assert not {entry.answer for entry in judge.cache.entries()} & set(server.script.things)

    def test_without_a_canary_back_nothing_is_believed(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(50)
        judge.check()
        server.script.on = dict.fromkeys(server.script.things, "422")
        found = judge.verdicts(pairs)
        assert lost(found) == 50
        assert all("no canary of its batch was judged: refused" in e.reason for e in found if isinstance(e, Unjudged))
        assert list(judge.cache.entries()) == []
        assert judge.tally()["judge/canaries_passed"] == 0

    def test_a_judge_without_verdicts_on_canaries_is_refused(self, make: Make, server: JudgeServer):
        server.script.canaries, server.script.obeys = "I think that it is wrong", ()
        with pytest.raises(
            UserError, match=r"must give verdicts, but it has none on 20 of 20 pairs, the first .*no verdict"
        ):
            make(server).check()
