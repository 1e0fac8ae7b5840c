import random
from collections.abc import Sequence

import pytest

from fgvr.errors import UserError
from fgvr.judges.served.canaries import LABELS, THINGS, Watch, unrelated
from fgvr.taxonomy.spelling import normalise
from fgvr.types import Verdict

W, A, G, S = Verdict.WRONG, Verdict.ABSTAIN, Verdict.GENERIC, Verdict.SPECIFIC


def watched(verdicts: Sequence[Verdict], watch: Watch | None = None) -> Watch:
    watch = watch or Watch()
    watch.add([("Ruby Finch", f"thing {n}") for n in range(len(verdicts))], verdicts)
    return watch


class TestThings:
    def test_there_are_forty_of_them_all_told_apart(self):
        assert len({normalise(thing) for thing in THINGS}) == 40

    def test_none_is_a_word_of_the_labels_to_begin_with(self):
        words = {word for label in LABELS for word in normalise(label).split()}
        assert not words & {word for thing in THINGS for word in normalise(thing).split()}

    def test_no_word_is_shared_with_label_or_hint(self):
        draw = random.Random(0)
        hint = ', "path": ["tools", "Pumps", "hand pump"], "synonyms": ["pump for bicycles", "Zip thing"]'
        drawn = {unrelated("Garden Clocks", hint, draw) for _ in range(2000)}
        assert not drawn & {"bicycle pump", "garden hose", "alarm clock", "zip fastener"}
        assert len(drawn) == 36

    def test_it_is_drawn_by_the_generator_alone(self):
        first, second = (
            [unrelated("Robin", "", draw) for _ in range(50)] for draw in (random.Random(1), random.Random(1))
        )
        assert first == second
        assert len(set(first)) > 20

    def test_a_hint_of_all_words_is_refused(self):
        with pytest.raises(UserError, match="a label must leave some word unsaid"):
            unrelated("Robin", " ".join(THINGS), random.Random(0))


class TestWatch:
    @pytest.mark.parametrize("verdicts", [[], [W], [W, A] * 10, [W] * 19 + [G], [W] * 95 + [S] * 5])
    def test_one_in_twenty_may_pass(self, verdicts: list[Verdict]):
        watched(verdicts).refuse_if_bad("m")

    @pytest.mark.parametrize("verdicts", [[S], [W] * 18 + [G, G], [W] * 94 + [S] * 6, [G] * 20])
    def test_more_may_not(self, verdicts: list[Verdict]):
        with pytest.raises(
            UserError, match=r"the judge m must find known-wrong answers wrong, .* such as 'thing \d+' for"
        ):
            watched(verdicts).refuse_if_bad("m")

    def test_only_the_last_hundred_count(self):
        watch = watched([W] * 100, watched([S] * 100))
        watch.refuse_if_bad("m")
        with pytest.raises(UserError, match="of the last 100 it found 6 right"):
            watched([S] * 6, watch).refuse_if_bad("m")

    def test_it_forgets(self):
        watch = watched([S] * 20)
        watch.clear()
        watch.refuse_if_bad("m")

    def test_it_counts_what_passed(self):
        pairs = [("Robin", "door hinge")] * 4
        assert Watch().add(pairs, [W, G, A, S]) == 2
