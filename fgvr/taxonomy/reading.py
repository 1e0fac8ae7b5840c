"""A taxonomy as a user writes it down: every entry checked for what it must be, each fault one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fgvr.errors import UserError
from fgvr.taxonomy.tree import Taxonomy

NOTHING = {"", "~", "null", "none"}  # what is written for no value, in lower case


class _AsWritten(yaml.BaseLoader):
    """Every value the text that stands there (a class `No` or `3.10` is no false and no 3.1), every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_taxonomy(file: Path) -> Taxonomy:
    """A taxonomy written by hand in yaml or json: root, ranks, paths {label: [coarse, ..., label]} and synonyms.

    Every name is the text as it stands in the file, of which nothing is run. Raises UserError with file and entry.
    """
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=_AsWritten)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"a taxonomy must be a readable yaml or json file, {file} is not: {error}") from error
    try:
        taxonomy = Taxonomy.from_dict(_without_blanks(data))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    if not taxonomy.paths:
        raise UserError(f"{file}: paths must hold a class or more, it holds none: add `class: [coarse, ..., class]`")
    return taxonomy


def _without_blanks(data: Any) -> Any:
    """The entries, less ranks and synonyms that say nothing. A blank root is a mistake, as None would be its name."""
    if not isinstance(data, Mapping):
        return data
    if _is_blank(data.get("root")):
        raise UserError(
            "root must name what all classes are, such as bird, but it is blank: give it a word, or leave the line out"
        )
    return {key: entry for key, entry in data.items() if not (key in ("ranks", "synonyms") and _is_blank(entry))}


def _is_blank(entry: Any) -> bool:
    return isinstance(entry, str) and entry.lower() in NOTHING
