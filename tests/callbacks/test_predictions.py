import csv
import io
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import encoded, photo
from leaving import leave_group_at_exit
from lightning.pytorch import Callback, LightningModule, Trainer
from preloaded import ranks_strategy
from toy_stream import TAXONOMY, ToyStream, write_set

from fgvr.callbacks.predictions import NAMED, Prediction, Predictions, as_csv, predictions, within
from fgvr.callbacks.two_step import TwoStepInference
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import places_of
from fgvr.data.images import open_image
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.taxonomy.branch import branch_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, ImageInputs, PromptBatch, ReadRecord

# What the toy model says of a photo whose name begins so.
SAID = {
    "azure": "<answer>azure finch</answer>",
    "owl": "<think>big eyes</think><answer>an Owl</answer>",
    "odd": "<answer>=HYPERLINK(0)</answer>",
    "mute": '-- I, "er",\n\rdo not know',
}
COLUMNS = ["file", "answer", "family", "species", "completion", "error"]
EMPTY = torch.zeros(0, 0, dtype=torch.long)
NO_IMAGES = ImageInputs(torch.zeros(0, 0, dtype=torch.uint8), torch.zeros(0, 3, dtype=torch.long))


def encode(example: Example, rng: random.Random) -> Example:
    open_image(example.images[0], example.uid)
    return example


def collate(items: list[Example], record: ReadRecord) -> PromptBatch:
    positions = torch.zeros(3, 0, 0, dtype=torch.long)
    return PromptBatch(items, EMPTY, EMPTY, EMPTY, positions, NO_IMAGES, (), places_of(items, record), record)


class PhotoStream(ToyStream):
    def eval_encode(self) -> Callable[..., Any]:
        return encode

    def eval_collate(self) -> Callable[..., Any]:
        return collate


class Sayer(LightningModule):
    def setup(self, stage: str) -> None:
        leave_group_at_exit()

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> Any:
        return [SAID[Path(example.uid).stem.split("-")[0]] for example in batch.examples]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"train-seen": [4]})  # no val, no test: nothing but the taxonomy is needed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["sub/azure.jpg", "owl.PNG", "odd.png", "mute.png"]):
        (folder / name).write_bytes(encoded(photo(number), "PNG"))
    (folder / "broken.jpg").write_bytes(b"not a photo")
    (folder / "film.mov").write_bytes(b"not a photo")
    return folder


def predict(
    data: Path,
    photos: Path | None,
    root: Path,
    module: LightningModule | None = None,
    steps: Callback | None = None,
    within: str | None = None,
    **options: Any,
) -> None:
    stream = PhotoStream([ShardSource(data)], OpenWorld(), eval_batch_size=2, workers=0, predict=photos, within=within)
    callbacks = [Predictions(), *([] if steps is None else [steps])]
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False} | options
    trainer = Trainer(default_root_dir=root, callbacks=callbacks, enable_checkpointing=False, **settings)
    trainer.predict(module or Sayer(), datamodule=stream, return_predictions=False)


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def read(root: Path) -> list[list[str]]:
    return table((root / "predictions.csv").read_bytes().decode())


