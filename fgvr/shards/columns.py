"""The columns of a shard set: of every sample its label, its picture's hash, and where in an index it stands.

An index is text that must be read as a whole; one of ten million members takes minutes. The columns are made from the
indexes when a set is packed, in rows of one size, so that one sample is found by two short reads, and all labels or
pictures by one. They are only a shorter way to what the indexes say: a set without them, as older versions packed it,
or one whose columns are damaged, is read from its indexes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgvr.errors import UserError
from fgvr.retries import patiently
from fgvr.shards.files import OpenFiles
from fgvr.shards.manifest import Manifest, SampleEntry, ShardInfo, canonical_json, sample_entry
from fgvr.whole_files import part_name, put_in_place, sealed, unsealed, write_whole

ROWS, HEAD = "columns.bin", "columns.json"
FORMAT = 1
ROW = struct.Struct("<IQII32s")  # number of the label; in the index: offset, bytes, crc32; sha256 of the picture
FIELDS = np.dtype([("label", "<u4"), ("at", "<u8"), ("size", "<u4"), ("crc", "<u4"), ("picture", "<u8", 4)])
MAX_ENTRY = 1 << 20  # bytes of a sample in an index; far below, but for a damaged row
SAMPLES = b'"samples":['
log = logging.getLogger(__name__)


def write_columns(folder: Path, manifest: Manifest) -> bool:
    """Makes the columns of a set from its indexes, one after the other; the same bytes every time.

    False, and none are there afterwards, where an index is not spelt as this version spells it. Raises UserError for an
    index that cannot be read.
    """
    labels: dict[str, int] = {}
    checks: list[int] = []
    file = folder / ROWS
    beside = part_name(file)
    try:
        with beside.open("wb") as stream:
            for shard in manifest.shards:
                rows = _rows(folder / shard.index_file, shard, labels)
                checks.append(zlib.crc32(rows))
                stream.write(rows)
        put_in_place(beside, file)
    except ValueError:
        (folder / HEAD).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        return False
    finally:
        beside.unlink(missing_ok=True)
    write_whole(folder / HEAD, sealed(_head(manifest, checks, list(labels))))
    return True


def _head(manifest: Manifest, checks: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    return {"format": FORMAT, "indexes": _indexes(manifest), "crc32": list(checks), "labels": list(labels)}


def _indexes(manifest: Manifest) -> str:
    """What the columns are made of: other indexes have another digest."""
    named = [[shard.index_file, shard.index_sha256, shard.samples] for shard in manifest.shards]
    return hashlib.sha256(canonical_json(named)).hexdigest()


def _rows(file: Path, shard: ShardInfo, labels: dict[str, int]) -> bytes:
    try:
        data = patiently(file.read_bytes, file)
    except OSError as error:
        raise UserError(f"{file} must be readable, but it is not ({error.strerror}): pack the set again") from error
    if hashlib.sha256(data).hexdigest() != shard.index_sha256:
        raise UserError(f"{file} does not have the hash that its packing gave it: pack the set again")
    at = data.index(SAMPLES) + len(SAMPLES)
    rows: list[bytes] = []
    for sample in json.loads(data)["samples"]:
        text = canonical_json(sample).removesuffix(b"\n")
        if not data.startswith(text, at):
            raise ValueError(f"{file} is spelt in another way")
        number = labels.setdefault(sample["label"], len(labels))
        rows.append(ROW.pack(number, at, len(text), zlib.crc32(text), bytes.fromhex(sample["picture"])))
        at += len(text) + 1
    return b"".join(rows)


class Columns:
    """The columns of the set in `files`' folder, as `open_columns` finds them fit for its manifest."""

    def __init__(self, files: OpenFiles, manifest: Manifest, checks: Sequence[int], labels: Sequence[str]) -> None:
        self._files, self._labels = files, tuple(labels)
        counts = [shard.samples for shard in manifest.shards]
        blocks = zip([0, *itertools.accumulate(counts)][:-1], counts, checks, strict=True)
        self._blocks = dict(zip((shard.file for shard in manifest.shards), blocks, strict=True))

    def entry(self, shard: ShardInfo, within: int) -> SampleEntry | None:
        """What the index says of one sample; None unless its text is there as it was written."""
        try:
            row = self._files.read(ROWS, (self._blocks[shard.file][0] + within) * ROW.size, ROW.size)
            _, at, size, crc, _ = ROW.unpack(row)
            text = self._files.read(shard.index_file, at, min(size, MAX_ENTRY))
            return sample_entry(json.loads(text)) if zlib.crc32(text) == crc else None
        except (OSError, ValueError, LookupError, TypeError, struct.error):
            return None

    def labels(self, shard: ShardInfo) -> list[str] | None:
        """The labels of one shard's samples in their order, None when the columns are damaged there."""
        rows = self._block(shard)
        if rows is None or (len(rows) and int(rows["label"].max()) >= len(self._labels)):
            return None
        return [self._labels[number] for number in rows["label"].tolist()]

    def pictures(self, shard: ShardInfo) -> NDArray[np.uint64] | None:
        """The first 64 bits of each picture's hash, 0 where the index has none; None as for `labels`."""
        rows = self._block(shard)
        return None if rows is None else rows["picture"][:, 0]

    def _block(self, shard: ShardInfo) -> NDArray[np.void] | None:
        start, count, check = self._blocks[shard.file]
        try:
            data = self._files.read(ROWS, start * ROW.size, count * ROW.size)
        except OSError:
            return None
        return np.frombuffer(data, FIELDS) if zlib.crc32(data) == check else None


