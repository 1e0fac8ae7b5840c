"""The processes that work together: what each holds a part of is brought together on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch.distributed as dist

from fgvr.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that collect together; `gather` brings every rank's list to all of them."""

    world: int = 1
    gather: Callable[[list[Any]], list[Any]] = lambda rows: rows

    def total(self, counts: Sequence[float]) -> list[float]:
        """Sums over ranks, entry by entry. A collective call."""
        return [sum(column) for column in zip(*self.gather([tuple(counts)]), strict=True)]

    def agree(self, work: Callable[[], T]) -> T:
        """What `work` gives; a UserError of any rank is raised on all, so that none waits alone. A collective call."""
        done, error = None, None
        try:
            done = work()
        except UserError as raised:
            error = raised
        told = self.gather([] if error is None else [str(error)])
        if error is not None:
            raise error
        if told:
            raise UserError(told[0])
        return cast(T, done)


def of_all_ranks(rows: list[T]) -> list[T]:
    """The rows of all ranks, rank by rank; they must be picklable. A collective call."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
