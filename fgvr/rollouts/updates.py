"""Scored groups as optimiser steps: which completions are learned from, with which weight, in which micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fgvr.errors import UserError
from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.packing import token_budget_batches
from fgvr.objectives import Reduction, loss_weights
from fgvr.types import RolloutRows, ScoredGroup, UpdateBatch


@dataclass(frozen=True)
class UpdatePlan:
    """How groups become updates.

    `reduction` is that of `loss_weights`, `length` its constant, in tokens. `updates` optimiser steps share the groups.
    With `mask_truncated` a completion that was cut off is neither learned from nor counted. `every_group` says that
    completions of advantage 0 are computed too, because something other than the advantage (a KL term, an entropy term)
    learns from them; else they only count in the mean. A micro-batch holds whole groups, about `micro_batch_tokens`
    tokens of them. Raises UserError below 1.
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
    groups: Sequence[ScoredGroup],
    plan: UpdatePlan,
    total: Callable[[Sequence[float]], list[float]],
    world: int,
    padding_token: int,
) -> list[UpdateBatch]:
    """One batch per optimiser step; weights are normalised over all ranks, with `total` to sum counts over them.

    Every rank gets as many batches, an empty one where it has no groups left; a step that no rank has a completion for
    is left out. A collective call.
    """
    learned = [_learned(group, plan) for group in groups]
    batches: list[UpdateBatch] = []
    for number in range(plan.updates):
        part = learned[number :: plan.updates]
        counts = [length for entry in part for length in entry.lengths(entry.counted)]
        tokens, sequences = total([sum(counts), len(counts)])
        if not sequences:
            continue
        weigh = {"tokens": int(tokens), "sequences": int(sequences), "world": world, "length": plan.length}
        part = [entry for entry in part if entry.computed]
        sizes = [len(e.group.rollout.prompt.input_ids) + sum(e.lengths(e.computed)) for e in part]
        cut = token_budget_batches(sizes, plan.micro_batch_tokens)
        batches.append(UpdateBatch([_rows([part[i] for i in chosen], plan, weigh, padding_token) for chosen in cut]))
    return batches


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