def open_columns(files: OpenFiles, manifest: Manifest) -> Columns | None:
    """The columns that belong to a manifest; None where there are none, and a warning where they are damaged."""
    head, rows = files.folder / HEAD, files.folder / ROWS
    if not head.is_file():
        return None
    try:
        told, vouched = unsealed(patiently(head.read_bytes, head))
        size = os.stat(rows).st_size
    except (OSError, ValueError) as error:
        return _useless(head, str(error))
    if not vouched or told.get("format") != FORMAT or told.get("indexes") != _indexes(manifest):
        return _useless(head, "they belong to other indexes")
    if size != ROW.size * sum(shard.samples for shard in manifest.shards):
        return _useless(head, f"{ROWS} has {size} bytes")
    try:
        return Columns(files, manifest, told["crc32"], told["labels"])
    except (ValueError, LookupError, TypeError) as error:
        return _useless(head, str(error))


def _useless(head: Path, why: str) -> None:
    log.warning(
        "%s cannot be used (%s), so the indexes are read in its place, which takes longer: the same "
        "`python -m fgvr shards` line writes it again",
        head,
        why,
    )


def columns_fit(folder: Path, manifest: Manifest) -> bool:
    """Whether every block of the columns is as it was written."""
    files = OpenFiles(folder)
    try:
        columns = open_columns(files, manifest)
        return columns is not None and all(columns.labels(shard) is not None for shard in manifest.shards)
    finally:
        files.close()


def all_pictures(folder: Path, manifest: Manifest, shards: Sequence[ShardInfo]) -> NDArray[np.uint64] | None:
    """The first 64 bits of the hashes of these shards' pictures, sorted; None unless the columns have them all."""
    files = OpenFiles(folder)
    try:
        columns = open_columns(files, manifest)
        blocks = list(_whole_blocks(columns, shards)) if columns is not None else []
    finally:
        files.close()
    if columns is None or len(blocks) != len(shards):
        return None
    found = np.sort(np.concatenate([np.zeros(0, np.uint64), *blocks]))
    return found[found > 0]


def _whole_blocks(columns: Columns, shards: Sequence[ShardInfo]) -> Iterator[NDArray[np.uint64]]:
    blocks = (columns.pictures(shard) for shard in shards)
    return (block for block in blocks if block is not None)
