"""The commands of a run, by LightningCLI: fit, validate, test, predict, with a run folder around them."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist
from jsonargparse import ArgumentError
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.callbacks.failures import failing_together
from fgvr.callbacks.final_metrics import START, LastFigures, print_figures, score_start, write_figures
from fgvr.callbacks.guards import guards
from fgvr.callbacks.interrupts import ctrl_c_as_before, say_if_ctrl_c_is_ignored
from fgvr.callbacks.memory import MemoryEstimate
from fgvr.callbacks.needed import refuse_timer, refuse_without
from fgvr.callbacks.predictions import Predictions
from fgvr.callbacks.preemption import without_handlers
from fgvr.callbacks.progress import Progress
from fgvr.callbacks.same_start import SameStart
from fgvr.callbacks.sample_log import SampleLog
from fgvr.callbacks.sentences import sentences
from fgvr.callbacks.step_seeds import StepSeeds
from fgvr.callbacks.steps import StepLogger, epochs_begun, is_finished, stopped_early, with_step_loggers
from fgvr.cli_help import explain
from fgvr.datamodules.base import ShardDataModule
from fgvr.errors import ENOUGH, Unfinished, UserError
from fgvr.modules.base import PolicyModule
from fgvr.next_steps import after_run
from fgvr.runs.claim import claim
from fgvr.runs.fingerprint import fingerprint
from fgvr.runs.folder import (
    STOPPED_BY,
    RunFolder,
    Start,
    begun,
    choose_start,
    evaluation_checkpoint,
    final_figures,
    saying_how_to_go_on,
    set_later_aside,
)
from fgvr.runs.noted import note_start
from fgvr.runs.overlaid import say_replaced_lists
from fgvr.runs.starts import counted_start
from fgvr.runs.traces import Traces
from fgvr.settings.given import plain_config
from fgvr.settings.refused import refuse_nulls, refuse_numbers, refuse_seed, refuse_settings, users_own
from fgvr.settings.said import CKPT_PATH, SayingParser, complete_help
from fgvr.settings.taken_over import say_another_task, take_over_task
from fgvr.settings.translated import evaluating, refused_by_trainer, training
from fgvr.signals import Stop, hold
from fgvr.strategies.checkpoint_io import WholeCheckpointIO
from fgvr.strategies.named_weights import with_named_weights
from fgvr.watchdog.beats import allow

log = logging.getLogger(__name__)

VERBS = {
    "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"},
    "validate": {"model", "dataloaders", "datamodule", "ckpt_path", "verbose", "weights_only"},
    "test": {"model", "dataloaders", "datamodule", "ckpt_path", "verbose", "weights_only"},
    "predict": {"model", "dataloaders", "datamodule", "ckpt_path", "return_predictions", "weights_only"},
}


class RunParser(SayingParser, LightningArgumentParser):
    """LightningCLI's parser, whose help says what each setting means."""


