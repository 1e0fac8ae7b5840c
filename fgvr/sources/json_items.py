"""Items in a JSON file, as released data sets come: a list, or one item a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import SourceGone
from fgvr.sources.token_ids import refuse_token_ids


def json_items(file: Path, holding: str) -> list[Any]:
    """The items of a JSON list, or of the lines of a .jsonl file; `holding` says in words what an item has.

    Raises SourceGone where there is no such file, and UserError for one that holds something else, or nothing.
    """
    if not file.is_file():
        raise SourceGone(f"file must be a json file, but {file} is not a file: give its path")
    try:
        text, by_line = file.read_text(encoding="utf-8"), file.suffix == ".jsonl"
        items = [json.loads(line) for line in text.split("\n") if line.strip()] if by_line else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} must be JSON, but it cannot be read: {error}") from error
    if not isinstance(items, list) or not items:
        held = "an empty list" if items == [] else type(items).__name__
        raise UserError(f"{file} must be a list of items with {holding}, got {held}")
    refuse_token_ids(file, keys_of(items))
    return items


def keys_of(items: Iterable[Any]) -> set[str]:
    """All keys of the items that are objects, and of the messages in them."""
    found: set[str] = set()
    for item in items:
        if isinstance(item, Mapping):
            messages = item.get("messages")
            found |= {*map(str, item), *(keys_of(messages) if isinstance(messages, list) else ())}
    return found
