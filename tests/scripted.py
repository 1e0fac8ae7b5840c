"""Rollouts without chance: what each prompt is answered is written down beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fgvr.data.tasks import OpenWorld
from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.rollouts import RolloutEngine
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Completion, PromptBatch, ReadPrompt, RolloutGroup

TAXONOMY = Taxonomy(
    {name: ("Finch", name) for name in ("Azure Finch", "Amber Finch")} | {"Jade Owl": ("Owl", "Jade Owl")},
    ("family", "species"),
    "bird",
)
TASK = OpenWorld().bind(TAXONOMY)
RIGHT, WRONG, LOOSE = "<answer>Azure Finch</answer>", "<answer>Jade Owl</answer>", "Azure Finch it is"


class Scripted(RolloutEngine):
    """Gives every uid its replies. A reply that ends in "…" was cut off there; an empty one has no token at all.

    Log-probs are those of the policy, as an engine's must be.
    """

    def __init__(self, replies: Mapping[str, Sequence[str]]) -> None:
        self.replies, self.synced, self.seeds = dict(replies), 0, []

    def sync(self, policy: Policy) -> None:
        self.synced += 1

    def sample(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        self.seeds += list(seeds)
        return [self._group(policy, batch, number, sampling) for number in range(len(batch.examples))]

    def _group(self, policy: Policy, batch: PromptBatch, number: int, sampling: Sampling) -> RolloutGroup:
        """The last of the replies are those about the positive, where there is one."""
        example, rows = batch.examples[number], batch.rows_of(number)
        read = {role: ReadPrompt(batch.prompt(row)) for role, row in rows.items()}
        return RolloutGroup(
            example,
            batch.places[number],
            read["anchor"].prompt,
            [_completion(policy, text) for text in self.replies[example.uid]],
            None,
            read.get("positive"),
            read.get("negative"),
            sampling.positives if "positive" in rows else 0,
        )


def _completion(policy: Policy, text: str) -> Completion:
    cut = text.endswith("…")
    shown = text.removesuffix("…")
    ids = policy.processor.encode_text(shown) if cut or not shown else policy.processor.encode_target(shown)
    return Completion(torch.tensor(ids, dtype=torch.long), torch.zeros(len(ids)), cut, shown)
