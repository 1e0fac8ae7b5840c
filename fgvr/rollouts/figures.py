"""What a rollout batch looked like: sums over all ranks first, shares and means of them after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fgvr.objectives import sampled_entropy, zero_variance
from fgvr.types import Role, ScoredGroup

SUMMED = "judge/"


@dataclass
class Found:
    """This rank's counts of everything sampled for one rollout batch, whether it is learned from or not.

    All but `empty` (completions without a token) and `faulty` (scores that are no number) count groups; those that are
    `cut_off` hold no completion that ended by itself. `rows` hold per completion its length in tokens, whether it was
    cut off and whether it parsed, its surprise (nats), its reward and each component (NaN where missing); `spreads` per
    group the deviation of its rewards and whether they were all equal. `tally` is what the rewards counted.
    """

    tries: int = 0
    groups: int = 0
    uninformative: int = 0
    unscorable: int = 0
    surplus: int = 0
    empty: int = 0
    cut_off: int = 0
    faulty: int = 0
    tally: Counter[str] = field(default_factory=Counter[str])
    names: list[str] = field(default_factory=list[str])
    rows: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])
    spreads: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    roles: list[Role] = field(default_factory=list[Role])
    wanted: tuple[Role, ...] = ()
    without_positive: int = 0
    without_negative: int = 0

    def count(self, group: ScoredGroup) -> None:
        self.groups += 1
        self.without_positive += group.rollout.positive is None
        self.without_negative += group.rollout.negative is None
        self.roles.extend(group.rollout.role_of(n) for n in range(len(group.rollout.completions)))
        self.cut_off += all(completion.truncated for completion in group.rollout.completions)
        self.names = list(group.components)
        components = torch.stack([group.rewards, *group.components.values()]).T.tolist()
        for completion, answer, values in zip(group.rollout.completions, group.answers, components, strict=True):
            facts = float(len(completion.ids)), float(completion.truncated), float(answer is not None)
            surprise = float(sampled_entropy(completion.logprobs).sum())
            self.rows.append((*facts, surprise, *values))
        present = group.rewards[~group.rewards.isnan()]
        if len(present):
            deviation = float(present.std()) if len(present) > 1 else 0.0
            self.spreads.append((deviation, float(zero_variance(group.rewards[None]))))


def figures_of(
    found: Found, learned: Sequence[ScoredGroup], gather: Callable[[list[Any]], list[Any]]
) -> dict[str, float]:
    """Every figure under the name it is logged by, over all ranks; TRL's names where it has them. A collective call."""
    parts: list[tuple[Found, int]] = gather([(found, len(learned))])
    every = [part for part, _ in parts]
    rows = torch.tensor([row for part in every for row in part.rows], dtype=torch.float64)
    spreads = torch.tensor([pair for part in every for pair in part.spreads], dtype=torch.float64)
    names = next((part.names for part in every if part.names), [])
    counted = {
        name: float(sum(getattr(part, name) for part in every))
        for name in ("groups", "uninformative", "unscorable", "surplus", "empty", "cut_off", "faulty")
    }
    figures = {f"rollouts/{name}": value for name, value in counted.items()}
    tally = Counter[str]()
    for part in every:
        tally.update(part.tally)  # unlike a sum of counters, this keeps zeros
    figures |= _of_tally(tally)
    for role in found.wanted:
        figures[f"triplets/without_{role}"] = float(sum(getattr(part, f"without_{role}") for part in every))
    figures |= {"rollouts/kept": float(sum(kept for _, kept in parts)), "rollouts/tries": float(found.tries)}
    if len(rows) == 0:
        return figures
    lengths = rows[:, 0]
    figures |= {
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(rows[:, 1].mean()),
        "completions/parsed": float(rows[:, 2].mean()),
        "rollouts/tokens": float(lengths.sum()),
        "entropy": float(rows[:, 3].sum() / lengths.sum().clamp(min=1)),
        "rollouts/missing": float(rows[:, 4].isnan().sum()),
        "reward": _mean(rows[:, 4]),
    }
    if len(spreads):
        figures |= {"reward_std": float(spreads[:, 0].mean()), "frac_reward_zero_std": float(spreads[:, 1].mean())}
    for number, name in enumerate(names, start=5):
        figures |= {f"rewards/{name}/mean": _mean(rows[:, number]), f"rewards/{name}/std": _std(rows[:, number])}
    return figures if "positive" not in found.wanted else figures | _by_role(every, rows, ["reward", *names])


def _by_role(every: Sequence[Found], rows: Tensor, names: Sequence[str]) -> dict[str, float]:
    """The mean reward and component of the completions about either photo, as `triplets/reward/anchor` and so on."""
    roles = [role for part in every for role in part.roles]
    figures: dict[str, float] = {}
    for role in ("anchor", "positive"):
        own = rows[[number for number, of in enumerate(roles) if of == role]]
        if len(own):
            figures |= {f"triplets/{name}/{role}": _mean(own[:, n]) for n, name in enumerate(names, start=4)}
    return figures


def _of_tally(counts: Counter[str]) -> dict[str, float]:
    """Counts of "judge/..." as they are, all others as shares of those that have their first part in common."""
    groups: Counter[str] = Counter()
    for name, count in counts.items():
        groups[name.partition("/")[0]] += count
    wholes = {name: 1 if name.startswith(SUMMED) else groups[name.partition("/")[0]] for name in counts}
    return {name: count / max(wholes[name], 1) for name, count in sorted(counts.items())}


def _mean(values: Tensor) -> float:
    present = values[~values.isnan()]
    return float(present.mean()) if len(present) else math.nan


def _std(values: Tensor) -> float:
    present = values[~values.isnan()]
    return float(present.std()) if len(present) > 1 else 0.0
