import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import prompt_batch, tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import LOOSE, RIGHT, TASK, TAXONOMY, WRONG, Scripted
from toy_rollouts import scored_group

from fgvr.errors import UserError
from fgvr.models.sampling import Sampling
from fgvr.objectives import Advantage, policy_loss
from fgvr.objectives.policy_loss import Clip
from fgvr.ranks import Ranks
from fgvr.rewards import Exact, Term, WeightedSum
from fgvr.rollouts import Collector
from fgvr.rollouts.updates import Place, UpdatePlan, updates_of
from fgvr.types import ReadPrompt, ScoredGroup, UpdateBatch

WORLDS = range(1, 9)
Placed = list[tuple[Place, ScoredGroup]]
PLACES = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=30).map(sorted)


class Meeting:
    """Ranks as threads of one process, each of which waits in `gather` for all the others."""

    def __init__(self, world: int) -> None:
        self.world, self.barrier = world, threading.Barrier(world, timeout=30)
        self.brought: list[list[Any]] = [[] for _ in range(world)]

    def gather(self, rank: int, rows: list[Any]) -> list[Any]:
        self.brought[rank] = rows
        self.barrier.wait()
        together = [row for part in self.brought for row in part]
        self.barrier.wait()  # before anybody brings something else
        return together

    def each(self, work: Callable[[int, Ranks], Any]) -> list[Any]:
        done: list[Any] = [None] * self.world

        def one(rank: int) -> None:
            done[rank] = work(rank, Ranks(self.world, lambda rows: self.gather(rank, rows)))

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done


def placed_groups(places: Sequence[Place], cut: Sequence[bool] = ()) -> Placed:
    """Groups of several lengths; the advantage of every completion is its group's number."""
    found: Placed = []
    for number, place in enumerate(places):
        gone = range(2) if number < len(cut) and cut[number] else ()
        group = scored_group(["a" * (1 + number % 5), "bb"], [1.0, 0.0], f"u{number}", place[1], gone, 3 + number % 4)
        found.append((place, replace(group, advantages=torch.full((2,), number + 1.0))))
    return found


def shared_out(groups: Placed, plan: UpdatePlan, world: int) -> list[list[UpdateBatch]]:
    """Each rank's updates; ranks hold every world-th place, as the loader deals them out."""

    def work(rank: int, ranks: Ranks) -> list[UpdateBatch]:
        return updates_of([entry for entry in groups if entry[0][1] % world == rank], plan, ranks, 0)

    return Meeting(world).each(work)


def content(step: Sequence[UpdateBatch]) -> list[tuple[float, float]]:
    """What all ranks learn from in one step: each target's group, and its weight in the mean over ranks."""
    return sorted(
        (number, weight / len(step))
        for update in step
        for rows in update.micro_batches
        for number, weight in zip(rows.advantages.tolist(), rows.weights.double().tolist(), strict=True)
    )


@given(places=PLACES, updates=st.integers(1, 16), world=st.sampled_from(WORLDS), cut=st.lists(st.booleans()))
@settings(deadline=None, max_examples=60)
def test_a_step_holds_the_same_groups_on_any_number_of_ranks(places, updates, world, cut):
    groups = placed_groups(places, cut)
    plan = UpdatePlan(updates=updates, mask_truncated=True, every_group=True, micro_batch_tokens=40)
    alone, shared = shared_out(groups, plan, 1), shared_out(groups, plan, world)
    assert {len(rank) for rank in shared} == {len(alone[0])}
    for whole, parts in zip(zip(*alone, strict=True), zip(*shared, strict=True), strict=True):
        torch.testing.assert_close(torch.tensor(content(parts)), torch.tensor(content(whole)))


@given(places=PLACES, updates=st.integers(1, 16), world=st.sampled_from(WORLDS))
@settings(deadline=None, max_examples=40)
def test_steps_are_even_and_follow_the_order_of_places(places, updates, world):
    shared = shared_out(placed_groups(places), UpdatePlan(updates=updates, every_group=True), world)
    steps = [sorted({int(number) for number, _ in content(parts)}) for parts in zip(*shared, strict=True)]
    assert [number for step in steps for number in step] == list(range(1, len(places) + 1))
    assert len(steps) == min(updates, len(places))
    assert max(map(len, steps)) - min(map(len, steps)) <= 1


@pytest.mark.parametrize("world", WORLDS)
def test_sixteen_steps_of_a_whole_batch_are_shared_evenly(world):
    # 64 groups in 16 steps of 4: on up to 4 ranks each has its share of every step, on 8 half of them have one
    shared = shared_out(placed_groups([(0, n) for n in range(64)]), UpdatePlan(updates=16, every_group=True), world)
    assert [len(rank) for rank in shared] == [16] * world
    for parts in zip(*shared, strict=True):
        groups = [sum(len(rows.rows.segments) for rows in update.micro_batches) for update in parts]
        assert sum(groups) == 4
        assert max(groups) - min(groups) <= 1


