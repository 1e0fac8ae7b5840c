"""The options that a run trains on after it has mined them anew, kept so that a run that goes on has the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fgvr.datamodules.optioned import Optioned
from fgvr.datamodules.partners import TrainSet
from fgvr.options.deriving import Choice
from fgvr.options.refreshed import Choices
from fgvr.shards.order import ShuffledOrder


@dataclass(frozen=True)
class Renewed:
    """The choices of each set in use since an `epoch` began; None for a set that has no options."""

    epoch: int
    choices: tuple[Choices | None, ...]

    def sets(self, begun_with: Sequence[TrainSet]) -> list[TrainSet]:
        """Those that the run began with, with these options; a photo that has none now is left out."""
        return [
            one if own is None or not isinstance(one, Optioned) else one.renewed(own)
            for one, own in zip(begun_with, self.choices, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        listed = [None if own is None else [_listed(choice) for choice in own.values()] for own in self.choices]
        return {"epoch": self.epoch, "choices": listed}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Renewed:
        choices = [
            None if rows is None else {choice.uid: choice for choice in map(_choice, rows)} for rows in state["choices"]
        ]
        return cls(state["epoch"], tuple(choices))


def order_over(order: ShuffledOrder, sets: Sequence[TrainSet]) -> ShuffledOrder:
    """As many samples of each set an epoch as before, whatever is left of it: with fewer photos some come twice."""
    shares = tuple(float(share) for share in order.shares)
    return replace(order, shards=tuple(one.shard_sizes for one in sets), weights=shares, epoch_length=sum(order.shares))


def _listed(choice: Choice) -> list[Any]:
    return [choice.uid, choice.label, list(choice.options), list(choice.votes), list(choice.origins)]


def _choice(row: Sequence[Any]) -> Choice:
    uid, label, options, votes, origins = row
    return Choice(uid, label, tuple(options), tuple(votes), tuple(origins))