class FGVRCLI(LightningCLI):
    """Runs one command line `[verb, *options]`; what must be given back afterwards (the folder's lock) goes to `stack`.

    Raises UserError for whatever the user can mend, an unknown key among it, before any model is built.
    """

    command = ""  # what the command line calls it, where that is not the verb

    def __init__(self, args: list[str], stack: ExitStack, quiet: bool = False) -> None:
        self.verb, self.line, self.stack, self.quiet = args[0], args[1:], stack, quiet
        self.start = Start()
        self.figures = LastFigures()
        options = {"parser_mode": "omegaconf", "exit_on_error": False}
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_kwargs={**options, self.verb: {**options, "description": getattr(self, self.verb).__doc__}},
            parser_class=RunParser,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # a checkpoint of ours holds the config itself
            # the loaders share a batch among the ranks themselves
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False},
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {self.verb: VERBS[self.verb]}  # building the parsers of the others would take a second

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=RunFolder, help="the run's folder, its checkpoints and how it is resumed")
        if self.verb != "fit":
            parser.add_argument("--ckpt_path", type=str | None, default=None, help=CKPT_PATH)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        own = self._parser(self.verb)
        own.prog = f"{parser.prog} {self.command or self.verb}"
        line = complete_help(own, list(args) if isinstance(args, list) else [])
        try:
            self.config = parser.parse_args(line)
        except (ArgumentError, ValueError, TypeError) as error:
            raise UserError(explain(own, line[1:], error)) from error
        refuse_seed(self.config[self.verb].get("seed_everything"))

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyper-parameters override the config: a run is what its config says."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.verb]
        if config.get("run") is None:
            raise UserError("A run needs a folder: give run.dir in the config, or --run.dir runs/NAME.")
        refuse_nulls(config.as_dict(), {"trainer": Trainer, "run": RunFolder})
        refuse_numbers(config.as_dict())
        self.run = RunFolder.of_start(vars(config.run))
        allow(self.run.silence)
        if self.verb != "fit":
            self.start = Start(evaluation_checkpoint(self.run, config.ckpt_path))
        take_over_task(config, begun(self.run) if self.verb == "fit" else self.start.checkpoint)
        given = config.trainer.default_root_dir
        if given is not None and Path(given) != self.run.dir:
            raise UserError(f"A run writes to run.dir ({self.run.dir}): leave trainer.default_root_dir ({given}) out.")
        refuse_timer(one.class_path for one in _as_list(config.trainer.callbacks))
        self.plain_config: dict[str, Any] = plain_config(self.parser.dump(self.config, format="json"), self.verb)
        config.trainer.default_root_dir = str(self.run.dir)
        self.fingerprint = fingerprint(self.plain_config)
        say_replaced_lists([Path(file) for file in config.get("config") or []])
        refuse_settings(self.plain_config, trains=self.verb == "fit")
        if self.verb == "fit":
            self.stack.enter_context(saying_how_to_go_on(self.run))
            say_if_ctrl_c_is_ignored()
            if _leads():
                self.stack.callback(claim(self.run).release)
            self.start = choose_start(self.run, self.fingerprint)
            if _leads():
                set_later_aside(self.run, self.start)
                self.stack.push(partial(self._leave_nothing, Traces(self.run)))
                self.stack.enter_context(counted_start(self.run, self.start))
            hold(Stop.NONE)  # a start that a warning ended has counted

    def instantiate_classes(self) -> None:
        # as lightning's own, which calls a method that jsonargparse has renamed and warns about
        try:
            self.config_init = self.parser.instantiate(self.config)
        except ValueError as error:
            raise users_own(error) from error
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        if isinstance(self.model, PolicyModule):
            self.model.policy_config.backbone.go_on_from(self.start.checkpoint)
            self.model.policy_config.backbone.check()  # before any data is drawn for it
        if self.verb != "fit" or self.start.checkpoint is None:
            say_another_task(self.model, self.datamodule, self.start.checkpoint)
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self._get(self.config_init, "trainer")
        listed = _as_list(settings.callbacks)
        validates = self.verb in ("validate", "test") or (self.verb == "fit" and settings.limit_val_batches != 0)
        refuse_without(listed, self.model, self.datamodule, self._trains, validates)
        forced = [one for one in self._forced(settings) if type(one) not in map(type, listed)]
        if any(isinstance(one, ProgressBar) for one in listed):
            forced = [one for one in forced if not isinstance(one, ProgressBar)]
        self.trainer_defaults["callbacks"] = forced
        first = guards(self.run, self.model, [*listed, *forced], self._trains, settings.max_time)
        kwargs["callbacks"] = [*first, *listed]
        if self._trains:
            kwargs["max_time"] = None  # which is the limit of one of them
        plugins = _as_list(settings.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, WholeCheckpointIO()]
        if settings.logger is None or settings.logger is True:
            # the curves after the checkpoint, or all of a run that was stopped before its first one, are drawn again
            done = self.start.manifest.step if self.start.manifest else None
            kwargs["logger"] = StepLogger(self.run.dir, done) if self._trains else False
        try:
            trainer = without_handlers(super().instantiate_trainer(**kwargs))
            return with_named_weights(with_step_loggers(trainer))
        except (ImportError, TypeError, ValueError, MisconfigurationException) as error:
            raise refused_by_trainer(error) from error

    def fit(self, model: LightningModule, datamodule: LightningDataModule | None = None) -> None:
        """Trains from where the run stands to its end, then evaluates the final weights in full."""
        if not self._trains:
            step = self.start.manifest.step if self.start.manifest else 0
            log.info(
                "%s is complete (step %d): its final weights are evaluated again, nothing is trained. "
                "--run.fresh true starts it again.",
                self.run.dir,
                step,
            )
            with evaluating():
                self.trainer.validate(model, datamodule=datamodule, ckpt_path=self._checkpoint, verbose=False)
            self._finish(final_figures(self.run) or {})
            return
        if self.trainer.is_global_zero:
            note_start(self.run.dir, self._config_to_repeat(), self.start, self.trainer.world_size)
        began = self._score_start(model, datamodule)
        with training():
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=self._checkpoint)
        if self.trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return self._say_next()
        stopped_by = None if is_finished(self.trainer) else EarlyStopping.__name__
        if stopped_by and not stopped_early(self.trainer):
            raise Unfinished("a callback", ENOUGH)
        facts: dict[str, Any] = {STOPPED_BY: stopped_by} if stopped_by else {}
        facts |= {"step": self.trainer.global_step, "epoch": epochs_begun(self.trainer)}
        if self.trainer.enable_validation and self.figures.step != self.trainer.global_step:
            log.info("The final weights are evaluated (step %d).", facts["step"])
            self.trainer.validate(model, datamodule=datamodule, verbose=False)
        callbacks: list[Callback] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        saver = next((one for one in callbacks if isinstance(one, RunCheckpoints)), None)
        self._finish(began | facts | {"seconds": round(saver.seconds, 1) if saver else None})
        if stopped_by:
            raise Unfinished(stopped_by, ENOUGH)

    def validate(self, model: LightningModule, datamodule: LightningDataModule | None = None, **_: Any) -> None:
        """Evaluates a checkpoint on the validation data and writes validate_metrics.json."""
        with evaluating():
            self.trainer.validate(model, datamodule=datamodule, ckpt_path=self._checkpoint, verbose=False)
        self._report("validate_metrics.json")

    def test(self, model: LightningModule, datamodule: LightningDataModule | None = None, **_: Any) -> None:
        """Evaluates a checkpoint on the test data and writes test_metrics.json."""
        with evaluating():
            self.trainer.test(model, datamodule=datamodule, ckpt_path=self._checkpoint, verbose=False)
        self._report("test_metrics.json")

    def predict(self, model: LightningModule, datamodule: LightningDataModule | None = None, **_: Any) -> None:
        """Lets a checkpoint answer the photos in `data.predict`; `Predictions` writes what it says."""
        with evaluating():
            self.trainer.predict(model, datamodule=datamodule, ckpt_path=self._checkpoint, return_predictions=False)
        self._say_next()

    @property
    def _trains(self) -> bool:
        return self.verb == "fit" and not self.start.complete

    @property
    def _checkpoint(self) -> str | None:
        return None if self.start.checkpoint is None else str(self.start.checkpoint)

    def _forced(self, settings: Any) -> list[Callback]:
        """Callbacks of every run, whatever the config's own list says."""
        forced: list[Callback] = [SameStart(self.start), self.figures]
        if settings.enable_progress_bar is not False and not self.quiet:
            forced.append(Progress())
        if self.verb == "predict" and isinstance(self.datamodule, ShardDataModule):
            forced.append(Predictions())
        if self._trains:
            forced.append(MemoryEstimate(self.plain_config))
            if isinstance(self.datamodule, ShardDataModule):
                forced.append(SampleLog())
            seed = self.config[self.verb].seed_everything
            if seed is not False:
                forced.append(StepSeeds(int(seed)))
            if settings.enable_checkpointing is not False:
                forced.append(RunCheckpoints(self.run, self.plain_config, self.fingerprint))
        return forced

    def _score_start(self, model: LightningModule, datamodule: LightningDataModule | None) -> dict[str, Any]:
        def evaluate() -> dict[str, float]:
            with evaluating():
                self.trainer.validate(model, datamodule=datamodule, ckpt_path=self._checkpoint, verbose=False)
            if isinstance(model, PolicyModule):
                model.check_start(self.figures.figures)
            return self.figures.figures

        scores = getattr(model, "scores_start", False) and not self.trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        return score_start(self.run, self.start, self.trainer.is_global_zero, evaluate) if scores else {}

    def _leave_nothing(
        self, traces: Traces, kind: type[BaseException] | None, stop: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A run that is refused before its first step and its first evaluation takes away what it has written."""
        trainer, began = getattr(self, "trainer", None), self.start.manifest.step if self.start.manifest else 0
        refused = isinstance(stop, UserError | MisconfigurationException) and not self.figures.figures
        if refused and not self.start.complete and (trainer is None or trainer.global_step <= began):
            traces.undo()

    def _config_to_repeat(self) -> dict[str, Any]:
        goes_on = {"fresh": False, "again": False, "resume": self.run.repeated().resume, "allow_changed": []}
        return self.plain_config | {"run": self.plain_config["run"] | goes_on}

    def _finish(self, facts: dict[str, Any]) -> None:
        if not self.trainer.is_global_zero:
            return
        kept = {key: facts.get(key) for key in ("step", "epoch", "seconds")}
        # of a complete run: what is known of its training and data and was not evaluated again
        former = {key: value for key, value in facts.items() if key not in self.figures.figures}
        write_figures(self.run.metrics_file, self.figures.figures, **(former | kept))
        if figures := {key: facts[key] for key in facts if key.startswith(START)} | self.figures.figures:
            print_figures(figures, f"{self.run.dir.name}, step {kept['step']}")
        self._say_next()

    def _report(self, file: str) -> None:
        if not self.figures.figures:
            raise UserError(f"There must be photos to {self.verb} on, but the data of this config have none.")
        if self.trainer.is_global_zero:
            write_figures(self.run.dir / file, self.figures.figures, **self.figures.facts)
            print_figures(self.figures.figures, f"{self.verb}: {Path(self._checkpoint or 'no checkpoint').stem}")
            self._say_next()

    def _say_next(self) -> None:
        done = (self.start.checkpoint, self.figures.figures)
        log.info(after_run(self.verb, self.run.dir, self.plain_config, self.line, *done))


def run_cli(args: list[str], quiet: bool = False) -> None:
    """Runs `[verb, *options]` to the end; sentences about what happens go to stderr, of a quiet run warnings alone."""
    try:
        level = (logging.WARNING if quiet else logging.INFO) if _leads() else logging.ERROR
        with ctrl_c_as_before(), sentences(level), failing_together(), ExitStack() as stack:
            FGVRCLI(args, stack, quiet)
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # its threads must have ended before the process does


def _leads() -> bool:
    """Whether this is the one process of the run that may change its folder; asked before the processes have met."""
    return rank_zero_only.rank == 0 and LightningEnvironment().node_rank() == 0


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
