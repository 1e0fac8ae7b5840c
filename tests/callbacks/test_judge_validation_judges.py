import copy
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_validation import Short, Toy, ToyData, TwoSets, check_datasets, check_figures, trainer

from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.checkpoints.format import checkpoints_in
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.runs.folder import RunFolder
from fgvr.strategies.checkpoint_io import WholeCheckpointIO
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PromptBatch, Verdict

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Counting(Judge):
    """The taxonomy's verdicts, and what was done with the judge; `lost` answers get none."""

    def __init__(self, lost: Sequence[str] = (), remote: bool = False) -> None:
        self.inner, self.remote, self.lost, self.log = TaxonomyJudge(), remote, lost, list[str]()

    def bind(self, taxonomy: Taxonomy) -> "Counting":
        bound = copy.copy(self)
        bound.inner = self.inner.bind(taxonomy)
        self.log.append("bind")
        return bound

    def check(self) -> None:
        self.log.append("check")

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement | Unjudged]:
        found = self.inner.verdicts(pairs)
        self.log += ["pair"] * len(pairs)
        return [
            Unjudged("HTTP 503") if answer in self.lost else replace(judgement, distribution={Verdict.WRONG: 1.0})
            for (_, answer), judgement in zip(pairs, found, strict=True)
        ]

    def tally(self) -> dict[str, int]:
        pairs = self.log.count("pair")
        self.log[:] = [entry for entry in self.log if entry != "pair"]
        return {"judge/pairs": pairs}

    def release(self) -> None:
        self.log.append("release")


@pytest.mark.parametrize("remote", [False, True])
def test_a_judge_is_tried_before_training_counted_and_let_go(tmp_path: Path, remote: bool) -> None:
    judge = Counting(remote=remote)
    run = trainer(tmp_path, JudgeValidation(judge), max_epochs=3)
    run.fit(Toy(), datamodule=ToyData())
    assert judge.log == ["bind", "check", "release"]  # once for three passes and the sanity check
    assert run.callback_metrics["validation_judge/pairs"] == 5  # of the last pass: of six replies one did not parse
    check_figures(run.callback_metrics)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert rows[0]["distribution"] == {"wrong": 1.0}


def test_a_judge_is_let_go_when_the_run_fails(tmp_path: Path) -> None:
    judge = Counting(remote=True)
    with pytest.raises(ValueError, match="one completion per example"):
        trainer(tmp_path, JudgeValidation(judge)).validate(Short(), datamodule=ToyData(), verbose=False)
    assert judge.log[-1] == "release"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fgvr-validation")]


class Broken(TaxonomyJudge):
    def check(self) -> None:
        raise UserError("the judge's server must answer, but it is not there: start it")


def test_a_judge_that_cannot_work_stops_the_run_before_it_trains(tmp_path: Path) -> None:
    module = Toy()
    with pytest.raises(UserError, match="server must answer"):
        trainer(tmp_path, JudgeValidation(Broken())).fit(module, datamodule=ToyData())
    assert module.validated == 0


@pytest.mark.parametrize("remote", [False, True])
def test_an_outage_is_no_low_score(tmp_path: Path, remote: bool, caplog: pytest.LogCaptureFixture) -> None:
    judge = Counting(lost=["Ruby"], remote=remote)
    with pytest.raises(UserError, match=r"at most 1\.0% of a validation's answers .* 1 of 6 did: 1 x HTTP 503"):
        trainer(tmp_path, JudgeValidation(judge)).validate(Toy(), datamodule=ToyData(), verbose=False)
    assert not (tmp_path / "answers.jsonl").exists()
    run = trainer(tmp_path, JudgeValidation(judge, max_unjudged=0.2))
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        run.validate(Toy(), datamodule=ToyData(), verbose=False)
    assert len([r for r in caplog.records if "1 of 6 answers got no verdict" in r.getMessage()]) == 1
    figures = run.callback_metrics
    assert (figures["seen/n"], figures["seen/unjudged"], figures["seen/correctness"]) == (4, 0.25, 0.25)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["unjudged"] for row in rows] == ["HTTP 503", *[None] * 5]
    assert rows[0]["verdict"] is None


def test_a_second_judge_is_compared_with_the_first(tmp_path: Path) -> None:
    # closer than one step up is less specific for the one, no step for the other: they differ on finches and wrens
    callback = JudgeValidation(TaxonomyJudge(), second=TaxonomyJudge(close=0))
    run = trainer(tmp_path, callback)
    run.validate(Toy(), datamodule=ToyData(), verbose=False)
    check_figures(run.callback_metrics)
    figures = run.callback_metrics
    # seen: specific and wrong alike, finches not: 2 of 3. Chance: 1/3 each for specific and wrong: 2/9; 4/9 of 7/9.
    assert figures["seen/agreement"] == pytest.approx(2 / 3)
    assert figures["seen/kappa"] == pytest.approx(4 / 7)
    assert (figures["seen/agreement_n"], figures["unseen/agreement"]) == (3, 0.5)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["second_verdict"] for row in rows] == ["specific", None, "wrong", "generic", "generic", "abstain"]


def test_several_datasets_have_figures_of_their_own(tmp_path: Path) -> None:
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge()))
    run.validate(Toy(), datamodule=TwoSets(), verbose=False)
    check_figures(run.callback_metrics)
    check_datasets(run.callback_metrics)


class Learner(Toy):
    """Abstains at first, then is right about half, then wrong throughout: one pass after the other."""

    SAYS = ("unknown", "finches", "dodo")

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return [f"<answer>{self.SAYS[self.passes]}</answer>" for _ in batch.examples]

    def on_validation_end(self) -> None:
        self.passes += 1


@pytest.mark.parametrize(
    "best",
    [
        "seen/validation_reward",
        "seen/macro_harmonic_mean",
        "seen/correctness_low",
        "seen/less_specific",
        "validation_judge/pairs",
    ],
)
def test_any_figure_selects_the_model_and_abstaining_does_not_win(tmp_path: Path, best: str) -> None:
    run = RunFolder(tmp_path, save_every=1, keep=1, best=best)
    callbacks = [JudgeValidation(Counting()), RunCheckpoints(run, {}, {"config": {}, "code": {}})]
    options: dict[str, Any] = {"enable_checkpointing": True, "plugins": [WholeCheckpointIO()], "max_epochs": 3}
    trainer(tmp_path, *callbacks, num_sanity_val_steps=0, **options).fit(Learner(), datamodule=TwoSets())
    record = json.loads((run.checkpoints / "best.json").read_text())
    # passes stand at steps 2, 4, 6; the number of pairs is that of the first throughout
    assert (record["figure"], record["step"]) == (best, 2 if best == "validation_judge/pairs" else 4)
    assert len(checkpoints_in(run.checkpoints)) == 2