def test_a_rank_without_any_group_takes_part():
    groups = placed_groups([(0, 0), (0, 2), (1, 0)])  # nothing for the second rank
    shared = shared_out(groups, UpdatePlan(updates=2, every_group=True), 2)
    assert [[len(update.micro_batches) for update in rank] for rank in shared] == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("budget", "padded", "sizes"), [(60, True, [[40], [12, 12, 12]]), (60, False, [[40, 12], [12, 12]])]
)
def test_a_micro_batch_holds_no_more_than_is_computed(budget, padded, sizes):
    # prompts of 4 tokens with answers of 6 + 2 tokens, and one of 34 + 2
    groups = [
        ((0, n), scored_group(["a" * length, "bb"], [1.0, 0.0], f"u{n}", n, prompt_tokens=4))
        for n, length in enumerate([6, 34, 6, 6])
    ]
    (update,) = updates_of(groups, UpdatePlan(every_group=True, micro_batch_tokens=budget), Ranks(), 0, padded)
    found = [sorted((rows.rows.segments >= 0).sum(1).tolist(), reverse=True) for rows in update.micro_batches]
    assert found == sizes


def about_two(place: int, lengths: Sequence[int], prompts: Sequence[int]) -> tuple[Place, ScoredGroup]:
    """A group whose last two completions are about the positive; `prompts` are the tokens of the three roles'."""
    group = scored_group(["a" * length for length in lengths], [1.0] + [0.0] * (len(lengths) - 1), place=place)
    asked = [ReadPrompt(scored_group(["a"], [1.0], prompt_tokens=tokens).rollout.prompt) for tokens in prompts]
    partners = {"positive": asked[1], "negative": asked[2], "from_positive": 2}
    return (0, place), replace(group, rollout=replace(group.rollout, prompt=asked[0].prompt, **partners))


def tokens_of(update: UpdateBatch) -> list[list[list[int]]]:
    """Of each micro-batch the lengths of its rows, and of those behind negatives."""
    return [
        [(rows.segments >= 0).sum(1).tolist() for rows in (entry.rows, entry.negative) if rows is not None]
        for entry in update.micro_batches
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # prompts of 5, 9 and 4 tokens, completions of 1, 2 and 3, 4: each prompt once, the negative's too
        ({}, [[5 + 3, 9 + 7], [4 + 10]]),
        ({"conditioning": "anchor"}, [[5 + 10], [4 + 10]]),
        ({"negatives": None}, [[5 + 3, 9 + 7]]),
        ({"every_group": True, "compare": "exact"}, [[5 + 3, 9 + 7], [4 + 1]]),
    ],
)
def test_a_group_has_a_row_for_each_photo(options, expected):
    plan = UpdatePlan(**{"negatives": "detached", "every_group": True} | options)
    (update,) = updates_of([about_two(0, [1, 2, 3, 4], [5, 9, 4])], plan, Ranks(), 0)
    assert tokens_of(update) == [expected]
    (entry,) = update.micro_batches
    if entry.negative is not None:
        assert entry.compared is not None
        assert torch.equal(entry.rows.target_ids[entry.compared], entry.negative.target_ids)


@pytest.mark.parametrize(
    ("budget", "negatives", "groups"),
    [
        # two rows of 16 as wide as the widest: 32 a group; with a row of 14 that is learned from, 48
        (64, "detached", [2, 2]),
        (63, "detached", [1, 1, 1, 1]),
        (64, "full", [1, 1, 1, 1]),
        (96, "full", [2, 2]),
    ],
)
def test_all_rows_that_are_in_memory_at_a_time_count_in_the_budget(budget, negatives, groups):
    plan = UpdatePlan(negatives=negatives, every_group=True, micro_batch_tokens=budget)
    (update,) = updates_of([about_two(place, [1, 2, 3, 4], [5, 9, 4]) for place in range(4)], plan, Ranks(), 0)
    assert [len(entry.rows.segments) // 2 for entry in update.micro_batches] == groups


@pytest.mark.parametrize("backend", ["split", "varlen"])
def test_loss_and_gradient_are_the_same_however_micro_batches_are_cut(backend):
    policy = tiny_policy()
    policy.prefix_backend, policy.varlen = backend, "loop"
    batch = prompt_batch(policy, ((1, 84), (2, 112), (1, 140), (1, 84)))
    replies = {f"u{n}": [RIGHT + " so" * n, WRONG * (1 + 3 * (n == 1)), LOOSE] for n in range(4)}

    def learned(budget: int) -> tuple[float, torch.Tensor, int]:
        reward = WeightedSum({"exact": Term(Exact())}).bind(TAXONOMY)
        made = Collector(
            Scripted(replies),
            TASK,
            reward,
            Sampling(group_size=3),
            Advantage(),
            UpdatePlan(every_group=True, micro_batch_tokens=budget),
            4,
        )
        (update,) = made.add(policy, batch).updates
        policy.zero_grad()
        total = 0.0
        for entry in update.micro_batches:
            logp, _ = policy.completion_logprobs(entry.rows)
            surrogate = policy_loss(logp, logp.detach(), entry.advantages, Clip(), entry.rows.target_sequence)
            loss = (entry.weights * (surrogate.values - logp)).sum()
            loss.backward()
            total += loss.item()
        gradient = torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])
        return total, gradient, len(update.micro_batches)

    whole, reference, one = learned(10**6)
    assert one == 1
    for budget, parts in ((1, 4), (150, None), (400, None)):
        loss, gradient, count = learned(budget)
        assert parts is None or count == parts
        assert loss == pytest.approx(whole, abs=1e-6)
        assert (gradient - reference).norm() <= 1e-5 * reference.norm()


@pytest.mark.parametrize("options", [{"updates": 0}, {"micro_batch_tokens": 0}])
def test_plans_of_nothing_are_refused(options):
    with pytest.raises(UserError, match="at least 1"):
        UpdatePlan(**options)
