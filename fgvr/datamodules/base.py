"""Shard sets as training, validation and test streams for a Trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from fgvr.data.tasks import Task
from fgvr.datamodules.optioned import with_options
from fgvr.datamodules.photos import photos_for
from fgvr.datamodules.shard_source import ShardSource, refuse_leaks
from fgvr.datamodules.within import branch_for, evaluated, order_within, trained_part
from fgvr.errors import UserError, refuse_below, refuse_no_share
from fgvr.shards.loading import Collate, Encode, LoaderLinks, SampleSet, StepLoader
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import WINDOW, FixedOrder, ShuffledOrder, each_once
from fgvr.shards.packed import pack_or_compare
from fgvr.shards.part import PartOfSet
from fgvr.shards.reading import ShardSet
from fgvr.shards.workers import say_if_too_many
from fgvr.sources.base import COHORTS
from fgvr.sources.photos import Photos
from fgvr.taxonomy.branch import Branch
from fgvr.taxonomy.reserved import refuse_figure_as_dataset
from fgvr.taxonomy.tree import Taxonomy


class ShardDataModule(LightningDataModule, ABC):
    """Streams shard sets; a subclass says how an example becomes part of a batch.

    Trains on split "train" of the cohorts seen and base. Validates and tests on the folders in `val` (default: those of
    `train`), one loader per cohort, named in `cohorts` in the loaders' order. `batch_size` counts examples per
    optimiser step over all ranks, `eval_batch_size` counts them per rank and step. `eval_examples` caps each cohort,
    evenly over its classes. `epoch_length` and the weights are those of `ShuffledOrder`. The order depends on `seed`
    and these, never on `workers` or the number of ranks. `predict` is what to name: a folder of photos without labels,
    or one photo. More than the share `max_bad_share` of samples that cannot be used ends the run. Samples are shuffled
    among `window` neighbours. `allow_leaks` lets a set be validated or tested on pictures that another set trains on;
    the log then names them. `task` may be left out of a config whose run starts from another's checkpoint: it then asks
    the same. `within` names a node of the taxonomy: only photos, options and answers of that branch count, in training
    too. Raises UserError without a task, for a number out of its range, for pictures that leak, when the sets'
    taxonomies disagree, for a branch of fewer than two classes, or when there is nothing to predict.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        val: list[Path] | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 32,
        eval_examples: int | None = None,
        workers: int = 1,
        seed: int = 0,
        epoch_length: int | None = None,
        max_bad_share: float = 0.001,
        window: int = WINDOW,
        predict: Path | None = None,
        allow_leaks: bool = False,
        within: str | None = None,
    ) -> None:
        super().__init__()
        # a shard set lies where every node sees it, so one process of the whole job packs it
        self.prepare_data_per_node = False
        if not train:
            raise UserError("data.train must name at least one shard set, got an empty list")
        if task is None:
            raise UserError(
                "data.task must say what is asked, such as fgvr.data.OpenWorld: only a run whose backbone is "
                "fgvr.models.Trained may leave it out, and asks what that run was asked"
            )
        refuse_below(1, "data", batch_size=batch_size, eval_batch_size=eval_batch_size, eval_examples=eval_examples)
        refuse_below(1, "data", epoch_length=epoch_length, window=window)
        refuse_below(0, "data", workers=workers)
        refuse_no_share("data", max_bad_share=max_bad_share)
        self.train, self.task, self.val = list(train), task, val
        self.batch_size, self.eval_batch_size, self.eval_examples = batch_size, eval_batch_size, eval_examples
        self.workers, self.seed, self.epoch_length = workers, seed, epoch_length
        self.max_bad_share, self.window, self.predict = max_bad_share, window, predict
        self.allow_leaks, self.within = allow_leaks, within
        self.cohorts: list[str] = []
        self.stream: StepLoader[Any] | None = None
        self._eval_loaders: dict[str, list[StepLoader[Any]]] = {}
        self._photos: Photos | None = None
        self._processor: Any = None
        self._saved: dict[str, Any] | None = None
        say_if_too_many(workers)

    @abstractmethod
    def train_encode(self) -> Encode[Any]:
        """What turns an example and its rng into one item, in a worker: picklable, and with no state of its own."""

    @abstractmethod
    def train_collate(self) -> Collate[Any]:
        """What turns the items of one batch (perhaps none) and their record into a batch with a `.record`."""

    @abstractmethod
    def eval_encode(self) -> Encode[Any]:
        """As `train_encode`, for validation, test and photos without labels."""

    @abstractmethod
    def eval_collate(self) -> Collate[Any]:
        """As `train_collate`, for validation, test and photos without labels."""

    @property
    def processor(self) -> Any:
        """The model's processor: one set by hand, else that of the module being trained."""
        if self._processor is not None:
            return self._processor
        if self.trainer is not None:
            return self.trainer.lightning_module.processor
        raise UserError("without a Trainer a data module needs its processor set: datamodule.processor = ...")

    @processor.setter
    def processor(self, processor: Any) -> None:
        self._processor = processor

    def prepare_data(self) -> None:
        for entry in self.train:
            if entry.source is not None:
                pack_or_compare(entry.source, Path(entry.path), entry.pack, self.seed)

    def setup(self, stage: str) -> None:
        if stage == "predict":
            _ = self.photos, self.branch  # neither needs a split of the shard sets
            return
        for folder in self._all_folders():
            refuse_figure_as_dataset(load_manifest(folder).dataset)
        split = "test" if stage == "test" else "val"
        self.cohorts = [cohort for cohort in sorted(COHORTS) if self._eval_folders(split, cohort)]
        refuse_leaks(self.train, self._tested_folders(), self.seed, self.allow_leaks)
        if stage == "fit":
            self.train_sets  # noqa: B018  (damaged sets are refused before the model is built)
            promised = self.epoch_length is None and all(entry.weight == 1 for entry in self.train)
            if promised and not each_once(self.order):
                raise RuntimeError(f"each of {sum(self.order.sizes)} samples must come once: fgvr.shards.order errs")
        _ = self.branch

    def teardown(self, stage: str) -> None:
        self._end_workers()
        self.stream, self._eval_loaders, self._saved = None, {}, None
        self._photos = None  # the folder may hold others next time

    def on_exception(self, exception: BaseException) -> None:
        # left to the garbage collector, workers are not told to end, and each is waited for in vain
        self._end_workers()

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The taxonomy of all sets together."""
        first, *others = (Taxonomy.from_dict(load_manifest(folder).taxonomy) for folder in self._all_folders())
        return first.merged(others)

    @cached_property
    def branch(self) -> Branch | None:
        """The branch of the taxonomy that `within` names, None for all of it."""
        return branch_for(self.taxonomy, self.within)

    @cached_property
    def train_sets(self) -> list[ShardSet | PartOfSet]:
        parts = [self.train_part(entry) for entry in self.train]
        return [
            part if entry.options is None else with_options(part, entry.options)
            for part, entry in zip(parts, self.train, strict=True)
        ]

    def train_part(self, entry: ShardSource) -> ShardSet | PartOfSet:
        """What is trained on of a packed set, before options leave any of it out."""
        return trained_part(entry, self.branch, self.max_bad_share, self.seed)

    @cached_property
    def order(self) -> ShuffledOrder:
        """The order of training."""
        return ShuffledOrder(
            self.seed,
            tuple(shard_set.shard_sizes for shard_set in self.train_sets),
            tuple(float(entry.weight) for entry in self.train),
            self.epoch_length,
            self.window,
        )

    @property
    def photos(self) -> Photos:
        """The photos to predict, listed once a run. Raises UserError when there are none, or the task needs labels."""
        if self._photos is None:
            self._photos = photos_for(self.task, self.predict)
        return self._photos

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch, on any number of ranks."""
        return -(-len(self.order) // self.batch_size)

    def fingerprint(self) -> dict[str, str]:
        """What the stream is made of: equal fingerprints give the same samples in the same order."""
        sets = {f"train[{n}]": shard_set.fingerprint for n, shard_set in enumerate(self.train_sets)}
        return {**sets, "order": self.order.fingerprint, "batch_size": str(self.batch_size)}

    def train_dataloader(self) -> StepLoader[Any]:
        if self.stream is None:
            self.stream = self._loader(
                self.train_sets,
                self.train_encode(),
                self.train_collate(),
                self.order,
                self.batch_size,
                self.max_bad_share,
            )
            if self._saved is not None:
                self.stream.load_state_dict(self._saved)
            elif self.trainer is not None:
                self.stream.start_epoch(self.trainer.current_epoch)
        return self.stream

    def val_dataloader(self) -> list[StepLoader[Any]]:
        return self._eval("val")

    def test_dataloader(self) -> list[StepLoader[Any]]:
        return self._eval("test")

    def predict_dataloader(self) -> StepLoader[Any]:
        if "predict" not in self._eval_loaders:
            order = FixedOrder(tuple((0, number) for number in range(len(self.photos))))
            # each bad photo gets its row in the end, so there may be any number of them
            loader = self._eval_loader([self.photos], order, max_bad_share=1.0)
            self._eval_loaders["predict"] = [loader]
        return self._eval_loaders["predict"][0]

    def state_dict(self) -> dict[str, Any]:
        return {} if self.stream is None else self.stream.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning asks for the loader before or after this, depending on the strategy, and forgets the state that it
        # keeps itself when the save was made at an epoch's end: this one is what counts.
        self._saved = state_dict
        if self.stream is not None:
            self.stream.load_state_dict(state_dict)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raises RuntimeError when the Trainer's place in the epoch and the stream's are not the same."""
        if self.trainer is not None and self.trainer.training:
            loop = self.trainer.fit_loop
            if loop.epoch_progress.current.ready == loop.epoch_progress.current.processed:  # pyright: ignore[reportAttributeAccessIssue]
                # Lightning 2.6 does not count the epoch that follows a resume from an epoch's last step as begun; a
                # checkpoint from within that epoch would be taken for one of its end, and start it over
                loop.epoch_progress.increment_ready()
                loop.epoch_progress.increment_started()
            place = self.trainer.current_epoch, loop.epoch_loop.batch_progress.current.ready
            if place != (batch.record.epoch, batch.record.step):
                raise RuntimeError(
                    f"the Trainer is at batch {place[1]} of epoch {place[0]}, but the stream gave batch "
                    f"{batch.record.step} of epoch {batch.record.epoch}: samples would be repeated or left out"
                )
        return batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": None, "stream": None, "_eval_loaders": {}}

    def _all_folders(self) -> list[Path]:
        folders = [*(entry.path for entry in self.train), *(self.val or [])]
        return list(dict.fromkeys(Path(folder) for folder in folders))

    def classes_of(self, cohort: str) -> frozenset[str]:
        """The names of a cohort's classes in the sets that are evaluated, those of the branch alone."""
        known = [load_manifest(folder).cohorts for folder in self._tested_folders()]
        names = frozenset(name for cohorts in known for name, of in cohorts.items() if of == cohort)
        return names if self.branch is None else names & self.branch.classes

    def eval_sets(self, split: str, cohort: str) -> list[ShardSet]:
        """The sets that a cohort is validated or tested on, in full."""
        return [ShardSet(folder, split, (cohort,), self.max_bad_share) for folder in self._eval_folders(split, cohort)]

    def _eval_folders(self, split: str, cohort: str) -> list[Path]:
        return [folder for folder in self._tested_folders() if evaluated(folder, split, cohort, self.branch)]

    def _tested_folders(self) -> list[Path]:
        return [Path(folder) for folder in ([entry.path for entry in self.train] if self.val is None else self.val)]

    def _eval(self, split: str) -> list[StepLoader[Any]]:
        if split not in self._eval_loaders:
            self._eval_loaders[split] = [self._cohort_loader(split, cohort) for cohort in self.cohorts]
        return self._eval_loaders[split]

    def _cohort_loader(self, split: str, cohort: str) -> StepLoader[Any]:
        sets = self.eval_sets(split, cohort)
        order = order_within(sets, self.branch, self.eval_examples, split, cohort, self.seed)
        return self._eval_loader(sets, order, self.max_bad_share)

    def _eval_loader(self, sets: Sequence[SampleSet], order: FixedOrder, max_bad_share: float) -> StepLoader[Any]:
        batch = self.eval_batch_size * (self.trainer.world_size if self.trainer is not None else 1)
        return self._loader(sets, self.eval_encode(), self.eval_collate(), order, batch, max_bad_share, repeat=True)

    def _loader(
        self,
        sets: Sequence[SampleSet],
        encode: Encode[Any],
        collate: Collate[Any],
        order: ShuffledOrder | FixedOrder,
        global_batch: int,
        max_bad_share: float,
        repeat: bool = False,
    ) -> StepLoader[Any]:
        trainer = self.trainer
        links = LoaderLinks()
        if trainer is not None:
            links = LoaderLinks(
                unfinished=self._unfinished,
                total=self._sum_over_ranks,
                pin_memory=trainer.strategy.root_device.type == "cuda",
            )
        return StepLoader(
            sets,
            encode,
            collate,
            order,
            global_batch,
            seed=self.seed,
            rank=trainer.global_rank if trainer is not None else 0,
            world=trainer.world_size if trainer is not None else 1,
            workers=self.workers,
            max_bad_share=max_bad_share,
            repeat=repeat,
            links=links,
        )

    def _end_workers(self) -> None:
        for loaders in [[self.stream], *self._eval_loaders.values()]:
            for loader in loaders:
                if loader is not None:
                    loader.close()

    def _unfinished(self) -> int:
        """1 between a batch's arrival and the end of its step: a checkpoint of that moment must give it again."""
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return progress.ready - progress.processed  # pyright: ignore[reportAttributeAccessIssue]

    def _sum_over_ranks(self, counts: list[int]) -> list[int]:
        assert self.trainer is not None
        if self.trainer.world_size == 1:
            return counts
        strategy = self.trainer.strategy
        summed = strategy.reduce(torch.tensor(counts, device=strategy.root_device), reduce_op="sum")
        assert isinstance(summed, torch.Tensor)
        return summed.tolist()
