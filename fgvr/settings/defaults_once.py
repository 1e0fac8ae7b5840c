"""What a config leaves out is filled in once, at every depth."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from jsonargparse import ArgumentParser, Namespace

_FILLING: ContextVar[bool] = ContextVar("_FILLING", default=False)  # within the classes of a config


class DefaultsOnceParser(ArgumentParser):
    """A parser that fills in the defaults of a class within a class where it reads the outer one, and not again.

    jsonargparse goes through all inner classes once more for every class around them, which takes twice as long for
    each; they have their defaults by then.
    """

    def _apply_actions(
        self,
        cfg: Namespace | dict[str, Any],
        parent_key: str = "",
        prev_cfg: Namespace | None = None,
        skip_fn: Callable[[Any], bool] | None = None,
    ) -> Namespace:
        if skip_fn is None:  # which is given where defaults are filled in
            return super()._apply_actions(cfg, parent_key, prev_cfg)
        if _FILLING.get():
            return cfg if isinstance(cfg, Namespace) else Namespace(cfg)
        filling = _FILLING.set(True)
        try:
            return super()._apply_actions(cfg, parent_key, prev_cfg, skip_fn)
        finally:
            _FILLING.reset(filling)
