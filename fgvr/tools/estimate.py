"""`python -m fgvr estimate`: what a training would hold in a device's memory, from its config alone."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from fgvr.callbacks.memory import table_of, training_of
from fgvr.callbacks.sentences import sentences
from fgvr.cli import FGVRCLI
from fgvr.errors import UserError
from fgvr.models import TinyQwen, Trained
from fgvr.models.backbone import Backbone
from fgvr.models.fitting import GIB, advice, verdict
from fgvr.modules.base import PolicyModule
from fgvr.next_steps import after_estimate
from fgvr.settings.given import plain_config
from fgvr.settings.refused import refuse_numbers, refuse_settings, users_own
from fgvr.strategies.asked import ranks_of
from fgvr.tools.tables import print_table

BEFORE = (
    "Before there is one, reckon with the model that it is made from: --model.init_args.policy.backbone.class_path "
    "fgvr.models.Pretrained --model.init_args.policy.backbone.init_args.path PATH (docs/models.md)."
)


class Estimating(FGVRCLI):
    """Reads what `fit` reads, and starts nothing: no folder is made, no data is drawn and no weight is loaded."""

    command = "estimate"

    def add_arguments_to_parser(self, parser: Any) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--memory", type=float | None, default=None, help="GiB of a device, to say what would fit")

    def before_instantiate_classes(self) -> None:
        self.plain_config = plain_config(self.parser.dump(self.config, format="json"), self.verb)
        self.room = self.plain_config.pop("memory", None)
        if self.room is not None and not 0 < self.room < math.inf:
            raise UserError(
                f"--memory must be the GiB that a device has, above 0, got {self.room:g}: give another number."
            )
        refuse_numbers(self.plain_config)
        refuse_settings(self.plain_config, trains=True)

    def instantiate_classes(self) -> None:
        try:
            self.model = self._get(self.parser.instantiate(self.config), "model")
        except ValueError as error:
            raise users_own(error) from error

    def _run_subcommand(self, subcommand: str) -> None:
        if not isinstance(self.model, PolicyModule):
            raise UserError(f"The memory of a policy can be reckoned, not that of {type(self.model).__name__}.")
        ranks = ranks_of(self.plain_config["trainer"])
        architecture = _architecture(self.model.policy_config.backbone)
        self.training = training_of(self.model, self.plain_config, ranks, architecture)
        print_table(Console(), table_of(self.training, self.training.footprint()))
        if self.room is not None:
            print(verdict(self.training, self.room * GIB))
            for way in advice(self.training, self.room * GIB):
                print(f"- {way}")


def estimate(args: Sequence[str]) -> str:
    """Prints the memory of a rank by part, for a config given as `fit` takes it. Returns what to do next."""
    with sentences(logging.ERROR), ExitStack() as stack:
        Estimating(["fit", *args], stack)
    return after_estimate(args)


def _architecture(backbone: Backbone) -> Any:
    """The model's config, also of a tiny one whose data are not drawn yet: then with the most tokens it may have."""
    if (
        isinstance(backbone, TinyQwen)
        and isinstance(backbone.vocabulary, str)
        and not Path(backbone.vocabulary).exists()
    ):
        print(
            f"{backbone.vocabulary} is not there yet: reckoned with {backbone.tokens:,} tokens, the most there can be."
        )
        undrawn = copy.copy(backbone)
        undrawn.vocabulary = []
        config = undrawn.config()
        config.text_config.vocab_size = backbone.tokens
        return config
    try:
        return backbone.config()
    except UserError as error:
        if not isinstance(backbone, Trained):
            raise
        raise UserError(f"{error} {BEFORE}") from error
