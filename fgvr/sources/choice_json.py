"""Questions of choice in a JSON file, as DiVE-k has them, and its plain questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import (
    SPLITS,
    PictureAt,
    Record,
    Refusal,
    Source,
    clean,
    printable,
    stamp_of,
    unfit,
)
from fgvr.sources.json_items import json_items
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
OPTION = re.compile(r"^\s*([A-Z])[.)]\s+(\S.*?)\s*$", re.MULTILINE)
LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")


class ChoiceJSON(Source):
    """The items of `file`, a list of {image_path, problem, solution}, as DiVE-k's mined questions come.

    A problem with lettered lines ("A. sooty albatross") is a question of choice: its solution is the letter of the
    label, and the other names become the sample's `options`, which `ClosedWorld` asks in an order of its own. Any other
    solution is the label itself. `root` is what `image_path` is relative to (default: the file's folder), once the
    leading `prefix` is taken away. `split` is that of all items. `taxonomy` is a yaml file as for ImageFolder; without
    one the labels are a list, in which spellings of one name are one. `dataset` is what the set is called (default: as
    the file). An item that cannot be used is refused by its number, and so is one whose option is another name of its
    label.
    """

    def __init__(
        self,
        file: Path,
        root: Path | None = None,
        prefix: str = "",
        split: str = "train",
        taxonomy: Path | None = None,
        dataset: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(sorted(SPLITS))}, got {split!r}")
        self.file = Path(file)
        self.root = Path(root) if root is not None else self.file.parent
        self.prefix, self.split = prefix, SPLITS[split]
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        return {"kind": "ChoiceJSON", "dataset": self.dataset, "split": self.split}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base = without_links(self.root)
        times = Counter(str(item.get("image_path")) for item in self._items if isinstance(item, Mapping))
        for number, item in enumerate(self._items):
            found = self._record(f"{self.file.name}[{number}]", item, base)
            if isinstance(found, Record) and times[str(item["image_path"])] > 1:
                found = Refusal(found.name, found.name, f"{self.file.name}[{number}]: its photo is in another item too")
            yield found

    @cached_property
    def _items(self) -> list[Any]:
        return json_items(self.file, "image_path, problem and solution")

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        labels = {label for item in self._items if (label := _read(item)[0]) is not None and unfit(label) is None}
        # of spellings that are one name the last stands for all
        return Taxonomy.flat(sorted({normalise(label): label for label in sorted(labels) if normalise(label)}.values()))

    def _record(self, where: str, item: Any, base: Path) -> Record | Refusal:
        label, options, complaint = _read(item)
        if label is None:
            return Refusal(where, where, f"{where}: {complaint}")
        path = str(item["image_path"]).removeprefix(self.prefix).lstrip("/" if self.prefix else "")
        file, climbs = inside(self.root, path, base)
        known = self.known(label) if unfit(label) is None else None
        complaint = climbs or unfit(label) or self._option_complaint(options, known)
        if known is None or complaint is not None:
            said = complaint or f"its label {label!r} is not a class of the taxonomy"
            return Refusal(where, printable(path) or where, f"{where}: {said}")
        name = printable(path)
        extra = {"options": options} if options else {}
        taxonomy, load = self._taxonomy, PictureAt(str(file), name)
        return Record(name, known, taxonomy.paths[known], self.split, None, load, extra, stamp_of(file))

    def _option_complaint(self, options: list[str], label: str | None) -> str | None:
        twice = next((one for one in options if label is not None and self._taxonomy.find(one) == label), None)
        return None if twice is None else f"its option {twice!r} is another name of its label {label!r}"


def _read(item: Any) -> tuple[str | None, list[str], str | None]:
    """The label and the other options of an item, or None with why it has no label."""
    texts = [item.get(name) for name in ("image_path", "problem", "solution")] if isinstance(item, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        return None, [], "an item must have the texts image_path, problem and solution"
    _, problem, solution = map(str, texts)
    answer = ANSWER.search(solution)
    if answer is None or not answer[1]:
        return None, [], f"its solution must be <answer>…</answer>, got {solution!r:.100}"
    lettered = {letter: clean(name) for letter, name in OPTION.findall(problem)}
    if len(lettered) < 2:
        return clean(answer[1]), [], None
    letter = LETTER.fullmatch(answer[1])
    if letter is None or letter[1] not in lettered:
        return None, [], f"its solution must be one of the letters {', '.join(lettered)}, got {answer[1]!r:.100}"
    label = lettered.pop(letter[1])
    return label, list(lettered.values()), None
