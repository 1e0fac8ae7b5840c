import math
from dataclasses import replace

import pytest
import torch
from conftest import prompt_batch, tiny_policy
from scripted import LOOSE, RIGHT, TASK, TAXONOMY, WRONG, Scripted

from fgvr.errors import UserError
from fgvr.judges import TaxonomyJudge
from fgvr.models.sampling import Sampling
from fgvr.objectives import Advantage, GroupFilter
from fgvr.rewards import Exact, Format, Reward, SpecificityReward, Term, WeightedSum
from fgvr.rollouts import Collector, collect
from fgvr.rollouts.collector import BARREN, BrokenOff
from fgvr.rollouts.updates import UpdatePlan
from fgvr.shards.order import key_of
from fgvr.types import ReadRecord

REWARD = WeightedSum({"exact": Term(Exact(), 0.9), "format": Term(Format(), 0.1)}).bind(TAXONOMY)
MIXED, RIGHT_ONLY, WRONG_ONLY = [RIGHT, WRONG, WRONG], [RIGHT] * 3, [WRONG] * 3
ONE = ((1, 84),)


class Silent(Reward):
    """Has no opinion of the uids it is given."""

    def __init__(self, uids, value: float | None = None):
        self.uids, self.value = uids, value

    def score(self, groups):
        return [[self.value if g.example.uid in self.uids else 1.0 for _ in g.texts] for g in groups]


def collector(replies, reward=REWARD, **options) -> Collector:
    plan = options.pop("plan", UpdatePlan())
    settings = {"groups": 3, "advantage": Advantage(scale="none"), "sampling": Sampling(group_size=3)} | options
    return Collector(Scripted(replies), TASK, reward, plan=plan, **settings)


def test_rewards_and_advantages_by_hand():
    policy = tiny_policy()
    rollouts = collector({"u0": [RIGHT, WRONG, LOOSE]}).add(policy, prompt_batch(policy, ONE))
    (group,) = rollouts.groups
    # .9 + .1, .1 and 0 sum to 1.1, so the mean is .36667
    torch.testing.assert_close(group.rewards, torch.tensor([1.0, 0.1, 0.0]))
    torch.testing.assert_close(group.advantages, torch.tensor([0.63333, -0.26667, -0.36667]), atol=1e-5, rtol=0)
    assert [a.text if a else None for a in group.answers] == ["Azure Finch", "Jade Owl", None]
    figures = rollouts.figures
    assert figures["reward"] == pytest.approx(1.1 / 3)
    assert figures["rewards/exact/mean"] == pytest.approx(1 / 3)
    assert figures["rewards/format/mean"] == pytest.approx(2 / 3)
    # deviations from .36667: .40111 + .07111 + .13444 = .60667; / 2; root .55076
    assert figures["reward_std"] == pytest.approx(0.55076, abs=1e-5)
    assert figures["frac_reward_zero_std"] == 0
    assert figures["completions/parsed"] == pytest.approx(2 / 3)
    (update,) = rollouts.updates
    (rows,) = update.micro_batches
    lengths = [len(c.ids) for c in group.rollout.completions]
    assert figures["completions/mean_length"] == pytest.approx(sum(lengths) / 3)
    torch.testing.assert_close(rows.weights, torch.full((sum(lengths),), 1 / sum(lengths)))
    expected = torch.repeat_interleave(group.advantages, torch.tensor(lengths))
    torch.testing.assert_close(rows.advantages, expected)


def test_a_batch_is_broken_off_between_two_groups_and_sampled_anew():
    policy, ends = tiny_policy(), [True]
    batch = prompt_batch(policy, [(1, 84)] * 2)
    broken = collector({"u0": MIXED, "u1": RIGHT_ONLY}, breaks_off=lambda: ends[0])
    with pytest.raises(BrokenOff):
        broken.add(policy, batch)
    ends[0] = False
    whole = collector({"u0": MIXED, "u1": RIGHT_ONLY}).add(policy, batch)
    again = broken.add(policy, batch)
    assert again.figures == whole.figures
    for one, other in zip(again.groups, whole.groups, strict=True):
        torch.testing.assert_close(one.advantages, other.advantages, atol=0, rtol=0)


