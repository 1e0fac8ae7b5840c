"""What samples completions: token ids in, token ids out, never text in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.types import PromptBatch, RolloutGroup


class RolloutEngine(ABC):
    """A sampler of groups. One that holds a copy of the weights is told by `sync` when they have changed."""

    def sync(self, policy: Policy) -> None:
        """Brings the engine's own copy of the weights up to date; nothing to do where it has none."""
        return

    @abstractmethod
    def sample(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group per example, in order; completions depend on weights, their prompt and its own seed alone.

        `seeds` has one for each row of the batch. Where an example has a positive, the last `sampling.positives`
        completions of its group are answers to that prompt. Log-probs are those of the distribution sampled from: at
        `sampling.temperature`, without vision tokens. Every end token of the model ends a completion and belongs to it.
        """

    def stream(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[RolloutGroup]:
        """The groups of `sample`, each as soon as it is finished, in any order, so that it can be scored meanwhile."""
        yield from self.sample(policy, batch, sampling, seeds)
