"""Scored groups as optimiser steps: which completions are learned from, with which weight, in which micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fgvr.errors import UserError
from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.packing import padded_tokens, token_budget_batches
from fgvr.objectives import Reduction, loss_weights
from fgvr.ranks import Ranks
from fgvr.types import RolloutRows, ScoredGroup, UpdateBatch

Place = tuple[int, int]  # the batch that a group was sampled in, and where in the epoch's order its prompt stands


@dataclass(frozen=True)
class UpdatePlan:
    """How groups become updates.

    `reduction` is that of `loss_weights`, `length` its constant, in tokens. `updates` optimiser steps share the groups
    of all ranks evenly, in the order of their places, so that a step holds the same groups on any number of ranks. With
    `mask_truncated` a completion that was cut off is neither learned from nor counted. `every_group` says that
    completions of advantage 0 are computed too, because something other than the advantage (a KL term, an entropy term)
    learns from them; else they only count in the mean. A micro-batch holds whole groups, of which at most
    `micro_batch_tokens` tokens are computed, padding included; a larger group is one of its own. Raises UserError below
    1.
    """

    reduction: Reduction = "token"
    length: int | None = None
    updates: int = 1
    mask_truncated: bool = False
    every_group: bool = False
    micro_batch_tokens: int = 8192

    def __post_init__(self) -> None:
        if self.updates < 1 or self.micro_batch_tokens < 1:
            raise UserError(
                f"updates and micro_batch_tokens must be at least 1, got {self.updates} and {self.micro_batch_tokens}"
            )


@dataclass(frozen=True)
class _Learned:
    """A group with the completions that count in the mean, and those of them that are computed."""

    group: ScoredGroup
    counted: list[int]
    computed: list[int]

    def lengths(self, numbers: Sequence[int]) -> list[int]:
        return [len(self.group.rollout.completions[n].ids) for n in numbers]


def updates_of(
    groups: Sequence[tuple[Place, ScoredGroup]], plan: UpdatePlan, ranks: Ranks, padding_token: int, padded: bool = True
) -> list[UpdateBatch]:
    """One batch per optimiser step, of this rank's groups in it; weights are normalised over all ranks.

    `groups` come with their places, which are their own over all ranks. Every rank gets as many batches, an empty one
    where it has no group in it; a step that no rank has a completion for is left out. `padded` says whether groups are
    computed as rows as long as the longest, or without padding. A collective call.
    """
    steps = _steps_of([place for place, _ in groups], plan.updates, ranks)
    learned = [_learned(group, plan) for _, group in sorted(groups, key=lambda placed: placed[0])]
    batches: list[UpdateBatch] = []
    for step in range(plan.updates):
        part = [entry for entry, own in zip(learned, steps, strict=True) if own == step]
        counts = [length for entry in part for length in entry.lengths(entry.counted)]
        tokens, sequences = ranks.total([sum(counts), len(counts)])
        if not sequences:
            continue
        weigh = {"tokens": int(tokens), "sequences": int(sequences), "world": ranks.world, "length": plan.length}
        part = [entry for entry in part if entry.computed]
        sizes = [len(e.group.rollout.prompt.input_ids) + sum(e.lengths(e.computed)) for e in part]
        cut = token_budget_batches(sizes, plan.micro_batch_tokens, padded_tokens if padded else sum)
        batches.append(UpdateBatch([_rows([part[i] for i in chosen], plan, weigh, padding_token) for chosen in cut]))
    return batches


def _steps_of(own: Sequence[Place], updates: int, ranks: Ranks) -> list[int]:
    """For each of this rank's places, in order, the optimiser step that it belongs to. A collective call.

    Steps are stretches of the order over all ranks: these hold neighbouring places, so that each has its share of a
    stretch, and nothing need be sent from one to another.
    """
    places = sorted(ranks.gather(list(own)))
    step = {place: number * updates // len(places) for number, place in enumerate(places)}
    return [step[place] for place in sorted(own)]


def _learned(group: ScoredGroup, plan: UpdatePlan) -> _Learned:
    missing, worth = group.rewards.isnan().tolist(), group.advantages.tolist()
    counted = [
        number
        for number, completion in enumerate(group.rollout.completions)
        if (worth[number] != 0 or not missing[number]) and not (plan.mask_truncated and completion.truncated)
    ]
    return _Learned(group, counted, [n for n in counted if plan.every_group or worth[n] != 0])


def _rows(
    entries: Sequence[_Learned], plan: UpdatePlan, counts: dict[str, int | None], padding_token: int
) -> RolloutRows:
    rollouts = [entry.group.rollout for entry in entries]
    completions = [[e.group.rollout.completions[n].ids for n in e.computed] for e in entries]
    rows = pack_groups([r.prompt for r in rollouts], completions, [r.features for r in rollouts], padding_token)
    sampled = torch.cat([e.group.rollout.completions[n].logprobs for e in entries for n in e.computed])
    worth = torch.cat([entry.group.advantages[entry.computed] for entry in entries])
    weights = loss_weights(rows.target_sequence, plan.reduction, **counts)  # pyright: ignore[reportArgumentType]
    return RolloutRows(rows, worth[rows.target_sequence], weights, sampled)
