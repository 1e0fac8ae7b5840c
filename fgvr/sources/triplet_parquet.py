"""Triplets in a parquet file, as Fine-R1's second stage has them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fgvr.errors import SampleError, UserError
from fgvr.sources.base import PartnerRecord, Record, Refusal, Source, SourceGone, clean, unfit
from fgvr.sources.token_ids import refuse_token_ids
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import PLACE

PHOTO, QUESTION, LABEL, POSITIVE, NEGATIVE = "images", "problem", "answer", "image_noisy", "image_aug"


class TripletParquet(Source):
    """The rows of `file`, a triplet each: a photo, the question about it, its label, a positive and a negative.

    `images` holds the photo, `problem` the question and `answer` the label; whatever its name says, `image_noisy` holds
    another photo of that class, and `image_aug` one of a class that looks like it. The three hold lists of {bytes,
    path}, as the datasets library stores images. A negative has the class of the row whose photo or positive it is,
    byte for byte; without such a row its label is empty. All rows are to train on, and `fgvr.data.OwnQuestion` asks
    their questions word for word. A row without exactly one photo, or whose question has not exactly one <image>, is
    refused; one without a positive or a negative does without. `taxonomy` is a yaml file as for ImageFolder; without
    one the classes are a list. `dataset` is what the set is called (default: as the file). Needs `pip install
    'fgvr[parquet]'`. The photos are held in memory while they are packed.
    """

    def __init__(self, file: Path, taxonomy: Path | None = None, dataset: str | None = None) -> None:
        self.file = Path(file)
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        return {"kind": "TripletParquet", "dataset": self.dataset}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        labels = {_label(label) for label in self._texts[LABEL]}
        return Taxonomy.flat(sorted(label for label in labels if unfit(label) is None))

    def records(self) -> Iterator[Record | Refusal]:
        rows = zip(
            self._texts[QUESTION], self._texts[LABEL], *map(self._counts, (PHOTO, POSITIVE, NEGATIVE)), strict=True
        )
        for row, (question, label, *counts) in enumerate(rows):
            yield self._record(row, question, label, counts)

    def _record(self, row: int, question: str | None, label: Any, counts: Sequence[int]) -> Record | Refusal:
        name = f"{self.file.stem}/{row:06d}"
        label = _label(label)
        known = self.known(label) if unfit(label) is None else None
        if known is None:
            complaint = unfit(label) or f"its label {label!r} is not a class of the taxonomy"
            return Refusal(self.file.name, name, complaint)
        if counts[0] != 1:
            return Refusal(self.file.name, name, f"{PHOTO} must hold one photo, but it holds {counts[0]}")
        if str(question or "").count(PLACE) != 1:
            return Refusal(self.file.name, name, f"{QUESTION} must have one {PLACE}, but it is {question!r}")
        positive, negative = (
            PartnerRecord(f"{name}/{column}", partner_label, partial(self._images, row, column)) if count else None
            for column, partner_label, count in (
                (POSITIVE, known, counts[1]),
                (NEGATIVE, self._class_of_negative(row, known), counts[2]),
            )
        )
        return Record(
            name,
            known,
            self._taxonomy.paths[known],
            "train",
            None,
            partial(self._photo, row),
            {"question": question},
            f"{self.file.stat().st_size}",
            positive,
            negative,
        )

    def _class_of_negative(self, row: int, own: str) -> str:
        """Its own class where the file shows the negative under it, else the one it stands under; empty if unclear."""
        found = {label for data in self._bytes(row, NEGATIVE) for label in self._shown.get(_hash(data), ())}
        if own in found:
            return own
        return found.pop() if len(found) == 1 else ""

    @cached_property
    def _shown(self) -> dict[bytes, set[str]]:
        """The classes that each photo and each positive stands under, by its hash."""
        shown: dict[bytes, set[str]] = defaultdict(set)
        for row, held in enumerate(self._texts[LABEL]):
            label = _label(held)
            known = self.known(label) if unfit(label) is None else None
            for column in (PHOTO, POSITIVE) if known is not None else ():
                for data in self._bytes(row, column):
                    shown[_hash(data)].add(known)  # pyright: ignore[reportArgumentType]
        return dict(shown)

    def _photo(self, row: int) -> bytes:
        return self._images(row, PHOTO)[0]

    def _images(self, row: int, column: str) -> tuple[bytes, ...]:
        found = self._held(row, column)
        if not all(isinstance(data, bytes) and data for data in found):
            raise SampleError(
                f"{self.file.stem}/{row:06d} must hold the bytes of its photo under {column}, but it does not"
            )
        return found  # pyright: ignore[reportReturnType]

    def _bytes(self, row: int, column: str) -> list[bytes]:
        """Those of a row's images that bring their bytes."""
        return [data for data in self._held(row, column) if isinstance(data, bytes) and data]

    def _held(self, row: int, column: str) -> tuple[Any, ...]:
        held = self._pictures.column(column)[row].as_py()
        return tuple((one or {}).get("bytes") for one in (held if isinstance(held, list) else [held]))

    def _counts(self, column: str) -> list[int]:
        """How many images each row holds under a column, without reading them where their paths tell it."""
        leaves = [path for path in self._leaves if path.split(".")[0] == column]
        light = next((path for path in leaves if path.endswith(".path")), leaves[0])
        held = self._read([light]).column(column)
        return [len(one) if isinstance(one, list) else int(one is not None) for one in held.to_pylist()]

    @cached_property
    def _texts(self) -> dict[str, list[Any]]:
        missing = [name for name in (PHOTO, QUESTION, LABEL, POSITIVE, NEGATIVE) if name not in self._columns]
        if missing:
            raise UserError(
                f"{self.file} must have the columns {PHOTO}, {QUESTION}, {LABEL}, {POSITIVE} and {NEGATIVE}, but it "
                f"lacks {' and '.join(missing)}; it has {', '.join(self._columns)}"
            )
        refuse_token_ids(self.file, self._columns)
        self._refuse_other_types()
        return self._read([QUESTION, LABEL]).to_pydict()

    def _refuse_other_types(self) -> None:
        """Raises UserError where a column of photos holds anything but {bytes, path}, or lists of them."""
        schema = self._opened().schema_arrow
        for column in (PHOTO, POSITIVE, NEGATIVE):
            kind = schema.field(column).type
            held = getattr(kind, "value_type", kind)
            fields = {held.field(place).name for place in range(held.num_fields)}
            if "bytes" not in fields and str(kind) != "null":  # which a column is in which no row has any
                raise UserError(
                    f"{self.file} must hold {{bytes, path}} or lists of them under {column}, but its type is {kind}: "
                    "write the photos as the datasets library's Image feature does"
                )

    @cached_property
    def _pictures(self) -> Any:
        return self._read([PHOTO, POSITIVE, NEGATIVE])

    @property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(path.split(".")[0] for path in self._leaves))

    @cached_property
    def _leaves(self) -> list[str]:
        schema = self._opened().schema
        return [schema.column(place).path for place in range(len(schema))]

    def _read(self, columns: list[str]) -> Any:
        return self._opened().read(columns=columns)

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


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _label(value: Any) -> str:
    """The name of a class as a column holds it, which may be a number; empty where there is none."""
    return "" if value is None else clean(str(value))
