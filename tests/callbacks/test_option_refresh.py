"""Options mined anew while a policy trains: what is asked when, what takes whose place, and what a resumed run has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, QUESTION, photo, tiny_backbone
from lightning.pytorch.loggers import TensorBoardLogger
from scripted import Scripted
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_replies import made
from toy_stream import SaveEverything, ToyStream, toy_trainer
from toy_triplets import packed, triplet_data

from fgvr.callbacks import OptionRefresh
from fgvr.data import ClosedWorld, OpenWorld
from fgvr.datamodules import PromptData, ShardSource
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import GRPO
from fgvr.options.deriving import Choice, Derived, Rules, read_options, write_options
from fgvr.options.store import read_store
from fgvr.rewards import Exact
from fgvr.shards.packing import pack
from fgvr.shards.reading import ShardSet
from fgvr.sources import ImageFolder
from fgvr.types import PromptBatch

OLD = ("Jade Owl", "Amber Finch")  # what every photo is first asked to choose among, beside its label
Seen = list[tuple[int, str, tuple[str, ...]]]


class Learner(GRPO):
    """Keeps what it is asked, as (epoch, uid, options), and learns nothing of it."""

    def __init__(self) -> None:
        super().__init__(PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84)), Exact())
        self.seen: Seen = []

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        epoch = batch.record.epoch
        self.seen += [(epoch, example.uid, tuple(example.extra["options"])) for example in batch.examples]
        optimizer: Any = self.optimizers()
        optimizer.step()


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    for row, name in enumerate(NAMES):
        for split, count in (("train", 3), ("val", 1)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                picture = photo(84, 84, seed=10 * row + number + 100 * (split == "val"))
                picture.save(tmp_path / "photos" / split / name / f"{number}.png")
    pack(ImageFolder(tmp_path / "photos"), tmp_path / "shards")
    return ShardSet(tmp_path / "shards", "train", ("seen",))


@pytest.fixture
def options(shards: ShardSet, tmp_path: Path) -> Path:
    choices = []
    for number, label in enumerate(shards.labels()):
        names = (*(name for name in OLD if name != label), label)
        choices.append(Choice(shards.uid(number), label, names, (1,) * len(names), ("offered",) * len(names)))
    write_options(tmp_path / "options.jsonl", made(len(choices)), Rules(m=3), Derived(tuple(choices)))
    return tmp_path / "options.jsonl"


def replies_of(shards: ShardSet) -> dict[str, list[str]]:
    """The first photo is always named rightly, of the second nothing can be read; the others are called a heron."""
    said = {shards.uid(n): ["Crimson-browed Heron"] * 2 + ["Azure Finch"] for n in range(len(shards))}
    said[shards.uid(0)] = [shards.labels()[0]] * 3
    replies = {uid: [f"<answer>{name}</answer>" for name in names] for uid, names in said.items()}
    return replies | {shards.uid(1): ["hm"] * 3}


def fit(
    root: Path, shards: ShardSet, options: Path, epochs: int = 2, start: Path | None = None, **refresh: Any
) -> tuple[Learner, Scripted]:
    engine = Scripted(replies_of(shards))
    sampling = Sampling(group_size=3, max_new_tokens=8)
    callback = OptionRefresh(**({"engine": engine, "rows": 12, "sampling": sampling} | refresh))
    data = PromptData(
        [ShardSource(shards.folder, options=options)], OpenWorld(QUESTION), train_task=ClosedWorld(question=QUESTION),
        batch_size=4, workers=0,
    )  # fmt: skip
    learner = Learner()
    trainer = toy_trainer(
        root, callback, SaveEverything(), max_epochs=epochs, limit_val_batches=0, log_every_n_steps=1,
        logger=TensorBoardLogger(root, name="", version=""),
    )  # fmt: skip
    trainer.fit(learner, datamodule=data, ckpt_path=start, weights_only=False if start else None)
    return learner, engine


def test_new_options_take_the_place_of_old_ones_and_easy_photos_go(
    shards: ShardSet, options: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "fgvr")
    learner, engine = fit(tmp_path / "run", shards, options)
    first, second = ([entry for entry in learner.seen if entry[0] == epoch] for epoch in (0, 1))
    assert len(first) == len(second) == 12, "an epoch stays as long as it was"
    assert {names for _, _, names in first} >= {(*OLD, "Azure Finch")}
    easy, unread = shards.uid(0), shards.uid(1)
    now = {uid: names for _, uid, names in second}
    assert Counter(uid for _, uid, _ in second).most_common(1)[0][1] <= 2
    assert easy not in now
    assert set(now[unread]) == {*OLD, shards.labels()[1]}
    for uid, names in now.items():
        if uid != unread:
            label = shards.labels()[[shards.uid(n) for n in range(12)].index(uid)]
            assert names == tuple(dict.fromkeys(("Crimson-browed Heron", "Azure Finch", label)))
    assert engine.synced == 1
    assert "Options of 12 photos were mined anew after step 3" in caplog.text
    assert "left out because every reply names the label: 1" in caplog.text
    assert "without new options because no reply parses: 1" in caplog.text
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    logged = {name: [(point.step, point.value) for point in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert logged["options/asked"] == [(3, 12)]
    assert logged["options/photos"] == [(3, 11)]
    assert logged["options/easy"] == logged["options/not_renewed"] == [(3, 1)]
    assert 0 < logged["options/staleness"][0][1] < 1
    assert logged["options/recall_before"] == [(3, 1)]
    (folder,) = (tmp_path / "run/options").iterdir()
    assert folder.name == "step-00000003-epoch-0001"
    head, choices = read_options(folder / "options.jsonl")
    assert head["rules"] == {"m": 3, "scope": None, "keep_easy": False, "within": None}, "those of the file"
    assert len(choices) == 10
    assert len(read_store(folder / "replies.jsonl")[1]) == 12


def test_easy_photos_stay_where_the_rules_say_so(shards: ShardSet, options: Path, tmp_path: Path):
    learner, _ = fit(tmp_path / "run", shards, options, rules=Rules(m=2, keep_easy=True))
    now = {uid: names for epoch, uid, names in learner.seen if epoch == 1}
    assert len(now) == 12
    assert {len(names) for uid, names in now.items() if uid != shards.uid(1)} == {2}


def test_photos_are_asked_by_turns_every_so_many_epochs(shards: ShardSet, options: Path, tmp_path: Path):
    fit(tmp_path / "run", shards, options, epochs=7, every=2, photos=5)
    folders = sorted((tmp_path / "run/options").iterdir())
    assert [folder.name[-4:] for folder in folders] == ["0002", "0004", "0006"]
    asked = [{photo.uid for photo in read_store(folder / "replies.jsonl")[1]} for folder in folders]
    assert [len(uids) for uids in asked] == [5, 5, 5]
    assert not asked[0] & asked[1]
    assert len(asked[0] | asked[1] | asked[2]) == 12


def test_a_resumed_run_goes_on_with_the_options_that_were_in_use(shards: ShardSet, options: Path, tmp_path: Path):
    whole, _ = fit(tmp_path / "whole", shards, options, epochs=3)
    begun, _ = fit(tmp_path / "cut", shards, options, epochs=2)
    (again, engine) = fit(tmp_path / "cut", shards, options, epochs=3, start=tmp_path / "cut/last.ckpt")
    assert begun.seen + again.seen == whole.seen
    assert engine.synced == 1, "only the third epoch's options are mined"
    for file in (tmp_path / "whole/options").rglob("*.jsonl"):
        assert (tmp_path / "cut" / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()


def test_evaluating_a_checkpoint_needs_no_options(shards: ShardSet, options: Path, tmp_path: Path):
    fit(tmp_path / "run", shards, options)
    options.unlink()
    data = PromptData([ShardSource(shards.folder, options=options)], OpenWorld(QUESTION), workers=0)
    (found,) = toy_trainer(tmp_path / "judged").validate(
        Learner(), datamodule=data, ckpt_path=tmp_path / "run/last.ckpt", verbose=False, weights_only=False
    )
    assert found == {"data/seen/quarantined": 0.0}


def test_replies_of_other_weights_are_not_gone_on_with(
    shards: ShardSet, options: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    fit(tmp_path / "a", shards, options)
    (file,) = (tmp_path / "a/options").rglob("replies.jsonl")
    whole = file.read_bytes()
    fit(tmp_path / "a", shards, options)
    assert "is sampled anew" not in caplog.text
    fit(tmp_path / "a", shards, options, seed=7)
    assert "is sampled anew: it was made with another seed" in caplog.text
    assert file.read_bytes() != whole


def test_what_cannot_be_mined_anew_is_a_sentence(shards: ShardSet, options: Path, tmp_path: Path):
    def refused(data: Any, said: str) -> None:
        with pytest.raises(UserError, match=said):
            toy_trainer(tmp_path, OptionRefresh()).fit(Learner(), datamodule=data)

    source = ShardSource(shards.folder, options=options)
    refused(ToyStream([source], OpenWorld()), "for fgvr.datamodules.PromptData, .* got ToyStream and Learner")
    refused(triplet_data(packed(tmp_path / "birds")), "got TripletData")
    refused(PromptData([source], ClosedWorld()), "data.init_args.task is ClosedWorld")
    refused(PromptData([ShardSource(shards.folder)], OpenWorld()), "no set of data.train has any")
    for wrong in ("every", "photos", "rows"):
        settings: dict[str, Any] = {wrong: 0}
        with pytest.raises(UserError, match=f"{wrong} must be at least 1, got 0"):
            OptionRefresh(**settings)
    with pytest.raises(UserError, match=r"sampling\.positives must be left out"):
        OptionRefresh(sampling=Sampling(4, positives=1))
