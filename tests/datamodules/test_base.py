import json
import logging
import multiprocessing
import os
import pickle
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from toy_stream import LABELS, TAXONOMY, ToyLearner, ToyStream, main, picture, toy_trainer, write_set

from fgvr.aviary.source import Aviary
from fgvr.callbacks.sample_log import read_log
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.shards.manifest import load_manifest
from fgvr.shards.plan import PackOptions
from fgvr.sources.base import Record, Source
from fgvr.taxonomy.tree import Taxonomy

SIZES = {"train-seen": [7, 9, 6], "train-unseen": [3], "val-seen": [8], "val-unseen": [5], "test-unseen": [4]}
FORK = multiprocessing.get_context("fork")  # a process begun so need not import everything again
STEPS = 6  # of 22 samples in batches of 4


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "set", SIZES)


def stream(data: Path, **options: Any) -> ToyStream:
    return ToyStream([ShardSource(data)], OpenWorld(), **{"batch_size": 4, "workers": 0, "seed": 3, **options})


class StopAt(Callback):
    """Saves in one hook at one global step, and breaks the run off there."""

    def __init__(self, hook: str, step: int, break_off: bool = True) -> None:
        self.step, self.break_off = step, break_off
        setattr(self, hook, self._save)

    def _save(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "stopped.ckpt")
            if self.break_off:
                raise KeyboardInterrupt


def fit(
    root: Path, data: Path, *callbacks: Callback, resume: bool = False, workers: int = 0, **options: Any
) -> ToyLearner:
    module = ToyLearner()
    trainer = toy_trainer(root, *callbacks, **options)
    try:
        trainer.fit(
            module, datamodule=stream(data, workers=workers), ckpt_path=root / "stopped.ckpt" if resume else None
        )
    except SystemExit as end:  # how lightning ends a run that was interrupted
        assert isinstance(end.__context__, KeyboardInterrupt)  # noqa: PT017
    return module


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    module = fit(root, data)
    return (root / "samples.jsonl").read_text(), module.weight.tolist()


def test_each_sample_once_per_epoch(uninterrupted):
    rows = [json.loads(line) for line in uninterrupted[0].splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(e, s) for e in range(3) for s in range(STEPS)]
    for epoch in range(3):
        uids = [uid for row in rows if row["epoch"] == epoch for uid in row["uids"]]
        assert sorted(uids) == [f"s{n:05d}" for n in range(22)]  # none of the unseen classes among them


EVERY = {"val_check_interval": 1.0}
MIDDLE = {"val_check_interval": 2}
NEVER = {"limit_val_batches": 0}
BY_STEPS = {"max_steps": 3 * STEPS, "max_epochs": -1}


@pytest.mark.parametrize(
    ("hook", "steps", "options"),
    [
        ("on_train_batch_end", (1, 3, 5), EVERY),  # three stops in one epoch
        ("on_train_batch_end", (2, 4, 8), MIDDLE),
        ("on_train_batch_end", (6, 7, 12), EVERY),  # at the border of an epoch, and after it
        ("on_train_batch_end", (6, 8, 12, 14), NEVER),
        ("on_train_batch_end", (6, 8, 12, 14), MIDDLE),
        ("on_train_batch_end", (4, 6, 7), BY_STEPS),
        ("on_train_batch_start", (1, 3, 6, 7), EVERY),  # a batch is handed out but not trained on
        ("on_validation_end", (2, 4, 8), MIDDLE),
        ("on_validation_end", (6, 12), EVERY),
        ("on_train_epoch_end", (6, 12), EVERY),
        ("on_train_epoch_end", (6, 12), NEVER),
        ("on_train_epoch_end", (6, 12), BY_STEPS),
    ],
)
def test_resumed_runs_repeat_the_uninterrupted_one(data, tmp_path, uninterrupted, hook, steps, options):
    for number, step in enumerate(steps):
        fit(tmp_path, data, StopAt(hook, step), resume=number > 0, workers=number % 3, **options)
        saved = torch.load(tmp_path / "stopped.ckpt", weights_only=True)
        assert saved["global_step"] == step
    module = fit(tmp_path, data, resume=True, **options)
    assert (tmp_path / "samples.jsonl").read_text() == uninterrupted[0]
    assert module.weight.tolist() == uninterrupted[1]


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization", "ignore:Be aware that when using")
def test_lightnings_own_checkpoints_resume_too(data, tmp_path, uninterrupted):
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    fit(tmp_path, data, keep, enable_checkpointing=True)
    for step in (1, 6, 11, 18):
        (tmp_path / f"step={step}.ckpt").rename(tmp_path / "stopped.ckpt")
        module = fit(tmp_path, data, resume=True)
        assert (tmp_path / "samples.jsonl").read_text() == uninterrupted[0]
        assert module.weight.tolist() == uninterrupted[1]


