"""Sampling with the policy itself: each prompt is read once, then all its completions are written side by side.

Shape legend: B prompts, G completions of each, L longest completion, V vocabulary, b and s the prompts and completions
of each that are still being written, M rows, K draws from a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fgvr.errors import UserError
from fgvr.kernels.group_decoding import GroupCache
from fgvr.kernels.group_packing import join_images, split_features
from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.rollouts.engine import RolloutEngine
from fgvr.types import Completion, EncodedPrompt, PromptBatch, RolloutGroup

SHRINK_AT = 0.75  # rows still needed, as a share of those computed, under which the others are cut away


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
        """Each prompt's row in the batch with its group, as soon as all of its completions have ended."""
        if len(seeds) != len(batch.examples):
            raise ValueError(f"every prompt needs its seed, got {len(seeds)} for {len(batch.examples)} prompts")
        at_a_time = max(1, self.max_rows // sampling.group_size)
        was_training = policy.training
        policy.eval()
        try:
            for start in range(0, len(seeds), at_a_time):
                yield from _sample(policy, batch, range(len(seeds))[start : start + at_a_time], sampling, seeds)
        finally:
            policy.train(was_training)


def _sample(
    policy: Policy, batch: PromptBatch, rows: range, sampling: Sampling, seeds: Sequence[int]
) -> Iterator[tuple[int, RolloutGroup]]:
    prompts = [batch.prompt(row) for row in rows]
    features = policy.image_features(join_images([prompt.images for prompt in prompts]))
    lengths = torch.tensor([len(prompt.input_ids) for prompt in prompts], device=batch.input_ids.device)
    cache = GroupCache(lengths, sampling.group_size, sampling.max_new_tokens)
    hidden = policy.read_prompts(prompts, features, cache)
    carried = [None] * len(prompts)
    if policy.fixed_features:
        image = policy.processor.image_token
        carried = split_features(features, [int((prompt.input_ids == image).sum()) for prompt in prompts])
    for at, completions in _write(policy, prompts, hidden, cache, sampling, [seeds[row] for row in rows]):
        row = rows[at]
        yield row, RolloutGroup(batch.examples[row], batch.places[row], prompts[at], completions, carried[at])


@dataclass
class _Written:
    """What has been written: ids and log-probs [B G L], lengths and whether an end token was reached [B G]."""

    ids: Tensor
    logprobs: Tensor
    lengths: Tensor
    ended: Tensor

    def group(self, policy: Policy, prompt: int) -> list[Completion]:
        written, logprobs = self.ids[prompt].cpu(), self.logprobs[prompt].cpu()
        completions: list[Completion] = []
        facts = zip(self.lengths[prompt].tolist(), self.ended[prompt].tolist(), strict=True)
        for number, (length, ended) in enumerate(facts):
            ids = written[number, :length].clone()
            text = policy.processor.decode(ids.tolist())
            completions.append(Completion(ids, logprobs[number, :length].clone(), not ended, text))
        return completions


def _write(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    hidden: Tensor,
    cache: GroupCache,
    sampling: Sampling,
    seeds: Sequence[int],
) -> Iterator[tuple[int, list[Completion]]]:
    """Each prompt's number with its completions, in the order in which they are finished."""
    shape, device = (len(prompts), sampling.group_size, sampling.max_new_tokens), hidden.device
    ends = torch.tensor(policy.processor.eos_token_ids, device=device)
    after = torch.stack([prompt.positions.max() + 1 for prompt in prompts])  # [B]
    chances = torch.stack([_chances(seed, shape[1:]) for seed in seeds]).to(device)  # [B G L]
    done = _Written(
        torch.zeros(shape, dtype=torch.long, device=device),
        torch.zeros(shape, device=device),
        torch.full(shape[:2], shape[2], device=device),
        torch.zeros(shape[:2], dtype=torch.bool, device=device),
    )
    left = torch.arange(shape[0], device=device)  # [b]
    slots = torch.arange(shape[1], device=device).expand(shape[:2])  # [b s]
    broken = torch.zeros((), dtype=torch.bool, device=device)
    open_ = set(range(shape[0]))
    for step in range(shape[2]):
        logprobs = policy.next_logprobs(hidden, sampling.temperature)  # of the prompts, then of every completion
        at = left[:, None], slots
        broken |= logprobs[:, 0].isnan().any()  # one NaN logit makes its whole row NaN
        chance = chances[(*at, step)].view(len(logprobs), -1)
        tokens = draw(logprobs, chance)
        done.ids[(*at, step)] = tokens.view(slots.shape)
        done.logprobs[(*at, step)] = logprobs.gather(1, tokens).float().view(slots.shape)
        ends_now = torch.isin(tokens, ends).view(slots.shape) & ~done.ended[at]
        done.lengths[at] = torch.where(ends_now, step + 1, done.lengths[at])
        done.ended[at] |= ends_now
        writing = ~done.ended[at]
        last = step + 1 == shape[2]
        still = set() if last else set(left[writing.any(1)].tolist())
        if open_ > still:
            _refuse_if_broken(broken)
            for prompt in sorted(open_ - still):
                yield prompt, done.group(policy, prompt)
            open_ = still
        if not open_:
            return
        tokens = tokens.view(slots.shape)
        prompts_left, chosen = _still_needed(writing)
        if chosen is not None:
            cache.keep(prompts_left, chosen)
            left, slots, tokens = (
                left[prompts_left],
                _pick(slots, prompts_left, chosen),
                _pick(tokens, prompts_left, chosen),
            )
        positions = (after[left] + step)[:, None].expand(slots.shape)
        hidden = policy.read_tokens(tokens.flatten(), positions.flatten(), cache)


def _refuse_if_broken(broken: Tensor) -> None:
    if bool(broken):
        raise UserError(
            "the policy's log-probs must be numbers, but some were NaN while sampling: its weights are broken, or the "
            "temperature is too low; go back to an earlier checkpoint, or lower the learning rate"
        )


def draw(logprobs: Tensor, chance: Tensor) -> Tensor:
    """The tokens [M K] at which the cumulative probability of each row [M V] passes `chance` [M K], which is in [0, 1).

    A token of probability 0 is never drawn.
    """
    cumulative = logprobs.double().exp_().cumsum_(-1)
    total = cumulative[:, -1:]
    below = torch.minimum(chance * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True).clamp_(max=cumulative.shape[-1] - 1)


def _chances(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _still_needed(writing: Tensor) -> tuple[Tensor, Tensor | None]:
    """Which prompts and completions of each to go on with; None for the latter while cutting would save too little.

    Every prompt keeps as many as the one that needs most, so that rows stay a rectangle.
    """
    counts = writing.sum(1)
    prompts = counts.nonzero().flatten()
    most = int(counts.max())
    if len(prompts) * most > SHRINK_AT * writing.numel():
        return prompts, None
    order = writing[prompts].int().argsort(dim=1, descending=True, stable=True)
    return prompts, order[:, :most]


def _pick(values: Tensor, prompts: Tensor, slots: Tensor) -> Tensor:
    return values[prompts].gather(1, slots)
