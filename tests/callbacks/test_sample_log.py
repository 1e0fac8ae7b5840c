import json
import logging
import random

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from small_disks import fill, small_disk
from toy_stream import ToyLearner, ToyStream, toy_trainer, write_set

from fgvr.callbacks.sample_log import drop_rows, read_log
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.shards.loading import StepLoader
from fgvr.shards.manifest import load_index, load_manifest
from fgvr.whole_files import sealed_line


@pytest.fixture
def data(tmp_path):
    return write_set(tmp_path / "set", {"train-seen": [7, 9], "val-seen": [5], "val-unseen": [6]})


def stream(data, **options):
    return ToyStream([ShardSource(data)], OpenWorld(), **{"batch_size": 4, "workers": 0, **options})


def damage(data, split, cohort, number):
    shard = load_manifest(data).select(split, (cohort,))[0]
    entry = load_index(data, shard)[number].members[-1]
    with (data / shard.file).open("r+b") as file:
        file.seek(entry.offset)
        file.write(b"\x00\x01\x02")


def rows(*places):
    fields = {"positions": [0], "uids": ["a"], "quarantined": []}
    return "".join(json.dumps({"epoch": epoch, "step": step, **fields}) + "\n" for epoch, step in places)


@pytest.mark.parametrize("torn", ["", '{"epoch":1,"st', '{"epoch": 1, "step": 9}', "\x00\x00\n"])
def test_drop_rows_at_or_after_a_step(tmp_path, torn):
    path = tmp_path / "samples.jsonl"
    path.write_text(rows((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)) + torn)
    assert drop_rows(path, 1, 1) == 2 + bool(torn)
    assert path.read_text() == rows((0, 0), (0, 1), (1, 0))
    assert drop_rows(path, 1, 1) == 0
    path.write_text(rows((0, 0)) + torn)
    assert drop_rows(path, 2, 0) == bool(torn)
    assert path.read_text() == rows((0, 0))


def test_read_log_refuses_a_torn_line(tmp_path):
    (tmp_path / "samples.jsonl").write_text(rows((0, 0)) + '{"epoch"')
    with pytest.raises(UserError, match="line 2 is not whole"):
        read_log(tmp_path)


def test_no_flipped_bit_in_a_log_is_believed(tmp_path, caplog):
    fields = {"positions": [0, 1], "uids": ["a", "b"], "quarantined": [["b", "it is empty"]]}
    whole = [sealed_line({"epoch": 0, "step": step, **fields}) for step in range(6)]
    path = tmp_path / "samples.jsonl"
    for bit in random.Random(0).sample(range(8 * len(whole[2])), 240):
        line = bytearray(whole[2])
        line[bit // 8] ^= 1 << bit % 8
        path.write_bytes(b"".join([*whole[:2], line, *whole[3:]]))
        with pytest.raises(UserError, match="line 3 is not whole"):
            read_log(tmp_path)
        before = path.read_bytes()
        assert drop_rows(path, 0, 5) == 1  # the damaged line is no reason to drop the ones after it
        assert path.read_bytes() == before[: -len(whole[5])]
        assert "samples.jsonl is damaged: its lines [3" in caplog.text
        caplog.clear()


def test_quarantined_samples_are_logged_named_and_accounted(data, tmp_path, caplog):
    damage(data, "train", "seen", 2)
    damage(data, "val", "unseen", 0)
    logger = CSVLogger(tmp_path / "csv")
    trainer = toy_trainer(tmp_path, max_epochs=2, logger=logger, log_every_n_steps=1)
    module = ToyLearner()
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        trainer.fit(module, datamodule=stream(data, max_bad_share=0.2))
    bad = [tuple(pair) for row in read_log(tmp_path) for pair in row["quarantined"]]
    reason = "train-seen-000000.tar, s00002.png: the bytes do not have the checksum of the index"
    assert bad == [("s00002", reason)] * 2  # once in each epoch
    assert caplog.text.count("quarantined in training: s00002") == 2
    assert caplog.text.count("quarantined in evaluation: s00021") == 2
    table = [
        line.split(",")
        for line in (tmp_path / "csv" / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    ]
    column = {name: [row[index] for row in table[1:] if row[index]] for index, name in enumerate(table[0])}
    assert (column["data/read"], column["data/quarantined"]) == (["15.0", "15.0"], ["1.0", "1.0"])
    assert set(column["data/unseen/quarantined"]) == {"1.0"}
    assert set(column["data/seen/quarantined"]) == {"0.0"}


def test_too_many_bad_samples_end_the_run_with_a_sentence(data, tmp_path):
    damage(data, "train", "seen", 2)
    with pytest.raises(UserError, match=r"at most 0.10%.*1 of the 16 of epoch 0 are: s00002 \(train-seen-000000.tar"):
        toy_trainer(tmp_path).fit(ToyLearner(), datamodule=stream(data))


class LosesOne(Callback):
    """A step whose batch is counted by nobody, as a loader with a defect would do it."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            stream = trainer.train_dataloader
            assert isinstance(stream, StepLoader)
            stream.tally = stream._tally_before


def test_an_epoch_that_lost_samples_ends_the_run(data, tmp_path):
    with pytest.raises(UserError, match="each of its 16 samples once, but 12 were read and 0 quarantined"):
        toy_trainer(tmp_path, LosesOne()).fit(ToyLearner(), datamodule=stream(data))


def test_a_new_run_in_an_old_folder_says_what_it_drops(data, tmp_path, caplog):
    (tmp_path / "samples.jsonl").write_text(rows((0, 0), (0, 1)))
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        toy_trainer(tmp_path, max_epochs=1).fit(ToyLearner(), datamodule=stream(data))
    assert "dropped 2 lines at or after step 0 of epoch 0" in caplog.text
    assert len(read_log(tmp_path)) == 4


class Fill(Callback):
    """Takes all the room there is, after the second step."""

    def __init__(self, disk):
        self.disk = disk

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            fill(self.disk)


def test_a_full_disk_is_named_with_the_log_whose_rows_stay_whole(data, tmp_path):
    with small_disk(tmp_path / "disk", megabytes=20) as disk:
        with pytest.raises(OSError, match="No space left on device") as full:
            toy_trainer(disk, Fill(disk), max_epochs=40).fit(ToyLearner(), datamodule=stream(data))
        assert full.value.filename == str(disk / "samples.jsonl")
        (disk / "filler").unlink()
        size = (disk / "samples.jsonl").stat().st_size
        assert size % 4096 == 0, "a row was torn where the room ended"
        dropped = drop_rows(disk / "samples.jsonl", 40, 0)
        assert dropped == 1, "and a start drops it"
        assert [row["step"] for row in read_log(disk)][:8] == [0, 1, 2, 3] * 2
