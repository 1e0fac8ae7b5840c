import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_rollouts import scored_group
from toy_stream import SaveEverything, ToyStream, toy_trainer, write_set
from toy_triplets import FAMILY, packed, triplet_data

from fgvr.callbacks import TripletLogging
from fgvr.callbacks.triplets import answers_of
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.similarity import OnlineConfusion
from fgvr.types import PromptBatch, RolloutBatch

WRONG = "Snow Owl"  # what every bird is taken for


class Learner(LightningModule):
    """Answers every photo with one wrong name and one that means nothing; learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.last_rollouts: RolloutBatch | None = None
        self.seen: list[tuple[str, str | None]] = []

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        groups = []
        for example, place in zip(batch.examples, batch.places, strict=True):
            group = scored_group(
                [f"<answer>a {WRONG}</answer>", "<answer>?</answer>", "x"], [0.0] * 3, example.uid, place
            )
            object.__setattr__(group.rollout, "example", example)
            groups.append(group)
            self.seen.append((example.label, example.negative and example.negative.label))
        self.last_rollouts = RolloutBatch([], [], {}, {}, sampled=groups)  # none is learned from
        optimizer: Any = self.optimizers()
        optimizer.step()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        raise AssertionError("nothing is validated here")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("birds") / "birds")


def train(root: Path, shards: Path, callback: TripletLogging, **options: Any) -> Learner:
    data = triplet_data(shards, similarity=OnlineConfusion(), batch_size=8)
    learner = Learner()
    trainer = toy_trainer(
        root, callback, SaveEverything(), max_epochs=3, limit_val_batches=0, log_every_n_steps=1, **options
    )
    trainer.fit(learner, datamodule=data)
    return learner


def test_what_is_confused_becomes_the_negative_of_the_next_epoch_and_is_shown(tmp_path: Path, shards: Path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    learner = train(tmp_path, shards, TripletLogging(triplets=2, every=2), logger=logger)
    first, second = learner.seen[:30], learner.seen[30:60]
    assert all(FAMILY[label] == FAMILY[str(negative)] for label, negative in first)
    assert all(negative == WRONG for label, negative in second if label != WRONG)
    files = sorted((tmp_path / "triplets").iterdir())
    assert [file.name for file in files] == ["epoch-0000.csv", "epoch-0002.csv"]
    rows = list(csv.reader(files[1].read_text().splitlines()))
    assert rows[0] == ["dataset", "class", "negative", "score", "measure"]
    assert {tuple(row) for row in rows[1:] if row[1] != WRONG} == {
        ("birds", label, WRONG, "1.0", "OnlineConfusion") for label in FAMILY if label != WRONG
    }
    assert {row[4] for row in rows if row[1] == WRONG} == {"Siblings"}  # which nothing was taken for, as it is right
    pictures = sorted((tmp_path / "pictures/triplets").iterdir())
    assert [picture.name for picture in pictures] == ["step-00000000.png", "step-00000008.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width > 600
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0}).Reload()
    assert len(events.Images("triplets")) == 2
    assert b"Snow Owl" in events.Tensors("triplets/text_summary")[1].tensor_proto.string_val[0]


def test_each_answer_that_parses_counts():
    group = scored_group(["<answer>Wren</answer>", "x", "<answer>Emu</answer>"], [0.0] * 3)
    assert list(answers_of([group])) == [("birds", "Robin", "Wren"), ("birds", "Robin", "Emu")]


def test_other_data_and_counts_are_refused(tmp_path: Path):
    data = ToyStream([ShardSource(write_set(tmp_path / "set", {"train-seen": [4], "val-seen": [1]}))], OpenWorld())
    with pytest.raises(UserError, match="TripletLogging shows triplets, but ToyStream gives none"):
        toy_trainer(tmp_path, TripletLogging()).fit(Learner(), datamodule=data)
    with pytest.raises(UserError, match="triplets and every must be 1 or more, got 0 and 1"):
        TripletLogging(triplets=0)
