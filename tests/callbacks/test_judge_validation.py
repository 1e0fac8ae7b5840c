import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from leaving import leave_group_at_exit
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from fgvr.callbacks.judge_validation import Evaluation, JudgeValidation
from fgvr.data.tasks import OpenWorld
from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import UserError
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.types import Example, ImageInputs, PromptBatch, ReadRecord

BIRDS = Taxonomy(
    {
        "Ruby": ("Songbirds", "Finches", "Ruby"),
        "Ash": ("Songbirds", "Finches", "Ash"),
        "Barred": ("Songbirds", "Wrens", "Barred"),
    },
    ("order", "family", "species"),
    "bird",
)
# label, completion: what the toy model says of the photo whose uid is the place in the list
SEEN = [
    ("Ruby", "<answer>Ruby</answer>"),
    ("Ruby", "<answer>Ash</answer>"),
    ("Ash", "<answer>finches</answer>"),
    ("Ash", "<script>alert(1)</script> | hello"),
]
UNSEEN = [("Barred", "<answer>wrens</answer>"), ("Barred", "<answer>unknown</answer>")]
FIGURES = {
    # n 4; exact 1; family: Ruby, Ash, finches of 4; correct: S and S-: 2 of 4; specificity (1 + 2/3) / 2
    "seen": {"n": 4, "exact": 0.25, "family": 0.75, "correctness": 0.5, "specificity": 5 / 6, "parse_failures": 0.25},
    # one of two is correct, with 2/3
    "unseen": {
        "n": 2,
        "exact": 0,
        "family": 0.5,
        "correctness": 0.5,
        "specificity": 2 / 3,
        "abstain": 0.5,
        "unread": 1,
    },
}


def photo() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(data, "PNG")
    return data.getvalue()


def batch_of(cohort: str, rows: list[tuple[str, str]], quarantined: int = 0) -> PromptBatch:
    examples = [
        Example(f"{cohort}-{place}", (photo(),), label, BIRDS.paths[label], "val", cohort, "birds", {"say": text})
        for place, (label, text) in enumerate(rows)
    ]
    ids = torch.zeros(len(rows), 1, dtype=torch.long)
    images = ImageInputs(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 3, dtype=torch.long))
    lost = tuple((f"lost-{place}", "cut short") for place in range(quarantined))
    positions, places = torch.zeros(3, len(rows), 1, dtype=torch.long), tuple(range(len(rows)))
    record = ReadRecord(0, 0, places, tuple(example.uid for example in examples), lost)
    return PromptBatch(examples, ids, ids, ids, positions, images, (1,) * len(rows), places, record)


