"""Sampling with the policy itself: each prompt is read once, then all its completions are written side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from fgvr.errors import UserError
from fgvr.kernels.group_packing import join_images, split_features
from fgvr.models import Policy
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import Written
from fgvr.rollouts.engine import RolloutEngine
from fgvr.types import Completion, PromptBatch, RolloutGroup


class InProcess(RolloutEngine):
    """Samples from the very weights that are trained, so there is nothing to sync.

    At most `max_rows` completions are written at a time, which bounds the memory for their keys and values. Finished
    completions leave the batch. Each completion's random numbers come from its prompt's seed, so that they depend
    neither on the other prompts nor on how rows are batched. Raises UserError when `max_rows` is below 1.
    """

    def __init__(self, max_rows: int = 512) -> None:
        if max_rows < 1:
            raise UserError(f"max_rows must be at least 1, got {max_rows}")
        self.max_rows = max_rows

    def sample(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        return [group for _, group in sorted(self._rows(policy, batch, sampling, seeds), key=lambda found: found[0])]

    def stream(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[RolloutGroup]:
        yield from (group for _, group in self._rows(policy, batch, sampling, seeds))

    @torch.no_grad()
    def _rows(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[tuple[int, RolloutGroup]]:
        """Each prompt's row in the batch with its group, soon after the last of its completions has ended."""
        if len(seeds) != len(batch.examples):
            raise ValueError(f"every prompt needs its seed, got {len(seeds)} for {len(batch.examples)} prompts")
        if not seeds:
            return
        at_a_time = max(1, self.max_rows // sampling.group_size)
        was_training = policy.training
        policy.eval()
        try:
            decoder = policy.decoder()  # of weights that no step changes meanwhile
            for start in range(0, len(seeds), at_a_time):
                rows = range(len(seeds))[start : start + at_a_time]
                yield from _sample(policy, decoder, batch, rows, sampling, [seeds[row] for row in rows])
        finally:
            policy.train(was_training)


def _sample(
    policy: Policy, decoder: Decoder, batch: PromptBatch, rows: range, sampling: Sampling, seeds: Sequence[int]
) -> Iterator[tuple[int, RolloutGroup]]:
    prompts = [batch.prompt(row) for row in rows]
    features = policy.image_features(join_images([prompt.images for prompt in prompts]))
    carried = [None] * len(prompts)
    if policy.fixed_features:
        image = policy.processor.image_token
        carried = split_features(features, [int((prompt.input_ids == image).sum()) for prompt in prompts])
    for at, written in policy.write(decoder, prompts, features, sampling, seeds):
        row = rows[at]
        completions = [_completion(policy, one) for one in written]
        yield row, RolloutGroup(batch.examples[row], batch.places[row], prompts[at], completions, carried[at])


def _completion(policy: Policy, written: Written) -> Completion:
    text = policy.processor.decode(written.ids.tolist())
    return Completion(written.ids, written.logprobs.float(), not written.ended, text)