def test_every_photo_has_its_row_whatever_happened_to_it(data, photos, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    predict(data, photos, tmp_path / "run")
    header, broken, film, mute, odd, owl, azure = read(tmp_path / "run")
    assert header == COLUMNS
    assert broken[:5] == ["broken.jpg", "", "", "", ""]
    assert broken[5] == "broken.jpg must be a JPEG, PNG, WEBP, GIF, BMP or TIFF image, but its bytes are not one"
    assert film == ["film.mov", "", "", "", "", "film.mov: it must be an image file, but its suffix is '.mov'"]
    assert mute == ["mute.png", "", "", "", "'" + SAID["mute"], ""]
    assert odd == ["odd.png", "'=HYPERLINK(0)", "", "", SAID["odd"], ""]
    assert owl == ["owl.PNG", "an Owl", "owl", "", SAID["owl"], ""]
    assert azure == ["sub/azure.jpg", "azure finch", "finch", "Azure Finch", SAID["azure"], ""]
    assert not list((tmp_path / "run").glob(".*.part"))
    said = [record.getMessage() for record in caplog.records if record.name == "fgvr.callbacks.predictions"]
    assert len(said) == 3
    assert "film.mov" in said[1]
    assert said[2].startswith(
        "Of 6 photos, 2 got a name of the taxonomy, 1 another answer, 1 none that can be read, and 2"
    )


def test_within_a_branch_only_its_names_are_answers(data, photos, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    predict(data, photos, tmp_path / "run", within="Finch")
    rows = {row[0]: row for row in read(tmp_path / "run")[1:]}
    assert rows["sub/azure.jpg"][1:4] == ["azure finch", "finch", "Azure Finch"]
    assert rows["owl.PNG"][1:5] == ["", "", "", SAID["owl"]]
    assert rows["odd.png"][1] == ""
    said = [record.getMessage() for record in caplog.records if record.name == "fgvr.callbacks.predictions"]
    assert "Within finch: 2 answers name nothing of it, and are left out." in said
    assert said[-1].startswith("Of 6 photos, 1 got a name of the taxonomy, 0 another answer, 1 none that can be read,")
    with pytest.raises(UserError, match=r"'Robins' is none: there are 'bird', 'finch', 'owl'"):
        predict(data, photos, tmp_path / "other", within="Robins")


def test_what_stands_above_a_branch_means_the_whole_of_it():
    rows = [Prediction("a", "a bird"), Prediction("b", "an owl"), Prediction("c", error="torn")]
    kept = within(rows, branch_of(TAXONOMY, "owl"))
    assert [row.answer for row in kept] == ["owl", "an owl", ""]
    assert kept[2].error == "torn"


class Decides(TwoStepInference):
    """Two steps that name the owl another bird, and abstain about the azure finch."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.named = {"owl.PNG": "Jade Owl", "sub/azure.jpg": None}

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None: ...

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...


def test_what_two_steps_decided_is_the_answer(data, photos, tmp_path):
    predict(data, photos, tmp_path / "run", steps=Decides())
    rows = {row[0]: row[1:] for row in read(tmp_path / "run")}
    assert rows["owl.PNG"] == ["Jade Owl", "owl", "Jade Owl", SAID["owl"], ""]
    assert rows["sub/azure.jpg"] == ["", "", "", SAID["azure"], ""]
    assert rows["odd.png"][0] == "'=HYPERLINK(0)", "what was not decided stays as it was said"


def test_photos_that_are_not_reached_say_so(data, photos, tmp_path):
    predict(data, photos, tmp_path / "run", limit_predict_batches=2)
    rows = read(tmp_path / "run")[1:]
    assert [row[0] for row in rows if "not asked" in row[5]] == ["owl.PNG", "sub/azure.jpg"]


def test_a_second_pass_reads_the_folder_again(data, photos, tmp_path):
    stream = PhotoStream([ShardSource(data)], OpenWorld(), workers=0, predict=photos)
    for count in (6, 7):
        trainer = Trainer(
            default_root_dir=tmp_path / "run", callbacks=[Predictions()], accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.predict(Sayer(), datamodule=stream, return_predictions=False)
        assert len(read(tmp_path / "run")) == 1 + count
        (photos / "azure-2.jpg").write_bytes(encoded(photo(9), "PNG"))


def test_unusable_photos_are_all_in_the_table_and_the_first_in_the_log(data, tmp_path, caplog):
    (tmp_path / "bad").mkdir()
    for number in range(NAMED + 3):
        (tmp_path / "bad" / f"{number:02d}.jpg").write_bytes(b"")
    predict(data, tmp_path / "bad", tmp_path / "run")
    assert all("zero bytes" in row[5] for row in read(tmp_path / "run")[1:])
    assert f"3 more, named in {tmp_path / 'run' / 'predictions.csv'}" in caplog.text
    assert "22.jpg" not in caplog.text


def test_a_cell_can_be_read_back_and_is_never_a_formula():
    texts = [
        "=1",
        "+1",
        "-1",
        "@x",
        " =1",
        "\t=1",
        "\r=1",
        "\n1",
        "＝1",
        "\u00a0=1",
        "'=1",
        "'tis",
        "a=1",
        "",
        "\ud800",
    ]
    text = as_csv([Prediction("f", completion=text) for text in texts], TAXONOMY).decode()
    cells = [row[4] for row in table(text)[1:]]
    assert [cell.removeprefix("'") for cell in cells[:-1]] == texts[:-1]
    assert cells[-1] == "\\ud800"
    assert all(cell[:1] not in "=+-@＝\t\r\n" and cell.lstrip()[:1] not in "=" for cell in cells if cell)


def test_a_rank_may_be_called_like_a_column_and_a_path_may_be_short():
    taxonomy = Taxonomy({"Ash": ("Birds", "Finches", "Ash"), "Emu": ("Birds", "Emu")}, ("error", "family", "species"))
    text = as_csv([Prediction("a", "emu"), Prediction("b", "birds"), Prediction("c", "thing")], taxonomy).decode()
    header, emu, birds, thing = table(text)
    assert header == ["file", "answer", "error (rank)", "family", "species", "completion", "error"]
    assert emu[2:5] == ["Birds", "Emu", "Emu"]
    assert birds[2:5] == ["Birds", "", ""]
    assert thing[2:5] == ["", "", ""]


def test_refusals_are_sentences(data, photos, tmp_path):
    with pytest.raises(UserError, match=r"predicting needs photos: give .* --data\.init_args\.predict PATH"):
        predict(data, None, tmp_path)
    closed = PhotoStream([ShardSource(data)], ClosedWorld(), predict=photos)
    with pytest.raises(UserError, match="without labels need a task"):
        closed.setup("predict")

    class Silent(Sayer):
        def predict_step(self, batch: PromptBatch, batch_idx: int) -> Any:
            return torch.zeros(1)

    with pytest.raises(ValueError, match="list of completions, got Tensor"):
        predict(data, photos, tmp_path, Silent())
    with pytest.raises(ValueError, match="one completion per example, got 1 for 0"):
        predictions(OpenWorld(), collate([], ReadRecord(0, 0, (), ())), ["<answer>Ash</answer>"])
    trainer = Trainer(callbacks=[Predictions()], accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="Predictions needs a data module"):
        trainer.predict(Sayer(), [[0]])
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.slow
def test_two_processes_write_what_one_does(data, photos, tmp_path):
    predict(data, photos, tmp_path / "alone")
    predict(data, photos, tmp_path / "both", strategy=ranks_strategy(), devices=2, use_distributed_sampler=False)
    files = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("alone", "both")]
    assert files[0] == files[1]


def test_where_no_reply_can_be_read_what_to_do_is_said(data, photos, tmp_path, caplog):
    for name in ("sub/azure.jpg", "owl.PNG", "odd.png"):
        (photos / name).unlink()
    predict(data, photos, tmp_path / "run")
    assert (
        "No reply could be read, so no photo was named: ask what the model was taught (data.init_args." in caplog.text
    )
    assert "model.init_args.max_new_tokens" in caplog.text


def test_a_single_reply_that_can_be_read_is_enough(data, photos, tmp_path, caplog):
    predict(data, photos, tmp_path / "run")
    assert "No reply could be read" not in caplog.text
