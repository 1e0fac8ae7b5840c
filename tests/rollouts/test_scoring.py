import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripted import RIGHT, TASK, TAXONOMY, WRONG

from fgvr.errors import UserError
from fgvr.rewards import Exact, Reward, Term, WeightedSum
from fgvr.rollouts.scoring import Scoring, covered
from fgvr.types import Completion, EncodedPrompt, Example, ImageInputs, RolloutGroup

LONG = torch.long
NO_IMAGE = ImageInputs(torch.zeros(0, 1, dtype=torch.uint8), torch.zeros(0, 3, dtype=LONG))
PROMPT = EncodedPrompt(torch.zeros(1, dtype=LONG), torch.zeros(3, 1, dtype=LONG), NO_IMAGE)


def rollout(place: int, *texts: str) -> RolloutGroup:
    example = Example(f"u{place}", (b"",), "Azure Finch", ("Finch", "Azure Finch"), "train", "seen", "birds")
    said = [Completion(torch.tensor([1]), torch.zeros(1), False, text) for text in texts]
    return RolloutGroup(example, place, PROMPT, said)


class Waiting(Reward):
    """Answers when all of `together` groups have been asked about, so it must be asked of them side by side."""

    remote = True

    def __init__(self, together: int):
        self.door = threading.Barrier(together, timeout=20)
        self.asked: list[str] = []

    def score(self, groups):
        self.asked += [group.example.uid for group in groups]
        self.door.wait()
        return [[float(group.example.uid.removeprefix("u"))] * len(group) for group in groups]


class Failing(Waiting):
    def score(self, groups):
        raise UserError("the judge must be there, it is not")


def test_a_remote_reward_is_asked_while_more_is_to_come():
    reward = Waiting(3)
    scoring = Scoring(TASK, WeightedSum({"waiting": Term(reward)}))
    for place in (2, 0):
        scoring.add(rollout(place, RIGHT, WRONG))
    deadline = time.monotonic() + 10
    while len(reward.asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(reward.asked) == ["u0", "u2"]  # both wait, before the last group is there
    scoring.add(rollout(1, RIGHT, WRONG))
    groups, said, scores = scoring.scores()
    assert [group.place for group in groups] == [0, 1, 2]
    assert [one.example.uid for one in said] == ["u0", "u1", "u2"]
    assert scores is not None
    assert [total.tolist() for total in scores.totals] == [[0, 0], [1, 1], [2, 2]]
    assert len(scoring.spans) == 3
    scoring.close()
    assert not any(thread.name.startswith("fgvr-score") for thread in threading.enumerate())


def test_both_ways_give_the_same_scores():
    class Elsewhere(Exact):
        remote = True

    there, here = [
        Scoring(TASK, WeightedSum({"exact": Term(reward)}).bind(TAXONOMY)) for reward in (Elsewhere(), Exact())
    ]
    for scoring in (there, here):
        for place in (5, 3, 4):
            scoring.add(rollout(place, RIGHT, WRONG, "no tags"))
    (*_, one), (*_, other) = there.scores(), here.scores()
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one.components, other.components)
    torch.testing.assert_close(one.totals, other.totals)
    torch.testing.assert_close(one.own_advantages, other.own_advantages)
    assert [total.tolist() for total in one.totals] == [[1, 0, 0]] * 3
    there.close()


def test_no_groups_have_no_scores():
    assert Scoring(TASK, WeightedSum({"exact": Term(Exact())}).bind(TAXONOMY)).scores() == ([], [], None)


def test_what_a_reward_raises_in_a_thread_is_raised_here_and_the_next_batch_starts_anew():
    scoring = Scoring(TASK, WeightedSum({"failing": Term(Failing(1))}))
    scoring.add(rollout(0, RIGHT))
    with pytest.raises(UserError, match="it is not"):
        scoring.scores()
    assert scoring.scores() == ([], [], None)
    scoring.close()


def test_seconds_are_counted_once_however_many_were_waiting():
    # 0-2 and 1-3 cover 3 seconds, 5-6 one more; up to second 5.5 the last counts half
    spans = [(1.0, 3.0), (0.0, 2.0), (5.0, 6.0)]
    assert covered(spans) == 4.0
    assert covered(spans, until=5.5) == 3.5
    assert covered(spans, until=0.0) == 0.0
    assert covered([]) == 0.0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20), st.integers(0, 80))
def test_covered_seconds_are_those_of_a_ruler(pairs, until):
    spans = [(float(start), float(start + length)) for start, length in pairs]
    ruler = sum(any(start <= tick and tick + 1 <= stop for start, stop in spans) for tick in range(until))
    assert covered(spans, until=float(until)) == ruler


def test_local_rewards_beside_a_remote_one_are_asked_one_at_a_time():
    class Local(Reward):
        inside = most = 0

        def score(self, groups):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.002)
            self.inside -= 1
            return [[0.0] * len(group) for group in groups]

    local = Local()
    scoring = Scoring(TASK, WeightedSum({"local": Term(local), "waiting": Term(Waiting(8))}))
    for place in range(8):
        scoring.add(rollout(place, RIGHT))
    scoring.scores()
    scoring.close()
    assert local.most == 1


def test_groups_are_forgotten_when_sampling_fails():
    scoring = Scoring(TASK, WeightedSum({"exact": Term(Exact())}).bind(TAXONOMY))
    scoring.add(rollout(0, RIGHT))
    scoring.drop()
    scoring.add(rollout(1, WRONG), epoch=3)
    groups, said, _ = scoring.scores()
    assert [group.place for group in groups] == [1]
    assert said[0].epoch == 3
