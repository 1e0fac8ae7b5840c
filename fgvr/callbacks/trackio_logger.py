"""Trackio as a Lightning logger: the only door to it."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from PIL import Image

from fgvr.errors import UserError
from fgvr.pictures.tables import escaped


class TrackioLogger(Logger):
    """Figures, pictures and tables for Trackio's dashboard (`trackio show`).

    They stay on this machine unless `space_id` names a Hugging Face Space. A run that goes on under the same `name`
    goes on there too; without a name Trackio finds one. Raises UserError when Trackio is not installed.
    """

    def __init__(self, project: str = "fgvr", name: str | None = None, space_id: str | None = None) -> None:
        super().__init__()
        if find_spec("trackio") is None:
            raise UserError("TrackioLogger needs Trackio, which is not installed: pip install 'fgvr[trackio]'")
        self._project, self._name, self._space_id, self._config = project, name, space_id, dict[str, Any]()

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str | None:
        return self._name

    @cached_property
    def experiment(self) -> Any:
        """Trackio's own run, begun when the first figure comes."""
        return self._trackio.init(
            self._project,
            self._name,
            space_id=self._space_id,
            config=self._config,
            resume="allow" if self._name else "never",
            embed=False,
        )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._config |= vars(params) if isinstance(params, Namespace) else params

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step)

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[Image.Image], step: int | None = None) -> None:
        for number, image in enumerate(images):
            name = key if len(images) == 1 else f"{key}/{number}"
            self.experiment.log({name: self._trackio.Image(image)}, step)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]], step: int | None = None) -> None:
        # Trackio reads text in a table as markdown
        rows = [[escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in data]
        self.experiment.log({key: self._trackio.Table(columns, rows)}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if "experiment" in self.__dict__:
            self.experiment.finish()
            del self.experiment

    @cached_property
    def _trackio(self) -> Any:
        return importlib.import_module("trackio")