def test_groups_are_those_of_a_prompt_even_if_all_prompts_read_the_same():
    policy = tiny_policy()
    batch = prompt_batch(policy, [(1, 84)] * 3)
    assert len({tuple(row) for row in batch.input_ids.tolist()}) == 1
    rollouts = collector({"u0": RIGHT_ONLY, "u1": MIXED, "u2": WRONG_ONLY}).add(policy, batch)
    assert [float(group.advantages.abs().sum()) > 0 for group in rollouts.groups] == [False, True, False]


def test_seeds_belong_to_run_epoch_and_place():
    policy = tiny_policy()
    made = collector({f"u{i}": MIXED for i in range(3)}, seed=4)
    batch = prompt_batch(policy)
    made.add(policy, batch)
    again = replace(batch, record=replace(batch.record, epoch=1))
    made.add(policy, again)
    assert isinstance(made.engine, Scripted)
    expected = [key_of(4, "rollout", epoch, place) for epoch in (0, 1) for place in range(3)]
    assert made.engine.seeds == expected
    assert made.engine.synced == 2


def test_uninformative_groups_are_replaced_by_others():
    policy = tiny_policy()
    made = collector({"u0": RIGHT_ONLY, "u1": MIXED, "u2": WRONG_ONLY}, group_filter=GroupFilter())
    batches = [prompt_batch(policy)] * 4
    taken = iter(batches)
    rollouts = collect(made, policy, taken)
    assert len(list(taken)) == 1, "three batches of one informative group each fill three places"
    assert [group.rollout.example.uid for group in rollouts.groups] == ["u1"] * 3
    assert rollouts.figures["rollouts/tries"] == 3
    assert rollouts.figures["rollouts/uninformative"] == 6
    assert rollouts.figures["rollouts/kept"] == 3
    assert rollouts.figures["rollouts/surplus"] == 0
    first = made.add(policy, batches[0])
    assert first.updates == []
    assert first.figures == {}


def test_every_group_that_was_sampled_is_told_of_whether_an_update_learns_from_it_or_not():
    policy = tiny_policy()
    made = collector({"u0": RIGHT_ONLY, "u1": MIXED, "u2": WRONG_ONLY}, group_filter=GroupFilter(), groups=2)
    calls = [made.add(policy, prompt_batch(policy)) for _ in range(2)]
    assert [bool(rollouts.updates) for rollouts in calls] == [False, True]
    for rollouts in calls:
        assert [group.rollout.example.uid for group in rollouts.sampled] == ["u0", "u1", "u2"]
    assert [group.rollout.example.uid for group in calls[1].groups] == ["u1", "u1"]


def test_what_goes_beyond_the_batch_is_left_out_and_counted():
    policy = tiny_policy()
    made = collector({"u0": MIXED, "u1": MIXED, "u2": WRONG_ONLY}, group_filter=GroupFilter())
    rollouts = collect(made, policy, [prompt_batch(policy)] * 2)
    assert [group.rollout.place for group in rollouts.groups] == [0, 1, 0]
    assert rollouts.figures["rollouts/surplus"] == 1


def test_when_nothing_is_informative_the_run_stops_with_a_sentence():
    policy = tiny_policy()
    made = collector({"u0": WRONG_ONLY}, group_filter=GroupFilter(max_tries=3))
    with pytest.raises(UserError, match="none of 3 batches in a row had one: the task is too hard"):
        collect(made, policy, [prompt_batch(policy, ONE)] * 9)
    with pytest.raises(UserError, match="ran out"):
        collect(collector({"u0": WRONG_ONLY}, group_filter=GroupFilter()), policy, [prompt_batch(policy, ONE)])


