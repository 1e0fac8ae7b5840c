"""Learning rates of parts of a policy: which weight has which, as AdamW's groups, in logs, and when a run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fgvr.errors import UserError
from fgvr.models import Policy
from fgvr.models.weight_names import ADAPTERS, PARTS, weights_meant

SETTING = "optimizer.rates"
REST = ""  # the name of the group of all weights that have no rate of their own


@dataclass(frozen=True)
class Group:
    """Trained weights, by their names in the policy, that share a rate: `name` is its key in the settings."""

    name: str
    rate: float
    weights: Mapping[str, nn.Parameter]


def groups_of(policy: Policy, lr: float, rates: Mapping[str, float]) -> list[Group]:
    """What is trained of the policy, each weight in one group: first those whose rate is `lr`, if there are any.

    A pattern goes before the part that its weights lie in. Raises UserError for a rate that no trained weight is left
    for, and for a weight that two patterns mean.
    """
    trained = dict(policy.trainable())
    meant = {
        key: {id(weight) for weight in weights.values()}
        for key, weights in weights_meant(policy.base, tuple(rates), SETTING).items()
    }
    own: dict[str, dict[str, nn.Parameter]] = {key: {} for key in (REST, *rates)}
    for name, weight in trained.items():
        keys = [key for key in meant if id(weight) in meant[key]]
        patterns = [key for key in keys if key not in PARTS]
        if len(patterns) > 1:
            raise UserError(
                f"a weight must have one rate, but {patterns[0]!r} and {patterns[1]!r} in {SETTING} both mean {name}: "
                "make one of them narrower, or take it out"
            )
        own[(patterns or keys or [REST])[0]][name] = weight
    for key in rates:
        if not own[key]:
            raise UserError(_in_vain(key, any(id(weight) in meant[key] for weight in trained.values()), policy))
    found = [Group(key, rates.get(key, lr), weights) for key, weights in own.items()]
    return [group for group in found if group.weights]


def _in_vain(key: str, trained: bool, policy: Policy) -> str:
    if trained:
        return (
            f"each rate in {SETTING} must be some weights' own, but patterns besides it mean all that {key!r} does: "
            "take it out"
        )
    why = "policy.freeze, or lets others be trained"
    if policy.config.lora is not None:
        why = "the adapters, which policy.lora.full or lora.exclude_vision false would let train"
    return (
        f"a rate in {SETTING} must be one of weights that are trained, but all that {key!r} means are frozen: take it "
        f"out, or change {why}"
    )


def parameter_groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as an optimizer takes them; a single one without a rate of its own is as plain as its weights."""
    if is_plain(groups):
        return [{"params": list(groups[0].weights.values())}]
    return [{"params": [*group.weights.items()], "lr": group.rate, "name": group.name} for group in groups]


def is_plain(groups: Sequence[Group]) -> bool:
    return [group.name for group in groups] == [REST]


def rates_now(optimizer: Any) -> dict[str, float]:
    """The rate of each group that has one of its own, as it is logged: lr/vision, lr/projector, ..."""
    groups = optimizer.param_groups
    return {f"lr/{group['name']}": group["lr"] for group in groups if group.get("name", REST) != REST}


