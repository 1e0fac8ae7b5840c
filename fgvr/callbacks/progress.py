"""How far the run is: a bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from fgvr.callbacks.steps import steps_of_weights
from fgvr.errors import shown

# figure: what it is called on the bar, and its format
LEARNING = {
    "loss": ("loss", ".4f"),
    "tokens/s": ("tokens/s", ",.0f"),
    "images/s": ("images/s", ",.0f"),
    "lr": ("lr", ".2e"),
}
LEARNING_NARROW = ("loss", "tokens/s")
REWARDED = {
    "completions/mean_length": ("length", ".1f"),
    "completions/clipped_ratio": ("truncated", ".0%"),
    "entropy": ("entropy", ".3f"),
    "kl": ("kl", ".4f"),
    "divergence": ("divergence", ".3f"),
    "frac_reward_zero_std": ("zero-var", ".0%"),
    "loss": ("loss", ".4f"),
    "lr": ("lr", ".2e"),
    "tokens/s": ("tokens/s", ",.0f"),
}
REWARDED_NARROW = ("reward", "completions/mean_length", "entropy")
BAR = 4  # columns that the bar has at least
WIDE = 110  # columns of a terminal that has room for everything
STEPS_TO_JUDGE = 20  # before these the time left would mostly measure the start


class BesideBar(logging.StreamHandler[Any]):
    """Writes to whatever sys.stderr is at the time: while a bar is live, that is above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), keep="\n\t")  # names and answers come from data and models


class Progress(ProgressBar):
    """Optimiser steps done of all, with loss, tokens/s, images/s, learning rate and the time left.

    On a terminal a bar, refreshed four times a second; elsewhere one line to stderr every `seconds`. Figures are what
    the module logs with `prog_bar=True`; the learning rate is the optimiser's. Where a reward is among them, it comes
    first with its components, and with the length of the completions, the shares of them that were cut and of groups
    without a spread of rewards, entropy and KL.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._bar: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shown_at = -math.inf
        self._began = 0.0
        self._first_step = 0
        self._even = True  # whether each batch made as many steps as it should, up to now

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.console.print(*args)
        elif self._enabled:
            print(*args, file=sys.stderr, flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.global_step
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        expected = batches * getattr(pl_module, "steps_per_batch", 1)
        self._even = self._even and (pl_module.automatic_optimization or done == expected)
        total = total_steps(trainer, self._even)
        if self._is_time(at_once=total is not None and done >= total):
            narrow = sys.stderr.isatty() and Console(stderr=True).width < WIDE
            passed, since = time.monotonic() - self._began, done - self._first_step
            times = [f"{clock(passed)} passed"]
            if total is not None and since >= STEPS_TO_JUDGE:
                times = [*times[narrow:], f"{clock(passed / since * (total - done))} left"]
            self._show("step", done, total, figures(trainer, narrow), ", ".join(times))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        sizes = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        name = "first look" if trainer.sanity_checking else "validation"
        self._evaluated(name, sizes, batch_idx, dataloader_idx)  # pyright: ignore[reportArgumentType]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        exact = {
            name.removesuffix("/exact"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.endswith("/exact")
        }
        if exact and not trainer.sanity_checking:
            said = ", ".join(f"{cohort} {value:.3f}" for cohort, value in exact.items())
            self.print(f"exact at step {steps_of_weights(trainer)}: {said}")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated("test", trainer.num_test_batches, batch_idx, dataloader_idx)  # pyright: ignore[reportArgumentType]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated("predict", trainer.num_predict_batches, batch_idx, dataloader_idx)  # pyright: ignore[reportArgumentType]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _evaluated(self, name: str, sizes: list[int | float] | int | float, index: int, loader: int) -> None:
        sizes = sizes if isinstance(sizes, list) else [sizes]
        done, total = int(sum(sizes[:loader])) + index + 1, sum(sizes)
        if self._is_time(at_once=done == total and self._bar is not None):
            self._show(name, done, None if math.isinf(total) else int(total), "")

    def _is_time(self, at_once: bool) -> bool:
        now = time.monotonic()
        pause = 0.25 if sys.stderr.isatty() else self.seconds
        if not self._enabled or not (at_once or now - self._shown_at >= pause):
            return False
        self._shown_at = now
        return True

    def _show(self, name: str, done: int, total: int | None, text: str, times: str = "") -> None:
        if not sys.stderr.isatty():
            line = f"{name} {done}/{'?' if total is None else total}"
            print(" | ".join(part for part in (line, text, times) if part), file=sys.stderr, flush=True)
            return
        if self._bar is None:
            console = Console(stderr=True)
            longest = "0:00:00 passed, 0:00:00 left" if console.width >= WIDE else "0:00:00 passed"
            columns = (
                TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=len(name))),
                MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(total or "?")) + 1)),
                TextColumn("{task.fields[times]}", table_column=Column(no_wrap=True, min_width=len(longest))),
                BarColumn(table_column=Column(min_width=BAR)),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True)),
            )
            self._bar = RichProgress(*columns, console=console, transient=True, auto_refresh=False)
            self._bar.start()
        text = fitting(text, self._bar.console.width - len(f"{name} {total or done}/{total or done} {times}") - BAR - 4)
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, text="", times="")
        for other, task in self._tasks.items():
            self._bar.update(task, visible=other in (name, "step"))
        self._bar.update(self._tasks[name], completed=done, total=total, text=text, times=times)
        self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._tasks, self._shown_at = None, {}, -math.inf


def fitting(text: str, width: int) -> str:
    """As many of the figures, parted by " | ", as `width` columns hold; the first of them matter most."""
    kept = text.split(" | ")
    while len(kept) > 1 and len(" | ".join(kept)) > width:
        kept.pop()
    return " | ".join(kept)


def total_steps(trainer: Trainer, by_epochs: bool = True) -> int | None:
    """Optimiser steps of the whole run, or None when it has no end that is known beforehand.

    Without `by_epochs`, a limit in epochs is no such end: batches that make now more steps, now fewer, leave it open.
    """
    limits: list[float] = [trainer.max_steps] if trainer.max_steps >= 0 else []
    epochs = trainer.max_epochs if by_epochs else None
    if epochs is not None and epochs >= 0 and math.isfinite(trainer.num_training_batches):
        batches = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        limits.append(epochs * batches * getattr(trainer.lightning_module, "steps_per_batch", 1))
    return int(min(limits)) if limits else None


def figures(trainer: Trainer, narrow: bool = False) -> str:
    """`loss 0.123 | tokens/s 5,300 | ...` of the step just done; a figure that is not logged is left out."""
    now: dict[str, Any] = dict(trainer.progress_bar_metrics)
    if "lr" not in now and trainer.optimizers:
        now["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
    shapes, few = (_rewarded(now), REWARDED_NARROW) if "reward" in now else (LEARNING, LEARNING_NARROW)
    shown = [key for key in shapes if key in now and (key in few or not narrow)]
    return " | ".join(f"{shapes[key][0]} {float(now[key]):{shapes[key][1]}}" for key in shown)


def _rewarded(logged: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Names and formats where there is a reward: it and its components, `rewards/NAME/mean`, and the rest."""
    parts = [key for key in logged if key.startswith("rewards/") and key.endswith("/mean")]
    taken = {"reward", *(label for label, _ in REWARDED.values())}
    names = {key: key.removeprefix("rewards/").removesuffix("/mean") for key in parts}
    components = {key: (f"{name} reward" if name in taken else name, ".3f") for key, name in names.items()}
    return {"reward": ("reward", ".3f"), **components, **REWARDED}


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds; `?` when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
