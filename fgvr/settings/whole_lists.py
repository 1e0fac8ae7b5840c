"""A config file's lists take the place of an earlier file's whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jsonargparse import ArgumentParser, Namespace


class WholeListParser(ArgumentParser):
    """A parser for which a list is one value, so that none of its entries keeps what stood at its place before.

    jsonargparse itself lays the entries of two lists over each other where these have the same length.
    """

    def _apply_actions(
        self,
        cfg: Namespace | dict[str, Any],
        parent_key: str = "",
        prev_cfg: Namespace | None = None,
        skip_fn: Callable[[Any], bool] | None = None,
    ) -> Namespace:
        kept = None if prev_cfg is None else _without_lists_of(cfg, prev_cfg)
        return super()._apply_actions(cfg, parent_key, kept, skip_fn)


def _without_lists_of(given: Namespace | Mapping[str, Any], before: Namespace) -> Namespace:
    """What was set `before`, less each list for which another one is `given`. Added to (`name+`) is what stays."""
    replaced = [key for key in _lists(given) if isinstance(before.get(key), list)]
    if not replaced:
        return before
    kept = before.clone()
    for key in replaced:
        del kept[key]
    return kept


def _lists(given: Any, prefix: str = "") -> list[str]:
    if isinstance(given, list):
        return [prefix]
    entries = vars(given) if isinstance(given, Namespace) else given if isinstance(given, Mapping) else {}
    return [key for name, value in entries.items() for key in _lists(value, f"{prefix}.{name}" if prefix else name)]
