"""`python -m fgvr prefetch`: what a training needs where there is no network, fetched while there is one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from fgvr.callbacks.sentences import sentences
from fgvr.cli import FGVRCLI
from fgvr.errors import UserError, shown
from fgvr.models.hub_files import HubModel, cache_folder, fetch
from fgvr.next_steps import after_prefetch
from fgvr.pictures.tables import Table
from fgvr.settings.given import plain_config
from fgvr.settings.refused import refuse_numbers, refuse_settings
from fgvr.tools.needs import Need, needs_of, of_hub_model
from fgvr.tools.tables import print_table


class Prefetching(FGVRCLI):
    """Reads what `fit` reads and starts nothing."""

    command = "prefetch"

    def add_arguments_to_parser(self, parser: Any) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--fetch", type=bool, default=True, help="fetch what the hub has; false: only look")
        parser.add_argument("--served", type=bool, default=False, help="fetch the models of judges' servers as well")

    def before_instantiate_classes(self) -> None:
        self.plain_config = plain_config(self.parser.dump(self.config, format="json"), self.verb)
        self.fetches, self.served = self.plain_config.pop("fetch"), self.plain_config.pop("served")
        refuse_numbers(self.plain_config)
        refuse_settings(self.plain_config, trains=True)

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def prefetch(args: Sequence[str], quiet: bool = False) -> int:
    """Prints a table of what a config needs, fetches what the hub has of it; returns 0 when all is here, else 1."""
    with sentences(logging.ERROR), ExitStack() as stack:
        asked = Prefetching(["fit", *args], stack)
    needs = needs_of(asked.plain_config, asked.served)
    if asked.fetches:
        needs = [_fetched(need) for need in needs]
    rows = tuple((need.what, need.name, need.state, "" if need.size is None else decimal(need.size)) for need in needs)
    print_table(Console(), Table(("what", "name", "state", "size"), rows))
    for need in needs:
        if need.remedy:
            print(shown(f"- {need.name}: {need.remedy}"))
    lacking = sum(need.lacking for need in needs)
    print(f"{lacking} of {len(needs)} are missing." if lacking else "All is here.")
    if not quiet:
        print(shown(after_prefetch(_of_fit(args), lacking)))
    return int(lacking > 0)


def _fetched(need: Need) -> Need:
    model = need.model
    if model is None or not model.missing or not model.asked:
        return need
    _refuse_without_room(model)
    return of_hub_model(need.what, fetch(model), fetched=True)


def _refuse_without_room(model: HubModel) -> None:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    wanted, free = sum(file.size or 0 for file in model.missing), shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"{model.path} takes {decimal(wanted)} more, but {decimal(free)} are free in {folder}: make room, or set "
            "HF_HOME to a folder that has it"
        )


def _of_fit(args: Sequence[str]) -> list[str]:
    """The options without those that `fit` does not have."""
    kept, words = list[str](), iter(args)
    for word in words:
        if word in ("--fetch", "--served"):
            next(words, None)
        elif not word.startswith(("--fetch=", "--served=")):
            kept.append(word)
    return kept
