"""When photos are named in two steps: beside each validation and test, and in place of one answer in prediction."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from fgvr.callbacks.showing import view_of
from fgvr.callbacks.steps import steps_behind
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.images import open_image
from fgvr.data.tasks import Task
from fgvr.errors import UserError, refuse_below
from fgvr.metrics.ladder import Asked, best_margin, gates, rungs, split_of
from fgvr.metrics.two_step_rows import as_lines, as_row, made_with
from fgvr.modules import PolicyModule
from fgvr.pictures.trace import trace_page
from fgvr.ranks import of_all_ranks
from fgvr.rollouts.two_step import TwoStep, two_step
from fgvr.shards.order import key_of
from fgvr.taxonomy.branch import Branch
from fgvr.types import PromptBatch
from fgvr.whole_files import write_whole

FOLDER = "two_step"
Row = dict[str, Any]
Shown = tuple[Row, Image.Image]


class TwoStepInference(Callback):
    """Names each photo in two steps, by the weights as they are: `plan` says how, `choice` asks among the options.

    The data's task asks for the names. Without a `choice` it is what training asks, the data's train_task, else letters
    and that task's question; how many options it shows is the plan's, whatever the choice's own number. `scope` says
    which may be options: "classes", those of the taxonomy, of all cohorts together; "cohort", those of the photo's own
    cohort, as papers do that evaluate base and novel classes apart; or "open", whatever was said. Of these only names
    of the branch may be that data.within names. Labels are never looked at. Only every `every`-th validation of a
    training is done so, its first and those of the start always; tests and predictions are.

    Logs `{cohort}/two_step/{figure}`: the accuracies greedy, vote, accuracy and options (recall), right_of_reached, the
    shares asked and nothing_read, tokens a photo, and what a margin would save that costs no cohort anything, in
    hindsight. Writes a row per photo into
    two_step/step-00000100.jsonl in the Trainer's root folder (test.jsonl, predict.jsonl), and `pictures` photos of each
    cohort as a page beside it. Raises UserError for a task that is not open, without a datamodule, for more options
    than letters, and for cohorts in prediction.
    """

    def __init__(
        self,
        choice: Task | None = None,
        plan: TwoStep = TwoStep(),  # noqa: B008 - frozen
        scope: Literal["classes", "cohort", "open"] = "classes",
        every: int = 1,
        pictures: int = 16,
    ) -> None:
        if choice is not None and not isinstance(choice, ClosedWorld):
            raise UserError(f"choice must be a fgvr.data.ClosedWorld, got {type(choice).__name__}")
        if choice is not None:
            plan.fits(choice)
        if scope not in ("classes", "cohort", "open"):
            raise UserError(f"scope is classes, cohort or open, got {scope!r}")
        refuse_below(1, "two steps", every=every)
        refuse_below(0, "two steps", pictures=pictures)
        self.choice, self.plan, self.scope = choice, plan, scope
        self.every, self.pictures = every, pictures
        self._rows: list[Row] = []
        self._shown: list[Shown] = []
        self._bound: ClosedWorld | None = None
        self._passes = 0
        self.named: dict[str, str | None] = {}  # the photos of a prediction by uid, those that this rank had

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self._passes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._passes = state_dict["passes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes what an earlier process wrote after the step that this training goes on from."""
        if trainer.is_global_zero:
            for file in (Path(trainer.default_root_dir) / FOLDER).glob("step-*"):
                found = re.fullmatch(r"step-(\d+)\.(jsonl|html)", file.name)
                if found and int(found[1]) > trainer.global_step:
                    file.unlink(missing_ok=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows, self._shown, self._bound, self.named = [], [], None, {}
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == TrainerFn.FITTING
        due = not fitting or self._passes % self.every == 0
        self._passes += fitting
        if due:
            self._bound = self._open(trainer, pl_module)

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._bound is not None:
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            cohort = "" if trainer.predicting else list(data.cohorts)[dataloader_idx]
            self._take(trainer, pl_module, cohort, batch, outputs)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bound is None:
            return
        rows, shown = of_all_ranks(self._rows), of_all_ranks(self._shown)
        self._rows, self._shown, self._bound = [], [], None
        if not trainer.predicting:
            pl_module.log_dict(figures_of(rows), sync_dist=True, reduce_fx="max")  # of all ranks already
        if trainer.is_global_zero:
            self._write(trainer, rows, shown)

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    def _open(self, trainer: Trainer, module: LightningModule) -> ClosedWorld:
        data: Any = getattr(trainer, "datamodule", None)
        if data is None or not isinstance(module, PolicyModule):
            raise UserError(
                "two-step inference needs a policy, and a datamodule with a task and a taxonomy: use a module of "
                "fgvr.modules and a data module of fgvr.datamodules"
            )
        if isinstance(data.task, ClosedWorld):
            raise UserError(
                "the first of two steps asks for names without options, but data.init_args.task is ClosedWorld: put "
                "what training asks into data.init_args.train_task, and fgvr.data.OpenWorld into task"
            )
        if self.scope == "cohort" and trainer.predicting:
            raise UserError(
                "nobody knows the cohorts of photos to predict: set the scope of fgvr.callbacks.TwoStepInference to "
                "classes or open, by --trainer.callbacks.init_args.scope classes where it is the last of the callbacks"
            )
        practised = getattr(data, "train_task", None)
        choice = self.choice or (practised if isinstance(practised, ClosedWorld) else self._usual(data.task))
        self.plan.fits(choice)
        return choice.within(_branch(data)).bind(data.taxonomy).opened(module.processor.opening)

    def _usual(self, task: Task) -> ClosedWorld:
        return ClosedWorld(self.plan.options, letters=True, question=task.question, think=task.think)

    def _take(self, trainer: Trainer, module: LightningModule, cohort: str, batch: PromptBatch, outputs: Any) -> None:
        assert self._bound is not None
        assert self._bound.names is not None
        assert isinstance(module, PolicyModule)
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        names, task = self._bound.names, data.task
        scope, made = self._scope(data, cohort), made_with(self.scope, self.plan, self._bound)
        with trainer.precision_plugin.forward_context():
            decisions = two_step(
                module.trained_policy, batch, task, self._bound, self.plan, module.max_new_tokens, scope
            )
        for decision, text in zip(decisions, outputs, strict=True):
            written = len(module.processor.tokenizer.encode(text, add_special_tokens=False)) + 1  # and its end
            tokens = min(written, module.max_new_tokens)  # one that was cut off has none
            row = as_row(decision, cohort, task.parse(text, decision.example), tokens, names, made)
            self._rows.append(row)
            if trainer.predicting:
                self.named[decision.example.uid] = decision.answer
            self._show(row, decision.example.images[0], module)

    def _scope(self, data: Any, cohort: str) -> Collection[str] | None:
        if self.scope == "cohort":
            return data.classes_of(cohort)
        branch = _branch(data)
        if branch is not None:
            return branch.classes if self.scope == "classes" else branch.nodes
        return data.taxonomy.paths.keys() if self.scope == "classes" else None

    def _show(self, row: Row, data: bytes, module: LightningModule) -> None:
        """Keeps the photos of a cohort whose uids have the smallest hashes, so that each pass shows the same."""
        own = [key_of(other["uid"]) for other, _ in self._shown if other["cohort"] == row["cohort"]]
        if len(own) < self.pictures or (own and key_of(row["uid"]) < max(own)):
            self._shown.append((row, view_of(module)(open_image(data, row["uid"]))))
            self._shown = first_of_each_cohort(self._shown, self.pictures)

    def _write(self, trainer: Trainer, rows: list[Row], shown: list[Shown]) -> None:
        step = steps_behind(trainer)
        name = {TrainerFn.TESTING: "test", TrainerFn.PREDICTING: "predict"}.get(trainer.state.fn, f"step-{step:08}")  # pyright: ignore[reportCallIssue, reportArgumentType]
        folder = Path(trainer.default_root_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.jsonl", as_lines(rows))
        page = trace_page(first_of_each_cohort(shown, self.pictures), f"Two steps, {name}")
        write_whole(folder / f"{name}.html", page.encode("utf-8", "backslashreplace"))


def _branch(data: Any) -> Branch | None:
    return getattr(data, "branch", None)


def first_of_each_cohort(shown: Sequence[Shown], most: int) -> list[Shown]:
    """The `most` rows of each cohort whose uids have the smallest hashes."""
    found: list[Shown] = []
    for cohort in sorted({row["cohort"] for row, _ in shown}):
        own = [entry for entry in shown if entry[0]["cohort"] == cohort]
        found += sorted(own, key=lambda entry: key_of(entry[0]["uid"]))[:most]
    return found


def figures_of(rows: Sequence[Row]) -> dict[str, float]:
    """What a validation's rows come to, as `{cohort}/two_step/{figure}`."""
    figures: dict[str, float] = {}
    cohorts = {
        cohort: [Asked.of(row) for row in rows if row["cohort"] == cohort]
        for cohort in sorted({row["cohort"] for row in rows})
    }
    gated = any(one.gate == "margin" for asked in cohorts.values() for one in asked)
    margin = None if gated else best_margin(cohorts.values())
    for cohort, asked in cohorts.items():
        greedy, vote, steps, options = rungs(asked)
        own = {
            "greedy": greedy.accuracy, "vote": vote.accuracy, "options": options.accuracy,
            "accuracy": steps.accuracy, "accuracy_low": steps.low, "accuracy_high": steps.high,
            "right_of_reached": split_of(asked).right_of_reached, "tokens": steps.tokens,
            "asked": sum(one.gate == "asked" for one in asked) / len(asked),
            "nothing_read": sum(one.gate == "nothing read" for one in asked) / len(asked),
        }  # fmt: skip
        if margin is not None:
            own["gate_saves_in_hindsight"] = gates(asked, [margin])[0].saved
        figures |= {f"{cohort}/two_step/{name}": float(value) for name, value in own.items()}
    return figures