def table_of_rates(policy: Policy, groups: Sequence[Group]) -> list[str]:
    """The lines of a table: of each part, how many of its weights are trained, how, and at which highest rate."""
    of_weight = {id(weight): group for group in groups for weight in group.weights.values()}
    rows = [("part", "weights", "trained", "as", "rate")]
    for part, weights in weights_meant(policy.base, PARTS, SETTING).items():
        rows += _rows_of_part(part, weights, of_weight)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = "<>><<"
    return [
        "  ".join(f"{cell:{how}{width}}" for cell, how, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in rows
    ]


def _rows_of_part(
    part: str, weights: Mapping[str, nn.Parameter], of_weight: Mapping[int, Group]
) -> Iterator[tuple[str, str, str, str, str]]:
    once = {id(weight): (name, weight) for name, weight in weights.items()}  # also one of two names
    counts: Counter[tuple[str, float, str]] = Counter()
    for key, (name, weight) in once.items():
        if (group := of_weight.get(key)) is not None:
            counts[group.name, group.rate, "adapters" if ADAPTERS in name else "whole"] += weight.numel()
    total = f"{sum(weight.numel() for _, weight in once.values()):,}"
    if not counts:
        yield part, total, "0", "frozen", ""
    for (name, rate, kind), count in counts.items():
        own = "" if name in (REST, part) else f" {name}"
        yield part, total, f"{count:,}", kind, f"{rate:g}{own}"
        part, total = "", ""


State = Mapping[str, Any]  # of an optimizer or of a schedule, as torch gives it


@dataclass(frozen=True)
class Former:
    """The state of an optimizer and of its schedule, kept with rates that may have been others.

    `trained` are the names of its weights in their order, for an optimizer that was kept without any.
    """

    optimizer: State
    schedule: State
    trained: Sequence[str]

    @property
    def groups(self) -> list[tuple[list[str], Mapping[str, Any]]]:
        """The names of the weights of each group, and its settings."""
        return [(list(group.get("param_names", self.trained)), group) for group in self.optimizer["param_groups"]]

    @property
    def rates(self) -> dict[str, float]:
        """Each weight's highest rate."""
        return {name: group["initial_lr"] for names, group in self.groups for name in names}

    def goes_on_as(self, groups: Sequence[Group]) -> bool:
        """Whether these are the groups and the rates that it was kept with."""
        return [(names, group["initial_lr"]) for names, group in self.groups] == [
            (list(group.weights), group.rate) for group in groups
        ]

    def under(self, groups: Sequence[Group], scale: Callable[[int], float]) -> tuple[State, State]:
        """Both states for these groups and their rates, of which `scale` says the share at a step.

        Each weight keeps what is known of it, by its name, and one that was not trained has none; whatever else the
        groups had stays as in the first of them.
        """
        numbers = {
            name: number for names, group in self.groups for name, number in zip(names, group["params"], strict=True)
        }
        kept, share = self.optimizer["state"], scale(self.schedule["last_epoch"])
        options = {key: value for key, value in self.groups[0][1].items() if key not in ("name", "param_names")}
        state: dict[int, Any] = {}
        laid_out: list[dict[str, Any]] = []
        for group in groups:
            first = sum(len(one["params"]) for one in laid_out)
            places = dict(zip(group.weights, range(first, first + len(group.weights)), strict=True))
            state |= {place: kept[numbers[name]] for name, place in places.items() if numbers.get(name) in kept}
            own: dict[str, Any] = {"lr": group.rate * share, "initial_lr": group.rate, "params": list(places.values())}
            if not is_plain(groups):
                own |= {"name": group.name, "param_names": list(places)}
            laid_out.append({**options, **own})
        rates = {"base_lrs": [group.rate for group in groups], "_last_lr": [one["lr"] for one in laid_out]}
        schedule = {**self.schedule, **rates, "lr_lambdas": [None] * len(groups)}
        return {**self.optimizer, "state": state, "param_groups": laid_out}, schedule

    def changes(self, groups: Sequence[Group]) -> str:
        """What `under` makes of it, in a sentence."""
        then = self.rates
        told: list[str] = []
        for group in groups:
            before = sorted({then[name] for name in group.weights if name in then})
            told.append(f"{group.name or 'the rest'} {group.rate:g} ({', '.join(f'{rate:g}' for rate in before)} then)")
        new = sum(name not in then for group in groups for name in group.weights)
        gone = len(then.keys() - {name for group in groups for name in group.weights})
        besides = f"; {new} weights were not trained then, {gone} are not now" if new or gone else ""
        return f"The highest rates are no longer those of the checkpoint: {', '.join(told)}{besides}."