def test_after_its_tries_an_update_makes_do_with_what_there_is(caplog: pytest.LogCaptureFixture):
    policy = tiny_policy()
    made = collector({"u0": MIXED, "u1": WRONG_ONLY, "u2": WRONG_ONLY}, group_filter=GroupFilter(max_tries=2))
    rollouts = collect(made, policy, [prompt_batch(policy)] * 2)
    assert len(rollouts.groups) == 2
    assert "only 2 of 3 groups were informative in 2 batches" in caplog.text


def test_a_group_without_any_reward_is_dropped_and_counted(caplog: pytest.LogCaptureFixture):
    policy = tiny_policy()
    reward = WeightedSum({"exact": Term(Exact()), "judge": Term(Silent({"u1"}))}).bind(TAXONOMY)
    made = collector({f"u{i}": MIXED for i in range(3)}, reward, max_unscorable=0.5)
    rollouts = made.add(policy, prompt_batch(policy))
    assert [group.rollout.example.uid for group in rollouts.groups] == ["u0", "u2"]
    assert rollouts.figures["rollouts/unscorable"] == 1
    assert rollouts.figures["rollouts/missing"] == 3
    assert "no completion of 1 of 3 groups could be scored, so they are dropped: u1" in caplog.text
    with pytest.raises(UserError, match=r"but 1 of 3 did.*replies outside the options earn nothing"):
        collector({f"u{i}": MIXED for i in range(3)}, reward).add(policy, prompt_batch(policy))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_named_and_never_learned_from(value, caplog: pytest.LogCaptureFixture):
    policy = tiny_policy()
    reward = WeightedSum({"exact": Term(Exact()), "odd": Term(Silent({"u1"}, value))}).bind(TAXONOMY)
    made = collector({f"u{i}": MIXED for i in range(3)}, reward, max_unscorable=1.0)
    rollouts = made.add(policy, prompt_batch(policy))
    assert rollouts.figures["rollouts/faulty"] == 3
    assert "odd of u1" in caplog.text
    assert all(bool(entry.advantages.isfinite().all()) for u in rollouts.updates for entry in u.micro_batches)


def test_an_empty_completion_leaves_the_group_and_its_baseline():
    policy = tiny_policy()
    rollouts = collector({"u0": [RIGHT, WRONG, ""]}).add(policy, prompt_batch(policy, ONE))
    (group,) = rollouts.groups
    assert group.rewards.isnan().tolist() == [False, False, True]
    torch.testing.assert_close(group.advantages, torch.tensor([0.45, -0.45, 0.0]))  # 1 and .1 around .55
    assert rollouts.figures["rollouts/empty"] == 1
    rows = rollouts.updates[0].micro_batches[0]
    assert int(rows.rows.segments.max()) == 2


def test_cut_off_completions_are_neither_learned_from_nor_counted_when_masked(caplog: pytest.LogCaptureFixture):
    policy = tiny_policy()
    replies = {"u0": [RIGHT, WRONG + "…", WRONG], "u1": [RIGHT + "…", WRONG + "…", LOOSE + "…"]}
    batch = prompt_batch(policy, [(1, 84)] * 2)
    whole = collector(replies).add(policy, batch)
    masked = collector(replies, plan=UpdatePlan(mask_truncated=True)).add(policy, batch)
    lengths = [len(c.ids) for c in whole.groups[0].rollout.completions]
    (entry,) = masked.updates[0].micro_batches
    kept = lengths[0] + lengths[2]
    torch.testing.assert_close(entry.weights, torch.full((kept,), 1 / kept))
    assert masked.figures["completions/clipped_ratio"] == pytest.approx(4 / 6)
    assert masked.figures["rollouts/cut_off"] == 1
    assert caplog.text.count("in 1 groups every completion was cut off") == 2  # once a collector


