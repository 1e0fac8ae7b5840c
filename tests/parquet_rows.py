"""Rows of triplets in a parquet file, as the second stage of Fine-R1 has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hostile import jpeg

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = {
    "images": pa.list_(IMAGE),
    "problem": pa.string(),
    "answer": pa.string(),
    "image_noisy": pa.list_(IMAGE),
    "image_aug": pa.list_(IMAGE),
}
QUESTION = "<image>\nWhich bird is  this?\tName it. "


def photos(*numbers: int) -> list[dict[str, Any]]:
    return [{"bytes": jpeg(number), "path": None} for number in numbers]


def row(number: int, label: str, **changes: Any) -> dict[str, Any]:
    whole = {"images": photos(3 * number), "problem": QUESTION, "answer": label}
    return {**whole, "image_noisy": photos(3 * number + 1), "image_aug": photos(3 * number + 2), **changes}


def written(file: Path, rows: Sequence[Mapping[str, Any]], leave_out: str | None = None, **types: Any) -> Path:
    schema = pa.schema([(name, kind) for name, kind in (COLUMNS | types).items() if name != leave_out])
    pq.write_table(pa.Table.from_pylist(rows, schema), file, row_group_size=3)  # pyright: ignore[reportArgumentType]
    return file
