"""Sampling with the policy itself: each prompt is read once, then all its completions are written side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from fgvr.errors import UserError
from fgvr.kernels.group_packing import join_features, join_images, split_features
from fgvr.models import Policy
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import Written
from fgvr.rollouts.engine import RolloutEngine
from fgvr.types import Completion, ImageFeatures, PromptBatch, ReadPrompt, Role, RolloutGroup
from fgvr.watchdog.beats import beat


class InProcess(RolloutEngine):
    """Samples from the very weights that are trained, so there is nothing to sync.

    As many prompts are answered at a time as have at most `max_rows` completions together, but one at the least, with
    its whole group: the memory for keys and values grows with these. Finished completions leave the batch. Each
    completion's random numbers come from its prompt's seed, whatever the other prompts are and however rows are
    batched. In float32 it is then a function of weights, prompt and seed. In half precision it need not be: products of
    another shape are rounded in other places, and where two tokens are all but equal completions part. Raises UserError
    when `max_rows` is below 1.
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
        """Each example's number in the batch with its group, soon after the last of its completions has ended."""
        if len(seeds) != len(batch.roles):
            raise ValueError(f"every prompt needs its seed, got {len(seeds)} for {len(batch.roles)} prompts")
        if not seeds:
            return
        at_a_time = max(1, self.max_rows // sampling.group_size)
        was_training = policy.training
        policy.eval()
        try:
            decoder = policy.decoder()  # of weights that no step changes meanwhile
            for start in range(0, len(batch.examples), at_a_time):
                chosen = range(len(batch.examples))[start : start + at_a_time]
                for numbered in _Sheet(policy, decoder, batch, chosen, sampling).groups(seeds):
                    beat()
                    yield numbered
        finally:
            policy.train(was_training)


class _Sheet:
    """Some examples of a batch, whose completions are written side by side, as many of each prompt as of the next."""

    def __init__(
        self, policy: Policy, decoder: Decoder, batch: PromptBatch, numbers: Sequence[int], sampling: Sampling
    ) -> None:
        self.policy, self.decoder, self.batch, self.sampling = policy, decoder, batch, sampling
        self.rows = {number: _needed(batch.rows_of(number), sampling) for number in numbers}
        self.counts = {number: _counts(rows, sampling) for number, rows in self.rows.items()}
        self.prompts = {row: batch.prompt(row) for rows in self.rows.values() for row in rows.values()}
        self.features = self._read()

    def _read(self) -> dict[int, ImageFeatures]:
        """What the tower makes of each prompt's images, the negatives' too where that holds until the update."""
        answered = [
            self.rows[number][role] for number, counts in self.counts.items() for role, count in counts.items() if count
        ]
        read = sorted(self.prompts) if self.policy.fixed_features else sorted(answered)
        image = self.policy.processor.image_token
        features = self.policy.image_features(join_images([self.prompts[row].images for row in read]))
        tokens = [int((self.prompts[row].input_ids == image).sum()) for row in read]
        return dict(zip(read, split_features(features, tokens), strict=True))

    def groups(self, seeds: Sequence[int]) -> Iterator[tuple[int, RolloutGroup]]:
        """Each group as soon as it is finished; `seeds` are those of the batch's rows."""
        written: dict[int, dict[Role, list[Completion]]] = {number: {} for number in self.rows}
        for count in sorted({count for counts in self.counts.values() for count in counts.values() if count}):
            asked: list[tuple[int, Role]] = [
                (number, role) for number, counts in self.counts.items() for role, own in counts.items() if own == count
            ]
            rows = [self.rows[number][role] for number, role in asked]
            for at, completions in self.policy.write(
                self.decoder,
                [self.prompts[row] for row in rows],
                join_features([self.features[row] for row in rows]),
                replace(self.sampling, group_size=count, positives=0),
                [seeds[row] for row in rows],
            ):
                number, role = asked[at]
                written[number][role] = [_completion(self.policy, one) for one in completions]
                if sum(map(len, written[number].values())) == self.sampling.group_size:
                    yield number, self._group(number, written[number])

    def _group(self, number: int, written: Mapping[Role, list[Completion]]) -> RolloutGroup:
        rows, of_positive = self.rows[number], written.get("positive", [])
        read: dict[Role, ReadPrompt] = {role: self._carried(row) for role, row in rows.items()}
        return RolloutGroup(
            self.batch.examples[number],
            self.batch.places[number],
            read["anchor"].prompt,
            [*written.get("anchor", []), *of_positive],
            read["anchor"].features,
            read.get("positive"),
            read.get("negative"),
            len(of_positive),
        )

    def _carried(self, row: int) -> ReadPrompt:
        return ReadPrompt(self.prompts[row], self.features[row] if self.policy.fixed_features else None)


def _needed(rows: Mapping[Role, int], sampling: Sampling) -> dict[Role, int]:
    """Without the positive's where nothing is asked about it."""
    return {role: row for role, row in rows.items() if role != "positive" or sampling.positives}


def _counts(rows: Mapping[Role, int], sampling: Sampling) -> dict[Role, int]:
    """How many completions an example's prompts get; without a positive its own gets them all."""
    of_positive = sampling.positives if "positive" in rows else 0
    return {"anchor": sampling.group_size - of_positive, "positive": of_positive}


def _completion(policy: Policy, written: Written) -> Completion:
    assert written.logprobs is not None  # they were drawn
    text = policy.processor.decode(written.ids.tolist())
    return Completion(written.ids, written.logprobs.float(), not written.ended, text)
