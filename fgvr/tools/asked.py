"""What a line of fit's options asks for, read as fit reads it, without a run that begins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from fgvr.callbacks.sentences import sentences
from fgvr.cli import FGVRCLI
from fgvr.runs.fingerprint import fingerprint
from fgvr.runs.folder import RunFolder, begun
from fgvr.settings.given import plain_config
from fgvr.settings.refused import refuse_settings
from fgvr.settings.taken_over import take_over_task


class Asking(FGVRCLI):
    """Reads the settings, and what decides what is learned among them; builds nothing."""

    command = "doctor"

    def before_instantiate_classes(self) -> None:
        config = self.config[self.verb]
        self.run = RunFolder.of_start(vars(config.run))
        take_over_task(config, begun(self.run))
        self.plain_config = plain_config(self.parser.dump(self.config, format="json"), self.verb)
        self.fingerprint = fingerprint(self.plain_config)
        refuse_settings(self.plain_config, trains=True)

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def asked(line: Sequence[str]) -> tuple[RunFolder, Mapping[str, Any]]:
    """The run, and its fingerprint without the data, which only a training describes. Raises UserError as fit does."""
    with sentences(logging.ERROR), ExitStack() as stack:
        given = Asking(["fit", *line], stack)
    return given.run, given.fingerprint
