"""Scored groups as optimiser steps: which completions are learned from, with which weight, in which micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from fgvr.errors import UserError
from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.packing import padded_so_far, token_budget_batches
from fgvr.objectives import Reduction, loss_weights
from fgvr.ranks import Ranks
from fgvr.types import GroupRows, ReadPrompt, RolloutRows, ScoredGroup, UpdateBatch

Conditioning = Literal["own", "anchor"]
Negatives = Literal["detached", "full"]
Place = tuple[int, int]  # the batch that a group was sampled in, and where in the epoch's order its prompt stands
_Row = tuple[ReadPrompt, list[int]]  # a prompt, and the numbers of the completions behind it


@dataclass(frozen=True)
class UpdatePlan:
    """How groups become updates.

    `reduction` is that of `loss_weights`, `length` its constant, in tokens. `updates` optimiser steps share the groups
    of all ranks evenly, in the order of their places, so that a step holds the same groups on any number of ranks. With
    `mask_truncated` a completion that was cut off is neither learned from nor counted. `every_group` says that
    completions of advantage 0 are computed too, because something other than the advantage (a KL term, an entropy term)
    learns from them; else they only count in the mean. A micro-batch holds whole groups, of which at most
    `micro_batch_tokens` tokens are computed, padding included where there is any; a larger group is one of its own.

    A completion is packed behind the prompt it was sampled from, or with `conditioning` "anchor" behind its example's
    own. With `negatives` all that are computed, or those whose component `compare` is above 0, are packed behind their
    group's negative too; "full" says that these rows are learned from, so that they count in `micro_batch_tokens`.
    Raises UserError below 1.
    """

    reduction: Reduction = "token"
    length: int | None = None
    updates: int = 1
    mask_truncated: bool = False
    every_group: bool = False
    micro_batch_tokens: int = 8192
    conditioning: Conditioning = "own"
    negatives: Negatives | None = None
    compare: str | None = None

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

    def rows(self, plan: UpdatePlan) -> list[_Row]:
        """What is computed, by the prompts it is packed behind; the order of the completions stays."""
        rollout = self.group.rollout
        of_positive = [n for n in self.computed if plan.conditioning == "own" and rollout.role_of(n) == "positive"]
        rows = [(ReadPrompt(rollout.prompt, rollout.features), self.computed[: len(self.computed) - len(of_positive)])]
        if rollout.positive is not None:
            rows.append((rollout.positive, of_positive))
        return [row for row in rows if row[1]]

    def compared(self, plan: UpdatePlan) -> list[int]:
        """The completions that are computed behind the negative's prompt as well."""
        if plan.negatives is None or self.group.rollout.negative is None:
            return []
        right = None if plan.compare is None else self.group.components[plan.compare]
        return [n for n in self.computed if right is None or right[n] > 0]

    def negative_rows(self, plan: UpdatePlan) -> list[_Row]:
        negative, numbers = self.group.rollout.negative, self.compared(plan)
        return [] if negative is None or not numbers else [(negative, numbers)]

    def sizes(self, plan: UpdatePlan) -> list[int]:
        """The lengths of the rows that are in memory at the same time."""
        rows = self.rows(plan) + (self.negative_rows(plan) if plan.negatives == "full" else [])
        return [len(read.prompt.input_ids) + sum(self.lengths(numbers)) for read, numbers in rows]

    def sampled(self, number: int, plan: UpdatePlan) -> Tensor:
        """The engine's log-probs, NaN where the completion is packed behind another prompt."""
        logprobs = self.group.rollout.completions[number].logprobs
        elsewhere = plan.conditioning == "anchor" and self.group.rollout.role_of(number) == "positive"
        return torch.full_like(logprobs, torch.nan) if elsewhere else logprobs


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
        cut = _cut([entry.sizes(plan) for entry in part], plan.micro_batch_tokens, padded)
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


def _cut(sizes: Sequence[Sequence[int]], budget: int, padded: bool) -> list[list[int]]:
    """Micro-batches of groups, given the lengths of each one's rows."""
    if not padded:
        return token_budget_batches([sum(rows) for rows in sizes], budget, accumulate)
    each = max(map(len, sizes), default=1)
    widths = [max(rows) for rows in sizes]
    return token_budget_batches(widths, budget, lambda some: (each * size for size in padded_so_far(some)))


def _rows(
    entries: Sequence[_Learned], plan: UpdatePlan, counts: dict[str, int | None], padding_token: int
) -> RolloutRows:
    rows = _packed(entries, [entry.rows(plan) for entry in entries], padding_token)
    sampled = torch.cat([entry.sampled(n, plan) for entry in entries for n in entry.computed])
    worth = torch.cat([entry.group.advantages[entry.computed] for entry in entries])
    weights = loss_weights(rows.target_sequence, plan.reduction, **counts)  # pyright: ignore[reportArgumentType]
    made = RolloutRows(rows, worth[rows.target_sequence], weights, sampled)
    negatives = [entry.negative_rows(plan) for entry in entries]
    if not any(negatives):
        return made
    compared = torch.tensor([n in entry.compared(plan) for entry in entries for n in entry.computed])
    negative = _packed(entries, negatives, padding_token)
    return replace(made, negative=negative, compared=compared[rows.target_sequence])


def _packed(entries: Sequence[_Learned], rows: Sequence[Sequence[_Row]], padding_token: int) -> GroupRows:
    placed = [
        (read, [entry.group.rollout.completions[n].ids for n in numbers])
        for entry, own in zip(entries, rows, strict=True)
        for read, numbers in own
    ]
    prompts, completions = [read.prompt for read, _ in placed], [ids for _, ids in placed]
    return pack_groups(prompts, completions, [read.features for read, _ in placed], padding_token)