class Toy(LightningModule):
    def setup(self, stage: str) -> None:
        leave_group_at_exit()

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.validated = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.validated += 1
        return [example.extra["say"] for example in batch.examples]

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ToyData(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.task, self.taxonomy, self.cohorts = OpenWorld().bind(BIRDS), BIRDS, ["seen", "unseen"]

    def train_dataloader(self) -> Any:
        return DataLoader([0, 1], batch_size=None)  # pyright: ignore[reportArgumentType]

    def val_dataloader(self) -> Any:
        seen = [batch_of("seen", SEEN[:3]), batch_of("seen", []), batch_of("seen", SEEN[3:])]
        for place, batch in enumerate(seen):
            batch.examples[:] = [Example(**{**vars(e), "uid": f"{e.uid}-{place}"}) for e in batch.examples]
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        unseen = [batch_of("unseen", UNSEEN, quarantined=1), batch_of("unseen", [])]
        parts = [batches[rank::world] for batches in (seen, unseen)]
        return [DataLoader(part, batch_size=None) for part in parts]  # pyright: ignore[reportArgumentType]

    test_dataloader = val_dataloader


def trainer(folder: Path, callback: JudgeValidation, logger: Any = False, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(callbacks=[callback], logger=logger, default_root_dir=folder, **(settings | options))


def check_figures(metrics: dict[str, Any]) -> None:
    for cohort, figures in FIGURES.items():
        for name, value in figures.items():
            assert float(metrics[f"{cohort}/{name}"]) == pytest.approx(value, abs=1e-6), (cohort, name)


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.mark.parametrize("what", ["validate", "test"])
def test_figures_without_any_logger(what: str, tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()))
    getattr(run, what)(Toy(), datamodule=ToyData(), verbose=False)
    check_figures(run.callback_metrics)
    assert len(run.callback_metrics) == 2 * (11 + 3 + 2)  # histogram, ranks, exact and unread


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
    with (tmp_path / "per_class.csv").open(encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table == [
        ["cohort", "class", "n", "exact", "correct", "parse_failures"],
        ["seen", "Ash", "2", "0", "1", "1"],
        ["seen", "Ruby", "2", "1", "1", "0"],
        ["unseen", "Barred", "2", "0", "1", "0"],
    ]
    assert not list(tmp_path.glob(".*.part"))


def test_tensorboard_gets_figures_pictures_and_escaped_tables(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge(), pictures=2), logger)
    run.fit(Toy(), datamodule=ToyData())
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    # fit runs a sanity check first: the one value of each figure is that of the real validation.
    for cohort, figures in FIGURES.items():
        for name, value in figures.items():
            (point,) = events.Scalars(f"{cohort}/{name}")
            assert point.value == pytest.approx(value)
    assert sorted(tags["images"]) == ["answers/seen", "answers/unseen", "verdicts"]
    (shown,) = events.Images("answers/seen")
    assert shown.step == 2
    assert Image.open(io.BytesIO(shown.encoded_image_string)).size == (468, 322)  # two cards side by side
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    assert "| Ash | 2 | 0 | 1 | 1 |" in texts["classes/seen/text_summary"]
    assert "| Barred | wrens | less specific | 1 |" in texts["confusions/unseen/text_summary"]
    assert all("<" not in text for text in texts.values())


def test_any_other_logger_gets_the_figures(tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge(), pictures=0), CSVLogger(tmp_path))
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


class Silent(Toy):
    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None


class Short(Toy):
    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return ["<answer>Ruby</answer>"]


def test_a_module_that_returns_no_completions_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must return the list of completions, got NoneType"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Silent(), datamodule=ToyData(), verbose=False)
    with pytest.raises(ValueError, match="one completion per example, got 1 for 3"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Short(), datamodule=ToyData(), verbose=False)
    with pytest.raises(UserError, match="needs a datamodule"):
        trainer(tmp_path, JudgeValidation(TaxonomyJudge())).validate(Toy(), ToyData().val_dataloader(), verbose=False)
    with pytest.raises(UserError, match="0 or more"):
        JudgeValidation(TaxonomyJudge(), pictures=-1)


def test_the_same_photos_are_shown_whatever_the_batches() -> None:
    def shown(sizes: list[int]) -> list[str]:
        evaluation = Evaluation(OpenWorld(), TaxonomyJudge(), BIRDS, ["seen"], pictures=3)
        examples = [Example(f"u{i}", (b"",), "Ruby", BIRDS.paths["Ruby"], "val", "seen", "b") for i in range(12)]
        for size in sizes:
            batch = batch_of("seen", [])
            batch.examples[:], examples = examples[:size], examples[size:]
            evaluation.add("seen", batch, ["<answer>Ruby</answer>"] * size)
        assert evaluation.scores["seen"].figures()["n"] == 12
        return [entry.example.uid for entry in evaluation.shown["seen"]]

    assert shown([12]) == shown([1, 5, 6]) == shown([4, 4, 4])


@pytest.mark.slow
def test_two_processes_log_and_write_what_one_does(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    trainer(alone, JudgeValidation(TaxonomyJudge())).validate(Toy(), datamodule=ToyData(), verbose=False)
    spread = {"strategy": "ddp_spawn", "devices": 2, "use_distributed_sampler": False}
    run = trainer(together, JudgeValidation(TaxonomyJudge()), **spread)
    run.validate(Toy(), datamodule=ToyData(), verbose=False)
    check_figures(run.callback_metrics)
    for name in ("answers.jsonl", "per_class.csv"):
        assert (together / name).read_text(encoding="utf-8") == (alone / name).read_text(encoding="utf-8")
