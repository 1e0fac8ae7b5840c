"""`python -m fgvr estimate`: what a training would hold in a device's memory, from its config alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console

from fgvr.callbacks.memory import ranks_of, table_of, training_of
from fgvr.callbacks.sentences import sentences
from fgvr.cli import FGVRCLI
from fgvr.errors import UserError, refuse_below
from fgvr.models.fitting import GIB, advice
from fgvr.modules.base import PolicyModule
from fgvr.settings.given import plain_config
from fgvr.settings.refused import refuse_settings, users_own
from fgvr.tools.tables import print_table


class Estimating(FGVRCLI):
    """Reads what `fit` reads, and starts nothing: no folder is made, no data is drawn and no weight is loaded."""

    command = "estimate"

    def add_arguments_to_parser(self, parser: Any) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--memory", type=float | None, default=None, help="GiB of a device, to say what would fit")

    def before_instantiate_classes(self) -> None:
        self.plain_config = plain_config(self.parser.dump(self.config, format="json"), self.verb)
        refuse_settings(self.plain_config, trains=True)

    def instantiate_classes(self) -> None:
        try:
            self.model = self._get(self.parser.instantiate(self.config), "model")
        except ValueError as error:
            raise users_own(error) from error

    def _run_subcommand(self, subcommand: str) -> None:
        if not isinstance(self.model, PolicyModule):
            raise UserError(f"The memory of a policy can be reckoned, not that of {type(self.model).__name__}.")
        room = self.plain_config.get("memory")
        refuse_below(1, "estimate", memory=room)
        ranks = ranks_of(self.plain_config["trainer"])
        architecture = self.model.policy_config.backbone.config()
        training = training_of(self.model, self.plain_config, ranks, architecture)
        found = training.footprint()
        print_table(Console(), table_of(training, found))
        for line in [] if room is None else _verdict(training, found.peak, room):
            print(line)


def estimate(args: Sequence[str]) -> None:
    """Prints the memory of a rank by part, for a config given as `fit` takes it."""
    with sentences(logging.ERROR), ExitStack() as stack:
        Estimating(["fit", *args], stack)


def _verdict(training: Any, peak: int, room: float) -> list[str]:
    said = advice(training, room * GIB)
    if not said:
        return [f"It fits into {room:g} GiB, of which {room - peak / GIB:.1f} are left."]
    return [f"It does not fit into {room:g} GiB: {peak / GIB - room:.1f} are lacking. With", *(f"- {x}" for x in said)]
