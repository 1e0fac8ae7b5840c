import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from preloaded import ranks_strategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_pictures import size_of
from toy_validation import (
    FIGURES,
    SEEN,
    UNSEEN,
    Short,
    Silent,
    Toy,
    ToyData,
    TwoSets,
    check_datasets,
    check_figures,
    trainer,
)

from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.errors import UserError
from fgvr.judges.taxonomy import TaxonomyJudge

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.mark.parametrize("what", ["validate", "test"])
def test_figures_without_any_logger(what: str, tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()))
    getattr(run, what)(Toy(), datamodule=ToyData(), verbose=False)
    check_figures(run.callback_metrics)
    # histogram: n, four summaries, six ends, eight bins and several; ranks, exact, unread; four of paths; three lengths
    assert len(run.callback_metrics) == 2 * (20 + 3 + 2 + 4 + 3)
    root = tmp_path / "pictures" / ("test" if what == "test" else "")
    pages = {str(file.relative_to(root)): size_of(file) for file in root.rglob("*.png")}
    assert pages == {
        "answers/seen/step-00000000.png": (924, 322),
        "answers/unseen/step-00000000.png": (468, 322),
        "confusions/seen/step-00000000.png": (500, 322),
        "lengths/step-00000000.png": (840, 340),
        "verdicts/step-00000000.png": (664, 202),
    }


def test_files_hold_every_answer_and_class(tmp_path: Path) -> None:
    trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Toy(), datamodule=ToyData(), verbose=False)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["cohort"], row["label"], row["completion"]) for row in rows] == [
        *(("seen", *said) for said in SEEN[:1] + SEEN[3:] + SEEN[1:3]),  # sorted by uid: 0-0, 0-2, 1-0, 2-0
        *(("unseen", *said) for said in UNSEEN),
    ]
    assert rows[0]["verdict"] == "specific"
    assert (rows[1]["answer"], rows[1]["verdict"], rows[1]["node"]) == (None, None, None)
    assert (rows[3]["answer"], rows[3]["verdict"], rows[3]["node"]) == ("finches", "less specific", "Finches")
    assert {(row["several"], row["unjudged"], row["distribution"]) for row in rows} == {(False, None, None)}
    assert [row["exact"] for row in rows] == [True] + [False] * 5
    assert [row["length"] for row in rows] == [1, 3, 1, 1, 1, 1]  # words, as a toy has no tokenizer
    assert "second_verdict" not in rows[0]
    with (tmp_path / "per_class.csv").open(encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table == [
        ["cohort", "class", "n", "exact", "correct", "parse_failures", "unjudged"],
        ["seen", "Ash", "2", "0", "1", "1", "0"],
        ["seen", "Ruby", "2", "1", "1", "0", "0"],
        ["unseen", "Barred", "2", "0", "1", "0", "0"],
    ]
    assert not list(tmp_path.glob(".*.part"))


def test_tensorboard_gets_figures_pictures_and_escaped_tables(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge(), pictures=2), logger=logger)
    run.fit(Toy(), datamodule=ToyData())
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    # fit runs a sanity check first: the one value of each figure is that of the real validation.
    for cohort, figures in FIGURES.items():
        for name, value in figures.items():
            (point,) = events.Scalars(f"{cohort}/{name}")
            assert point.value == pytest.approx(value)
    assert sorted(tags["images"]) == ["answers/seen", "answers/unseen", "confusions/seen", "lengths", "verdicts"]
    (confused,) = events.Images("confusions/seen")  # Ruby was taken for Ash
    assert Image.open(io.BytesIO(confused.encoded_image_string)).size == (500, 322)
    (shown,) = events.Images("answers/seen")
    assert shown.step == 2
    assert Image.open(io.BytesIO(shown.encoded_image_string)).size == (468, 322)  # two cards side by side
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    assert "| Ash | 2 | 0 | 1 | 1 |" in texts["classes/seen/text_summary"]
    assert "| Barred | wrens | less specific | 1 |" in texts["confusions/unseen/text_summary"]
    assert all("<" not in text for text in texts.values())


def test_any_other_logger_gets_the_figures(tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge(), pictures=0), logger=CSVLogger(tmp_path))
    run.validate(Toy(), datamodule=ToyData(), verbose=False)
    check_figures(run.logged_metrics)


def test_a_sanity_check_leaves_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()), limit_val_batches=1, check_val_every_n_epoch=5)
    module = Toy()
    run.fit(module, datamodule=ToyData())
    assert module.validated == 2  # the sanity check's, one batch a cohort
    assert not list(tmp_path.iterdir())
    assert not run.callback_metrics


def test_each_pass_starts_from_nothing(tmp_path: Path) -> None:
    callback = JudgeValidation(TaxonomyJudge())
    for _ in range(2):
        run = trainer(tmp_path, callback)
        run.validate(Toy(), datamodule=ToyData(), verbose=False)
        assert run.callback_metrics["seen/n"] == 4


def test_a_module_that_returns_no_completions_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must return the list of completions, got NoneType"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Silent(), datamodule=ToyData(), verbose=False)
    with pytest.raises(ValueError, match="one completion per example, got 1 for 3"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Short(), datamodule=ToyData(), verbose=False)
    with pytest.raises(UserError, match="needs a datamodule"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Toy(), ToyData().val_dataloader(), verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_unjudged": 1.5}, "between 0 and 1"),
        ({"weights": (1.0, 2.0, 3.0, 4.0)}, "four weights"),
        ({"pictures": -1}, "0 or more"),
    ],
)
def test_refusals_are_sentences(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        JudgeValidation(TaxonomyJudge(), **options)


@pytest.mark.slow
def test_two_processes_log_and_write_what_one_does(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    trainer(alone, JudgeValidation(TaxonomyJudge())).validate(Toy(), datamodule=TwoSets(), verbose=False)
    spread = {"strategy": ranks_strategy(), "devices": 2, "use_distributed_sampler": False}
    run = trainer(together, JudgeValidation(TaxonomyJudge()), **spread)
    run.validate(Toy(), datamodule=TwoSets(), verbose=False)
    check_figures(run.callback_metrics)
    check_datasets(run.callback_metrics)
    for name in ("answers.jsonl", "per_class.csv"):
        assert (together / name).read_text(encoding="utf-8") == (alone / name).read_text(encoding="utf-8")


class NobodyToValidate(ToyData):
    """Photos to train on alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts = []

    def val_dataloader(self):
        return []


@pytest.mark.filterwarnings("ignore:Total length of")
def test_a_judge_with_nothing_to_judge_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()))
    run.validate(Toy(), datamodule=NobodyToValidate(), verbose=False)
    run.fit(Toy(), datamodule=NobodyToValidate())
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("fgvr")]
    assert "nothing to judge, as no shard set has pictures of the split val: name one" in said


@pytest.mark.parametrize(("data", "batches"), [(ToyData, 1.0), (NobodyToValidate, 0)])
def test_a_judge_with_something_to_judge_or_no_validation_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: type[ToyData], batches: float
) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()), limit_val_batches=batches)
    run.fit(Toy(), datamodule=data())
    assert "nothing to judge" not in caplog.text
