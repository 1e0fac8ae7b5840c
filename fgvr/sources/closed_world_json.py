"""Closed-world questions in a JSON-lines file, as Fine-R1 evaluates with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fgvr.errors import UserError
from fgvr.sources.base import (
    SPLITS,
    PictureAt,
    Record,
    Refusal,
    Source,
    SourceGone,
    clean,
    printable,
    stamp_of,
    unfit,
)
from fgvr.sources.json_items import keys_of
from fgvr.sources.token_ids import refuse_token_ids
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

FIELDS = ("image_path", "question", "options", "ground_truth")


class ClosedWorldJSON(Source):
    """The lines of `file`, each {image_path, question, options, ground_truth}: Fine-R1's *_seen.jsonl, *_unseen.jsonl.

    The label is `ground_truth`, with blanks for underscores; the other options become the sample's `options`, which
    `ClosedWorld` asks in an order of its own (in the file the right one always comes first). The question is kept word
    for word for `OwnQuestion`. `root` is what image_path is relative to (default: the file's folder), once the leading
    `prefix` is taken away. `split` is that of all lines, `cohort` the side of their classes (default: as the end of the
    file's name says). `taxonomy` is a yaml file as for ImageFolder; without one the labels are a list. `dataset` is
    what the set is called (default: as the file). A line that cannot be used is refused by its number.
    """

    def __init__(
        self,
        file: Path,
        root: Path | None = None,
        prefix: str = "",
        split: str = "test",
        cohort: Literal["seen", "unseen", "base", "novel"] | None = None,
        taxonomy: Path | None = None,
        dataset: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(sorted(SPLITS))}, got {split!r}")
        self.file = Path(file)
        self.root = Path(root) if root is not None else self.file.parent
        self.prefix, self.split = prefix, SPLITS[split]
        ending = self.file.stem.rpartition("_")[2]
        self.cohort = cohort or (ending if ending in ("seen", "unseen", "base", "novel") else None)
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        kind = {"kind": "ClosedWorldJSON", "dataset": self.dataset, "split": self.split}
        return kind | ({"cohort": self.cohort} if self.cohort else {})

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base = without_links(self.root)
        for number, item in self._items:
            yield self._record(f"{self.file.name} line {number}", item, base)

    @cached_property
    def _items(self) -> list[tuple[int, Any]]:
        if not self.file.is_file():
            raise SourceGone(f"file must be a jsonl file, but {self.file} is not a file: give its path")
        try:
            lines = self.file.read_text(encoding="utf-8").split("\n")
            items = [(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.file} must hold JSON a line, but it cannot be read: {error}") from error
        if not items:
            raise UserError(f"{self.file} must hold lines with {', '.join(FIELDS)}, but it is empty")
        refuse_token_ids(self.file, keys_of(item for _, item in items))
        return items

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        labels = sorted(label for _, item in self._items if unfit(label := _read(item)[0]) is None and normalise(label))
        return Taxonomy.flat(sorted({normalise(label): label for label in labels}.values()))

    def _record(self, where: str, item: Any, base: Path) -> Record | Refusal:
        label, options, complaint = _read(item)
        if complaint is not None:
            return Refusal(where, where, f"{where}: {complaint}")
        path = str(item["image_path"]).removeprefix(self.prefix).lstrip("/" if self.prefix else "")
        file, climbs = inside(self.root, path, base)
        known = self.known(label) if unfit(label) is None else None
        said = climbs or unfit(label) or (None if known else f"its label {label!r} is not a class of the taxonomy")
        own = [option for option in options if normalise(option) == normalise(label)]
        if said is None and len(own) != 1:
            said = f"its ground_truth {label!r} must be one of its options, but it is {len(own)} of {options}"
        if known is None or said is not None:
            return Refusal(where, printable(path) or where, f"{where}: {said}")
        name = printable(path)
        extra = {"question": item["question"], "options": [option for option in options if option not in own]}
        load, paths = PictureAt(str(file), name), self._taxonomy.paths
        return Record(name, known, paths[known], self.split, self.cohort, load, extra, stamp_of(file))


def _read(item: Any) -> tuple[str, list[str], str | None]:
    """The label and all options of a line, or why it cannot be used."""
    held = [item.get(name) for name in FIELDS] if isinstance(item, Mapping) else [None] * 4
    path, question, options, label = held
    if not all(isinstance(text, str) for text in (path, question, label)):
        return "", [], "it must have the texts image_path, question and ground_truth"
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(one, str) for one in options):
        return "", [], f"its options must be a list of two names or more, got {options!r:.100}"
    return _spaced(str(label)), [_spaced(one) for one in options], None


def _spaced(name: str) -> str:
    return clean(name.replace("_", " "))
