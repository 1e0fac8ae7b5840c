"""The loader of a run: whole global batches in a fixed order, resumable at any of them, every sample accounted for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from fgvr.errors import SampleError, UserError
from fgvr.shards.order import Ints, Order, key_of
from fgvr.shards.workers import follow_parent
from fgvr.types import Example, ReadRecord

T = TypeVar("T")
NAMED = 20  # quarantined samples that a tally remembers by name
AGREE_EVERY = 50  # steps after which several ranks add up what they quarantined: a sum over ranks costs time

Encode = Callable[[Example, random.Random], T]
Collate = Callable[[list[T], ReadRecord], Any]


class SampleSet(Protocol):
    """What the loader asks of a shard set."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Example: ...

    def uid(self, number: int) -> str: ...


@dataclass(frozen=True)
class _Share:
    """One rank's part of one global batch; `places` are (set, sample)."""

    epoch: int
    step: int
    positions: tuple[int, ...]
    places: tuple[tuple[int, int], ...]


class _Batches(Dataset[Any], Generic[T]):
    """Turns a share into a batch, in the worker. A sample that raises SampleError is left out and named."""

    def __init__(self, sets: Sequence[SampleSet], encode: Encode[T], collate: Collate[T], seed: int) -> None:
        self.sets, self.encode, self.collate, self.seed = tuple(sets), encode, collate, seed

    def __getitem__(self, share: _Share) -> Any:
        items: list[T] = []
        uids: list[str] = []
        quarantined: list[tuple[str, str]] = []
        for position, (number, sample) in zip(share.positions, share.places, strict=True):
            uid = self.sets[number].uid(sample)
            uids.append(uid)
            try:
                rng = random.Random(key_of(self.seed, "encode", share.epoch, position))
                items.append(self.encode(self.sets[number].read(sample), rng))
            except SampleError as error:
                quarantined.append((uid, str(error)))
        record = ReadRecord(share.epoch, share.step, share.positions, tuple(uids), tuple(quarantined))
        return self.collate(items, record)


@dataclass(frozen=True)
class Tally:
    """What an epoch has given so far: samples used, samples quarantined, the first few of those as (uid, reason)."""

    read: int = 0
    quarantined: int = 0
    named: tuple[tuple[str, str], ...] = ()

    def plus(self, record: ReadRecord) -> Tally:
        bad = len(record.quarantined)
        return Tally(
            self.read + len(record.positions) - bad, self.quarantined + bad, (*self.named, *record.quarantined)[:NAMED]
        )


@dataclass
class LoaderLinks:
    """What a loader must ask of whoever trains with it; the defaults are those of one process that never looks ahead.

    `unfinished` is how many batches were handed out but not trained on yet (0 or 1); `total` sums counts over all
    ranks; `timeout` is how many seconds a worker may be silent. `begins` is told the epoch as the first batch of an
    iteration is asked for, when nothing is read of it yet: it may give the loader another `encode` and close it.
    """

    unfinished: Callable[[], int] = lambda: 0
    total: Callable[[list[int]], list[int]] = lambda counts: counts
    pin_memory: bool = False
    timeout: float = 60.0
    begins: Callable[[int], None] = lambda epoch: None