def test_equal_rewards_are_not_computed_but_count_in_the_mean():
    policy = tiny_policy()
    replies = {"u0": MIXED, "u1": WRONG_ONLY}
    batch = prompt_batch(policy, [(1, 84)] * 2)
    lean = collector(replies).add(policy, batch).updates[0].micro_batches
    full = collector(replies, plan=UpdatePlan(every_group=True)).add(policy, batch).updates[0].micro_batches
    assert [len(entry.rows.segments) for entry in lean] == [1]
    assert [len(entry.rows.segments) for entry in full] == [2]
    torch.testing.assert_close(lean[0].weights, full[0].weights[: len(lean[0].weights)])


def test_several_updates_are_each_normalised_on_their_own():
    policy = tiny_policy()
    replies = {f"u{i}": [RIGHT, WRONG, WRONG + " or so"] for i in range(3)}
    plan = UpdatePlan(updates=2, micro_batch_tokens=1)
    rollouts = collector(replies, plan=plan).add(policy, prompt_batch(policy))
    assert [len(update.micro_batches) for update in rollouts.updates] == [2, 1]
    for update in rollouts.updates:
        assert sum(float(entry.weights.sum()) for entry in update.micro_batches) == pytest.approx(1.0, abs=1e-5)


def test_a_filter_on_an_unknown_component_is_refused():
    policy = tiny_policy()
    made = collector({"u0": MIXED}, group_filter=GroupFilter(score="exakt"))
    with pytest.raises(UserError, match="'exakt'"):
        made.add(policy, prompt_batch(policy, ONE))


def test_no_prompts_at_all_make_no_step_and_stop_the_run_in_the_end():
    policy = tiny_policy()
    batch = prompt_batch(policy, [])
    assert batch.record == ReadRecord(0, 0, (), ())
    made = collector({"u0": MIXED})
    for _ in range(BARREN - 1):
        rollouts = made.add(policy, batch)
        assert rollouts.groups == rollouts.updates == []
    assert made.add(policy, prompt_batch(policy, ONE)).updates
    for _ in range(BARREN - 1):
        made.add(policy, batch)
    with pytest.raises(UserError, match=f"none of the last {BARREN} batches left any"):
        made.add(policy, batch)


def test_completions_that_are_all_cut_off_make_no_step_when_masked():
    policy = tiny_policy()
    made = collector({"u0": [RIGHT + "…", WRONG + "…", LOOSE + "…"]}, plan=UpdatePlan(mask_truncated=True, updates=2))
    rollouts = made.add(policy, prompt_batch(policy, ONE))
    assert rollouts.updates == []
    assert rollouts.figures["rollouts/cut_off"] == 1


def test_a_short_batch_is_refilled_to_the_full_number_of_groups():
    policy = tiny_policy()
    made = collector({f"u{i}": MIXED for i in range(3)}, group_filter=GroupFilter())
    rollouts = collect(made, policy, [prompt_batch(policy, ONE), prompt_batch(policy)])
    assert len(rollouts.groups) == 3
    assert rollouts.figures["rollouts/surplus"] == 1


def test_a_group_in_which_only_the_unparsable_differs_is_kept_by_a_filter():
    policy = tiny_policy()
    reward = WeightedSum({"specificity": Term(SpecificityReward(TaxonomyJudge()))}).bind(TAXONOMY)
    rule = GroupFilter(score="specificity", max_tries=1)
    replies = {"u0": [RIGHT, RIGHT, LOOSE], "u1": RIGHT_ONLY, "u2": MIXED}
    rollouts = collector(replies, reward, group_filter=rule).add(policy, prompt_batch(policy))
    assert [group.rollout.example.uid for group in rollouts.groups] == ["u0", "u2"]
    # nobody is compared, for all answers earned the same; the reply that did not parse is pushed down by 2/3
    torch.testing.assert_close(rollouts.groups[0].advantages, torch.tensor([0.0, 0.0, -2 / 3]))
