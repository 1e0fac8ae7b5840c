"""Early stopping in a run that goes on."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class EarlyStopsGoOn(Callback):
    """Lets early stopping wait for the first validation of a resumed run before it must know its figure.

    It looks for that at the end of each epoch, and fails where there is none: so at that of an epoch whose last step a
    run is resumed at, although it has looked there before.
    """

    def __init__(self) -> None:
        self._waiting: list[EarlyStopping] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.ckpt_path is not None:
            self._waiting = [one for one in callbacks if isinstance(one, EarlyStopping) and one.strict]
        for one in self._waiting:
            one.strict = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for one in self._waiting:
            one.strict = True
        self._waiting = []