class ReadsSteps(ToyLearner):
    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches == 18  # lightning asks for the loader here
        return super().configure_optimizers()


def test_resume_when_the_optimiser_asks_for_the_number_of_steps(data, tmp_path, uninterrupted):
    fit(tmp_path, data, StopAt("on_train_batch_end", 4))
    module = ReadsSteps()
    toy_trainer(tmp_path).fit(module, datamodule=stream(data), ckpt_path=tmp_path / "stopped.ckpt")
    assert (tmp_path / "samples.jsonl").read_text() == uninterrupted[0]
    assert module.weight.tolist() == uninterrupted[1]


def test_a_trainer_that_is_elsewhere_is_stopped(data, tmp_path):
    fit(tmp_path, data, StopAt("on_train_batch_end", 4))
    saved = torch.load(tmp_path / "stopped.ckpt", weights_only=True)
    saved["ToyStream"]["step"] = 3
    saved["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["step"] = 3
    torch.save(saved, tmp_path / "stopped.ckpt")
    with pytest.raises(RuntimeError, match="Trainer is at batch 4 of epoch 0, but the stream gave batch 3"):
        fit(tmp_path, data, resume=True)


def test_limited_epochs_open_a_new_one_each(data, tmp_path):
    fit(tmp_path, data, limit_train_batches=2)
    assert [(row["epoch"], row["step"]) for row in read_log(tmp_path)] == [(e, s) for e in range(3) for s in range(2)]


def killed_again_and_again(data: Path, root: Path, workers: int, kills: int, most: int) -> int:
    """Starts the run, kills it within `most` steps or just after, starts it again; returns how often it was killed."""
    rng, killed, log = random.Random(workers), 0, root / "samples.jsonl"
    while True:
        process = FORK.Process(target=main, args=(data, root, workers, 0.005))
        process.start()
        seen = log.read_bytes().count(b"\n") if log.exists() else 0
        until = seen + rng.randint(1, most) if killed < kills else None
        while process.is_alive():
            if until is not None and log.exists() and log.read_bytes().count(b"\n") >= until:
                time.sleep(rng.random() * 0.01)
                os.killpg(process.pid, signal.SIGKILL)  # pyright: ignore[reportArgumentType]
                killed += 1
                break
            time.sleep(0.001)
        process.join(60)
        if process.exitcode == 0:
            return killed
        assert process.exitcode == -9, f"the run ended with {process.exitcode}"


@pytest.mark.parametrize(("workers", "kills", "most"), [(0, 4, 4), (1, 3, 6), (2, 10, 1)])
def test_killed_runs_repeat_the_uninterrupted_one(data, tmp_path, uninterrupted, workers, kills, most):
    tmp_path.joinpath("run").mkdir()
    assert killed_again_and_again(data, tmp_path / "run", workers, kills, most) >= kills // 2
    assert (tmp_path / "run" / "samples.jsonl").read_text() == uninterrupted[0]
    assert json.loads((tmp_path / "run" / "weights.json").read_text()) == uninterrupted[1]


def test_evaluation_is_spread_over_classes_and_the_same_every_time(data, tmp_path):
    module = ToyLearner()
    trainer = toy_trainer(tmp_path, max_epochs=2)
    evaluated = stream(data, eval_examples=4, eval_batch_size=3)
    trainer.fit(module, datamodule=evaluated)
    assert evaluated.cohorts == ["seen", "unseen"]
    half = len(module.evaluated) // 2
    assert module.evaluated[:half] == module.evaluated[half:]
    assert [(index, len(uids)) for index, uids in module.evaluated[:half]] == [(0, 3), (0, 1), (1, 3), (1, 1)]
    for cohort in range(2):
        uids = [uid for index, some in module.evaluated[:half] if index == cohort for uid in some]
        assert Counter(LABELS[int(uid[1:]) % 4] for uid in uids) == dict.fromkeys(LABELS, 1)


def test_test_split_has_its_own_cohorts(data, tmp_path):
    module, tested = ToyLearner(), stream(data)
    toy_trainer(tmp_path).test(module, datamodule=tested, verbose=False)
    assert tested.cohorts == ["unseen"]
    assert [uids for _, uids in module.evaluated] == [module.evaluated[0][1]]
    assert sorted(module.evaluated[0][1]) == [f"s{n:05d}" for n in range(38, 42)]


def test_classes_of_a_cohort(data):
    known = load_manifest(data).cohorts
    assert {cohort: stream(data).classes_of(cohort) for cohort in set(known.values())} == {
        cohort: {name for name, of in known.items() if of == cohort} for cohort in known.values()
    }
    assert stream(data).classes_of("novel") == set()


def test_without_a_trainer(data):
    alone = stream(data)
    alone.setup("fit")
    assert len(alone.train_dataloader()) == alone.steps_per_epoch == STEPS
    assert alone.taxonomy == TAXONOMY
    assert [len(loader) for loader in alone.val_dataloader()] == [1, 1]
    with pytest.raises(UserError, match="processor"):
        alone.processor  # noqa: B018
    alone.processor = "a processor"
    assert alone.processor == "a processor"


def test_fingerprint_is_of_what_is_seen(data, tmp_path):
    other = write_set(tmp_path / "other", {"train-seen": [7, 9, 6]}, prefix="t")
    first = stream(data).fingerprint()
    assert stream(data, workers=2, eval_batch_size=7, eval_examples=3).fingerprint() == first
    changed = [stream(data, seed=4), stream(data, batch_size=8), stream(data, epoch_length=9), stream(other)]
    assert all(module.fingerprint() != first for module in changed)


def test_sets_that_disagree_are_refused(data, tmp_path):
    flat = Taxonomy.flat(LABELS, "bird")
    other = write_set(tmp_path / "other", {"train-seen": [4]}, taxonomy=flat)
    module = ToyStream([ShardSource(data), ShardSource(other)], OpenWorld())
    with pytest.raises(UserError, match="must share ranks and root"):
        module.setup("fit")
    with pytest.raises(UserError, match="at least one shard set"):
        ToyStream([], OpenWorld())


def test_travels_without_its_trainer(data, tmp_path):
    module = stream(data)
    toy_trainer(tmp_path, max_epochs=1).fit(ToyLearner(), datamodule=module)
    assert pickle.loads(pickle.dumps(module)).trainer is None


class Pictures(Source):
    dataset = "pictures"

    def taxonomy(self):
        return TAXONOMY

    def describe(self):
        return {"of": "nothing"}

    def records(self):
        for number in range(40):
            label, split = LABELS[number % 4], "val" if number >= 32 else "train"
            path = TAXONOMY.paths[label]
            yield Record(f"p{number:02d}", label, path, split, "seen", lambda number=number: picture(number))


def test_packs_what_is_not_there(tmp_path):
    made = ToyStream([ShardSource(tmp_path / "set", source=Pictures())], OpenWorld(), workers=0)
    toy_trainer(tmp_path, max_epochs=1).fit(ToyLearner(), datamodule=made)
    assert len(read_log(tmp_path)[0]["uids"]) == 32
    before = (tmp_path / "set" / "manifest.json").stat().st_mtime_ns
    made.prepare_data()
    assert (tmp_path / "set" / "manifest.json").stat().st_mtime_ns == before


def test_another_source_than_the_one_packed_is_not_trained_on(tmp_path):
    def stream_of(species: int, pack: PackOptions | None = None, seed: int = 0) -> ToyStream:
        source = Aviary(species=species, unseen=4, train=2, val=1, test=0)
        return ToyStream([ShardSource(tmp_path, source=source, pack=pack)], OpenWorld(), seed=seed)

    stream_of(48).prepare_data()
    stream_of(48, seed=7).prepare_data()  # the seed of training is not that of packing
    with pytest.raises(UserError, match=r"species was 48 and is 60\. Give another path, delete the folder"):
        stream_of(60).prepare_data()
    with pytest.raises(UserError, match="packed from something else: k_shot was None and is 1"):
        stream_of(48, PackOptions(k_shot=1)).prepare_data()


def two_ranks(data: Path, root: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    save = StopAt("on_train_batch_end", 8, break_off=False)
    fit(root, data, save, max_steps=9, devices=2, strategy="ddp_fork", limit_val_batches=0)


def test_begun_on_two_ranks_and_resumed_on_one(data, tmp_path, uninterrupted):
    process = FORK.Process(target=two_ranks, args=(data, tmp_path))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    lines = [(tmp_path / f"samples.rank{rank}.jsonl").read_text().splitlines() for rank in range(2)]
    assert [len(rows) for rows in lines] == [9, 9]
    fit(tmp_path, data, resume=True)  # drops the ninth step of both, then goes on alone
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/samples.jsonl").write_text(uninterrupted[0])
    assert read_log(tmp_path) == read_log(tmp_path / "whole")


@pytest.mark.parametrize("prefix", ["sampled", "best_of"])
def test_a_set_called_like_a_figure_is_refused_as_soon_as_it_is_read(tmp_path: Path, prefix: str):
    loader = stream(write_set(tmp_path / "set", SIZES, prefix))
    with pytest.raises(UserError, match=f"a dataset must not be called like a figure, got '{prefix}'"):
        loader.setup("fit")
