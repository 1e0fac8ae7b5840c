"""A checkpoint of a run as what a policy reads its rows of each weight from, with the run's adapters merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fgvr.checkpoints.sharded import StoredTensor
from fgvr.models.rows import Rows, WeightSource
from fgvr.models.weight_names import BASE_MODEL

FIRST, SECOND = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class TrainedWeights:
    """The weights in a checkpoint's `state`, and those of `base` where it leaves them out.

    `state` names them as the policy does. Adapters in it are merged, times `scale`. A policy that is filled from here
    is the one that is rebuilt whole, but for rounding where rows of an adapter's product are computed alone.
    """

    state: Mapping[str, Tensor | StoredTensor]
    base: WeightSource | None
    scale: float
    place: str

    def of(self, model: Any) -> dict[str, Rows]:
        found: dict[str, Rows] = {} if self.base is None else dict(self.base.of(model))
        state = {name.removeprefix("model.").removeprefix(BASE_MODEL): _rows_of(x) for name, x in self.state.items()}
        for name, rows in state.items():
            if not name.endswith((FIRST, SECOND)):
                found[name.replace(".base_layer.", ".")] = rows
        for name, first in state.items():
            if name.endswith(FIRST):
                layer = name.removesuffix(FIRST)
                adapted = f"{layer}.weight"
                found[adapted] = MergedRows(found[adapted], first, state[layer + SECOND], self.scale)
        return found


@dataclass(frozen=True)
class HeldRows:
    """A tensor that is there already, or is read by the page as it is used."""

    tensor: Tensor

    @property
    def shape(self) -> Sequence[int]:
        return self.tensor.shape

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        return self.tensor[first:last]


@dataclass(frozen=True)
class MergedRows:
    """A weight with what its adapter has learned: W + scale · B A (LoRA, arXiv 2106.09685, equation 3), in float32."""

    weight: Rows
    first: Rows
    second: Rows
    scale: float

    @property
    def shape(self) -> Sequence[int]:
        return self.weight.shape

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        learned = (self.second.read(first, last) @ self.first.read()) * self.scale
        return self.weight.read(first, last).float() + learned


def _rows_of(weight: Tensor | StoredTensor) -> Rows:
    return HeldRows(weight) if isinstance(weight, Tensor) else weight
