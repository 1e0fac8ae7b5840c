"""Conversations about one photo each in a JSON file, as LLaMA-Factory takes them and Fine-R1's first stage comes."""

from __future__ import annotations

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
from fgvr.sources.choice_json import ANSWER
from fgvr.sources.json_items import json_items
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PLACE

ROLES = (("user", "assistant"), ("system", "user", "assistant"))


class MessagesJSON(Source):
    """The items of `file`, {messages: [system,] user and assistant with role and content, images: [one path]}.

    `file` is a JSON list, or holds one item a line where it ends in .jsonl. The texts become the sample's `system`,
    `question` and `response`, not a letter changed; `AsWritten` is the task that trains on them so. The label is what
    the assistant answers in <answer>. `root` is what paths are relative to (default: the file's folder), `split` that
    of all items, `taxonomy` a yaml file (without one the labels are a list), `dataset` what the set is called (default:
    as the file). An item that cannot be used is refused by its number.
    """

    def __init__(
        self,
        file: Path,
        root: Path | None = None,
        split: str = "train",
        taxonomy: Path | None = None,
        dataset: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(sorted(SPLITS))}, got {split!r}")
        self.file = Path(file)
        self.root = Path(root) if root is not None else self.file.parent
        self.split = SPLITS[split]
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        return {"kind": "MessagesJSON", "dataset": self.dataset, "split": self.split}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base = without_links(self.root)
        for number, item in enumerate(self._items):
            yield self._record(f"{self.file.name}[{number}]", item, base)

    @cached_property
    def _items(self) -> list[Any]:
        return json_items(self.file, "messages and images")

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        labels = {label for item in self._items if (label := _read(item)[0]) and unfit(label) is None}
        return Taxonomy.flat(sorted(labels))

    def _record(self, where: str, item: Any, base: Path) -> Record | Refusal:
        label, path, texts, complaint = _read(item)
        file, climbs = inside(self.root, path, base)
        complaint = complaint or climbs or unfit(label)
        known = self.known(label) if complaint is None else None
        if known is None:
            said = complaint or f"its label {label!r} is not a class of the taxonomy"
            return Refusal(where, where, f"{where}: {said}")
        name = f"{where} {printable(path)}"
        paths, load = self._taxonomy.paths, PictureAt(str(file), name)
        return Record(name, known, paths[known], self.split, None, load, texts, stamp_of(file))


def _read(item: Any) -> tuple[str, str, dict[str, str], str | None]:
    """The label, the photo's path and the texts of an item, or why it cannot be used."""
    messages = item.get("messages") if isinstance(item, Mapping) else None
    said = messages if isinstance(messages, list) and all(isinstance(one, Mapping) for one in messages) else []
    roles = tuple(one.get("role") for one in said)
    if roles not in ROLES or not all(isinstance(one.get("content"), str) for one in said):
        return "", "", {}, "its messages must be texts of user and assistant, with one of system before or not"
    images = item.get("images")
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str):
        return "", "", {}, f"its images must be one path, got {images!r:.100}"
    *before, question, response = (str(one["content"]) for one in said)
    if question.count(PLACE) > 1:
        return "", "", {}, f"its user must have one {PLACE} at the most, got {question.count(PLACE)}"
    answer = ANSWER.search(response.rpartition("</think>")[2])  # a thought may speak of tags
    if answer is None or not answer[1]:
        return "", "", {}, f"its assistant must answer in <answer>…</answer>, got {response!r:.100}"
    texts = {"question": question, "response": response} | ({"system": before[0]} if before else {})
    return clean(answer[1]), images[0], texts, None
