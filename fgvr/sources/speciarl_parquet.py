"""Open-world samples in a parquet file, as SpeciaRL trains on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fgvr.errors import SampleError, UserError
from fgvr.sources.base import SPLITS, Record, Refusal, Source, SourceGone, clean, printable, unfit
from fgvr.sources.token_ids import refuse_token_ids
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PLACE

COLUMNS = ("images", "prompt", "reward_model")


class SpeciaRLParquet(Source):
    """The rows of `file`: a photo under `images`, a chat under `prompt`, the label as reward_model's ground_truth.

    The texts of the chat become the sample's `question` and `system`, not a letter changed; `AsWritten` and
    `OwnQuestion` ask them so. The photo stands where the chat has it, or first. A row's split is what its column
    `split` says, else `split`. `taxonomy` is a yaml file as for ImageFolder; without one the labels are a list.
    `dataset` is what the set is called (default: as the file). Needs `pip install 'fgvr[parquet]'`. The texts are held
    in memory while they are packed; the photos are read a row group at a time.
    """

    def __init__(
        self, file: Path, split: str = "train", taxonomy: Path | None = None, dataset: str | None = None
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(sorted(SPLITS))}, got {split!r}")
        self.file, self.split = Path(file), SPLITS[split]
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        return {"kind": "SpeciaRLParquet", "dataset": self.dataset, "split": self.split}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        for number, row in enumerate(self._rows):
            yield self._record(number, row)

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        return Taxonomy.flat(sorted({label for row in self._rows if unfit(label := _label(row)) is None}))

    def _record(self, number: int, row: Mapping[str, Any]) -> Record | Refusal:
        name = printable(f"{self.file.stem}/{number:06d}")
        label = _label(row)
        texts, complaint = _texts(row.get("prompt"))
        complaint = unfit(label) or complaint
        known = self.known(label) if complaint is None else None
        said = str(row.get("split") or self.split).casefold()
        if known is not None and said not in SPLITS:
            complaint = f"split must be one of {sorted(SPLITS)}, got {said!r}"
        if known is None or complaint is not None:
            return Refusal(self.file.name, name, complaint or f"its label {label!r} is not a class of the taxonomy")
        if (sample := row.get("sample_id")) is not None:
            texts["sample_id"] = str(sample)
        load, stamp = partial(self._photo, number, name), str(self.file.stat().st_size)
        return Record(name, known, self._taxonomy.paths[known], SPLITS[said], None, load, texts, stamp)

    def _photo(self, number: int, name: str) -> bytes:
        held = self._group_of(number)[number - self._start].as_py()
        found = [one.get("bytes") if isinstance(one, Mapping) else one for one in held or []]
        if len(found) != 1 or not isinstance(found[0], bytes) or not found[0]:
            raise SampleError(f"{name} must hold the bytes of one photo under images, but it holds {len(found)}")
        return found[0]

    _start = 0  # of the row group that is held
    _held: Any = None

    def _group_of(self, number: int) -> Any:
        """The photos of the row group that a row is in; the last one is kept."""
        if self._held is None or not self._start <= number < self._start + len(self._held):
            opened, start = self._opened, 0
            for group in range(opened.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                if number < start + count:
                    self._start, self._held = start, opened.read_row_group(group, columns=["images"]).column("images")
                    break
                start += count
        return self._held

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        columns = self._opened.schema_arrow.names
        if missing := [name for name in COLUMNS if name not in columns]:
            raise UserError(
                f"{self.file} must have the columns {', '.join(COLUMNS)}, but it lacks {' and '.join(missing)}; it has "
                f"{', '.join(columns)}"
            )
        refuse_token_ids(self.file, columns)
        texts = [name for name in ("prompt", "reward_model", "split", "sample_id") if name in columns]
        return self._opened.read(columns=texts).to_pylist()

    @cached_property
    def _opened(self) -> Any:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise UserError("reading parquet needs pyarrow, which is not there: pip install 'fgvr[parquet]'") from error
        if not self.file.is_file():
            raise SourceGone(f"file must be a parquet file, but {self.file} is not a file: give its path")
        try:
            return parquet.ParquetFile(self.file)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{self.file} must be a parquet file, but it cannot be read as one: {error}") from error


def _label(row: Mapping[str, Any]) -> str:
    held = row.get("reward_model")
    value = held.get("ground_truth") if isinstance(held, Mapping) else None
    return clean(value) if isinstance(value, str) else ""


def _texts(prompt: Any) -> tuple[dict[str, Any], str | None]:
    """The question and the system text of a chat, or why it cannot be asked."""
    turns = prompt if isinstance(prompt, list) else []
    roles = [one.get("role") if isinstance(one, Mapping) else None for one in turns]
    if roles not in (["user"], ["system", "user"]):
        return {}, f"its prompt must be a turn of the user, after one of the system or not, got {roles}"
    said = [_joined(one.get("content")) for one in turns]
    if any(text is None for text in said):
        return {}, "the contents of its prompt must be texts and images"
    question = str(said[-1])
    if question.count(PLACE) > 1:
        return {}, f"its prompt must show one image, got {question.count(PLACE)}"
    return {"question": question} | ({"system": str(said[0])} if len(said) > 1 else {}), None


def _joined(content: Any) -> str | None:
    """The text of a turn, with a place for each image in it; None for what is neither text nor image."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts: list[str] = []
    for part in parts:
        held = part if isinstance(part, Mapping) else {}
        text = PLACE if held.get("type") == "image" else held.get("text") if held.get("type") == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)