@dataclass(eq=False)
class StepLoader(Generic[T]):
    """Iterates over one rank's shares of an epoch's global batches; each batch has a `.record: ReadRecord`.

    Global batch k is the positions [k * global_batch, (k + 1) * global_batch) of the epoch's order, the last one short;
    rank r takes every `world`-th of them from the r-th on, so the state of a loader holds for any number of ranks
    and workers. `encode(example, rng)` runs once per sample in the worker; its rng depends on seed, epoch and position
    only. `collate(items, record)` gets an empty list when nothing is left of a share.

    Starting an iteration goes on at the saved place, or opens the next epoch when the last one was begun; with
    `repeat`, every iteration is the whole of epoch 0 (evaluation). Raises UserError when the quarantined samples of all
    ranks exceed `max_bad_share` of the epoch: a rank that is alone looks at every step, several add theirs up every
    `AGREE_EVERY` steps and at the epoch's end and stop together, so that none is left waiting for another. Raises
    RuntimeError when a worker dies or is silent for too long.
    """

    sets: Sequence[SampleSet]
    encode: Encode[T]
    collate: Collate[T]
    order: Order
    global_batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    workers: int = 0
    max_bad_share: float = 0.001
    repeat: bool = False
    links: LoaderLinks = field(default_factory=LoaderLinks)

    def __post_init__(self) -> None:
        if self.global_batch < 1 or self.workers < 0 or not 0 <= self.max_bad_share <= 1:
            raise UserError(
                "a loader needs batch_size of at least 1, workers of at least 0 and max_bad_share between 0 and 1, got "
                f"{self.global_batch}, {self.workers} and {self.max_bad_share}"
            )
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must be below world={self.world}, got {self.rank}")
        self.start_epoch(0)
        self._order_of: tuple[int, Ints, Ints] | None = None

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return -(-len(self.order) // self.global_batch)

    def __iter__(self) -> Iterator[Any]:
        if self.repeat:
            self.start_epoch(0)
        elif self._begun:
            self.start_epoch(self.epoch + 1)
        return self._batches(self.epoch, self.step)

    def start_epoch(self, epoch: int) -> None:
        """Go to the first batch of an epoch, with nothing counted."""
        self._go_to(epoch, 0, Tally())

    def renew(self, sets: Sequence[SampleSet], order: Order) -> None:
        """Give other samples from the next iteration on, or from the one whose beginning `links.begins` is told.

        Raises ValueError for an order of another length: an epoch stays as long as a Trainer was told.
        """
        if len(order) != len(self.order):
            raise ValueError(f"an epoch must stay {len(self.order)} samples long, got an order of {len(order)}")
        self.close()
        self.sets, self.order, self._order_of = sets, order, None

    def close(self) -> None:
        """End the workers; iterating starts new ones."""
        iterator = self._loader._iterator if "_loader" in self.__dict__ else None
        if iterator is not None and self.workers:
            iterator._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
        self.__dict__.pop("_loader", None)

    def state_dict(self) -> dict[str, Any]:
        """The next batch to train on and the counts before it. A batch handed out but not trained on yet comes again.

        Every rank must call it, since the counts are summed over them.
        """
        behind = min(self.links.unfinished(), self.step)
        epoch, step, tally = self.epoch, self.step - behind, self._tally_before if behind else self.tally
        if step == len(self):
            epoch, step, tally = epoch + 1, 0, Tally()
        summed = self._summed(tally)
        return {
            "epoch": epoch,
            "step": step,
            "read": summed.read,
            "quarantined": summed.quarantined,
            "named": [list(pair) for pair in tally.named],
            "global_batch": self.global_batch,
            "order": self.order.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place. Raises UserError in mid-epoch when batch size or order are not those of the save."""
        if state["step"] and (state["global_batch"], state["order"]) != (self.global_batch, self.order.fingerprint):
            raise UserError(
                f"a run resumes in mid-epoch (epoch {state['epoch']}, step {state['step']}) only with the seed, shard "
                "sets, weights, epoch_length and batch size it was saved with (the batch size was "
                f"{state['global_batch']}, is {self.global_batch}): set them back, or resume from the end of an epoch"
            )
        if self.rank == 0:  # the sums over all ranks are carried on by one of them
            tally = Tally(state["read"], state["quarantined"], tuple((uid, reason) for uid, reason in state["named"]))
        else:
            tally = Tally()
        self._go_to(state["epoch"], state["step"], tally)

    def account(self) -> Tally:
        """The finished epoch's sums over all ranks; every rank must call it after the last batch.

        A returned tally says that every position of the epoch's order was either read, its length and crc32 being those
        of the shard's index, or quarantined: the steps came one after the other, and their counts add up. The order
        is made from the number of samples in each shard, so this says nothing of a sample that no position stands for:
        that there is none at weight 1 is what `each_once` checks before training.

        Raises UserError unless read + quarantined = planned, or when too many were quarantined.
        """
        tally = self._summed(self.tally)
        if tally.read + tally.quarantined != len(self.order):
            raise UserError(
                f"epoch {self.epoch} must give each of its {len(self.order)} samples once, but {tally.read} were read "
                f"and {tally.quarantined} quarantined: the run stops, since it did not train on what it was given"
            )
        self._refuse_if_bad(tally)
        return tally

    def _go_to(self, epoch: int, step: int, tally: Tally) -> None:
        self.epoch, self.step, self._begun = epoch, step, False
        self.tally = self._tally_before = tally

    def _batches(self, epoch: int, step: int) -> Iterator[Any]:
        self.links.begins(epoch)
        self._steps.start(epoch, step)
        for batch in _from_workers(self._loader):
            record: ReadRecord = batch.record
            if (record.epoch, record.step) != (self.epoch, self.step):
                raise RuntimeError(
                    f"the loader must give step {self.step} of epoch {self.epoch} next, but a worker gave step "
                    f"{record.step} of epoch {record.epoch}"
                )
            self._tally_before, self.tally = self.tally, self.tally.plus(record)
            self.step, self._begun = self.step + 1, True
            # every rank takes every step, if only an empty share of it, so all of them sum at the same ones
            due = self.world == 1 or self.step % AGREE_EVERY == 0 or self.step == len(self)
            if due and self.max_bad_share < 1:
                self._refuse_if_bad(self._summed(self.tally))
            yield batch

    def _summed(self, tally: Tally) -> Tally:
        """The counts of all ranks, with this rank's names. A collective call."""
        read, quarantined = self.links.total([tally.read, tally.quarantined])
        return Tally(read, quarantined, tally.named)

    def _refuse_if_bad(self, tally: Tally) -> None:
        planned = len(self.order)
        if tally.quarantined > self.max_bad_share * planned:
            named = "; ".join(f"{uid} ({reason})" for uid, reason in tally.named[:5]) or "other ranks name them"
            raise UserError(
                f"at most {self.max_bad_share:.2%} of the samples may be unusable, but {tally.quarantined} of the "
                f"{planned} of epoch {self.epoch} are: {named}. Mend or pack these again, or raise max_bad_share"
            )

    def share(self, epoch: int, step: int) -> _Share:
        """This rank's part of one global batch."""
        if self._order_of is None or self._order_of[0] != epoch:
            self._order_of = (epoch, *self.order.epoch(epoch))
        _, sets, samples = self._order_of
        end = min((step + 1) * self.global_batch, len(self.order))
        positions = range(step * self.global_batch + self.rank, end, self.world)
        places = zip(sets[positions].tolist(), samples[positions].tolist(), strict=True)
        return _Share(epoch, step, tuple(positions), tuple(places))

    @cached_property
    def _steps(self) -> _Steps:
        return _Steps(self)

    @cached_property
    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            _Batches(self.sets, self.encode, self.collate, self.seed),
            batch_size=None,
            sampler=self._steps,  # pyright: ignore[reportArgumentType]
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=follow_parent,
            timeout=self.links.timeout if self.workers else 0,
            pin_memory=self.links.pin_memory,
            # its own generator: starting an epoch or resuming must not draw from the global one
            generator=torch.Generator(),
        )


class _Steps:
    """The shares of an epoch from one step on, for the torch loader to hand to its workers."""

    def __init__(self, loader: StepLoader[Any]) -> None:
        self.loader, self.epoch, self.first = loader, 0, 0

    def start(self, epoch: int, step: int) -> None:
        self.epoch, self.first = epoch, step

    def __iter__(self) -> Iterator[_Share]:
        epoch = self.epoch
        return (self.loader.share(epoch, step) for step in range(self.first, len(self.loader)))

    def __len__(self) -> int:
        return len(self.loader) - self.first


def _from_workers(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        yield from loader
    except (ConnectionError, EOFError) as error:  # it ended while it handed a batch over, before torch noticed
        raise RuntimeError("a worker of the loader was killed or has exited while it handed over a batch") from error


def _as_it_is(batch: T) -> T:
    return batch
