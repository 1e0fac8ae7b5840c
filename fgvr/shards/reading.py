"""WebDataset tar shards: written member by member, read by offset. The only door to the webdataset library."""

from __future__ import annotations

import bisect
import itertools
import json
import os
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgvr.errors import SampleError, UserError
from fgvr.shards.columns import open_columns
from fgvr.shards.files import OpenFiles
from fgvr.shards.manifest import MemberEntry, SampleEntry, ShardInfo, load_index, load_manifest
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, Partner

if TYPE_CHECKING:
    from webdataset.writer import TarWriter

TAR_BLOCK = 512
MAX_NAME = 100  # a longer one would put a block of its own before the data
MAX_JSON = 1 << 20  # bytes; a label and a response are far below
INDEXED_SAMPLES = 1 << 17  # samples whose index entries a process keeps, about 100 MB
OWN = ""  # the view that a sample is itself
VIEWS = {"pos": "positive", "neg": "negative"}  # its partners, in member names and in the json member
GAP = 4096  # bytes between two members that are cheaper read than skipped


class ShardWriter:
    """Appends samples to one open tar and tells where in it each member lies."""

    def __init__(self, tar: TarWriter) -> None:
        self._tar = tar

    def write(self, key: str, members: Mapping[str, bytes]) -> tuple[MemberEntry, ...]:
        """Append a sample given as {suffix: bytes}, suffixes in sorted order ("jpg" before "json").

        Returns one entry per member, named KEY.SUFFIX, with the offset of its first data byte in the tar. Raises
        ValueError for a member that is not bytes or whose name has more than 100 characters.
        """
        entries: list[MemberEntry] = []
        offset = self._tar.tarstream.offset
        for suffix in sorted(members):
            data = members[suffix]
            if not isinstance(data, bytes) or len(f"{key}.{suffix}") > MAX_NAME:
                raise ValueError(f"a member must be bytes under a name of {MAX_NAME} characters, got {key}.{suffix}")
            entries.append(MemberEntry(f"{key}.{suffix}", offset + TAR_BLOCK, len(data), zlib.crc32(data)))
            offset += TAR_BLOCK + -(-len(data) // TAR_BLOCK) * TAR_BLOCK
        self._tar.write({"__key__": key, **members})
        if self._tar.tarstream.offset != offset:
            raise RuntimeError(f"the tar writer put {key!r} elsewhere than expected: the index would be wrong")
        return tuple(entries)


@contextmanager
def open_shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Write a tar that depends on nothing but its samples (times, owner and mode are fixed).

    The tar is written beside `path` and renamed into place when the block ends well; otherwise nothing is left.
    """
    from webdataset.writer import TarWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as stream:
            with TarWriter(stream, user="fgvr", group="fgvr", mode=0o644, encoder=False, mtime=0) as tar:
                yield ShardWriter(tar)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class ShardSet:
    """The samples of one split and some cohorts of a shard set, by number, in the order of the index.

    Reading goes straight to a member's offset and checks its crc32, so nothing depends on what stands before it in the
    tar. Safe to fork and to pickle: a copy opens its own files. Raises UserError when the folder is no whole shard set,
    when it has no such samples, or when the files' sizes show that more than `max_bad_share` of them are not there.
    """

    def __init__(self, folder: Path, split: str, cohorts: tuple[str, ...], max_bad_share: float = 0.001) -> None:
        self.folder, self.split, self.cohorts = Path(folder), split, tuple(cohorts)
        manifest = load_manifest(self.folder)
        self.shards = manifest.select(split, self.cohorts)
        self.fingerprint: str = manifest.fingerprint()
        self.dataset, self._taxonomy = manifest.dataset, manifest.taxonomy
        self._starts = [0, *itertools.accumulate(shard.samples for shard in self.shards)]
        self._files = OpenFiles(self.folder)
        self._columns = open_columns(self._files, manifest)
        self._indexes: OrderedDict[str, tuple[SampleEntry, ...]] = OrderedDict()
        self._last: tuple[int, SampleEntry] | None = None
        if not len(self):
            raise UserError(
                f"{self.folder} has no {split} samples of {' or '.join(self.cohorts)}: choose another shard set, "
                "or pack it with another split"
            )
        self._refuse_if_damaged(max_bad_share)

    def __len__(self) -> int:
        return self._starts[-1]

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_dict(self._taxonomy)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples per shard, in the order of the numbers."""
        return tuple(shard.samples for shard in self.shards)

    def uid(self, number: int) -> str:
        """A sample's uid, or SHARD[n] when the index that would tell it cannot be read."""
        try:
            return self._entry(number)[1].key
        except SampleError:
            shard, within = self._place(number)
            return f"{shard.file}[{within}]"

    def entries(self) -> Iterator[SampleEntry]:
        """What the indexes say of every sample, by number. Raises UserError for an index that cannot be read."""
        return (entry for shard in self.shards for entry in load_index(self.folder, shard))

    def labels(self) -> list[str]:
        """The label of every sample, by number. Raises UserError for an index that cannot be read."""
        return list(chain.from_iterable(map(self._labels, self.shards)))

    def _labels(self, shard: ShardInfo) -> list[str]:
        known = self._columns.labels(shard) if self._columns is not None else None
        return known if known is not None else [entry.label for entry in load_index(self.folder, shard)]

    def read(self, number: int) -> Example:
        """Raises SampleError, naming shard and member, unless every byte of the sample is as it was packed."""
        shard, entry = self._entry(number)
        images: dict[str, list[tuple[tuple[int, int, str], bytes]]] = defaultdict(list)
        record: Mapping[str, Any] | None = None
        for member, data in zip(entry.members, self._members(shard, entry), strict=True):
            if zlib.crc32(data) != member.crc32:
                raise SampleError(f"{shard.file}, {member.name}: the bytes do not have the checksum of the index")
            suffix = member.name.removeprefix(f"{entry.key}.")
            if suffix == "json":
                record = _parse(data, f"{shard.file}, {member.name}")
            else:
                view, within = _view_of(suffix)
                images[view].append((_image_rank(within), bytes(data)))
        if record is None or not images[OWN]:
            raise SampleError(f"{shard.file}, {entry.key}: a sample needs an image and a json member")
        if record["uid"] != entry.key or record["label"] != entry.label:
            raise SampleError(f"{shard.file}, {entry.key}: uid or label differ between the json member and the index")
        views = {view: tuple(data for _, data in sorted(found, key=itemgetter(0))) for view, found in images.items()}
        where = f"{shard.file}, {entry.key}"
        partners = {view: _partner(view, views[view], record, where) for view in VIEWS if view in views}
        known = {name: record[name] for name in _FIELDS}
        beside = {VIEWS[view] for view in partners}
        extra = {name: value for name, value in record.items() if name not in known and name not in beside}
        known["path"] = tuple(known["path"])
        return Example(
            images=views[OWN], extra=extra, positive=partners.get("pos"), negative=partners.get("neg"), **known
        )

    def close(self) -> None:
        """Close the set's files; reading opens them again."""
        self._files.close()
        self._indexes.clear()

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self._files.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indexes": OrderedDict()}

    def _place(self, number: int) -> tuple[ShardInfo, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = bisect.bisect_right(self._starts, number) - 1
        return self.shards[shard], number - self._starts[shard]

    def _entry(self, number: int) -> tuple[ShardInfo, SampleEntry]:
        """By the columns; where they say nothing, by the whole index."""
        shard, within = self._place(number)
        if self._last is None or self._last[0] != number:
            known = self._columns.entry(shard, within) if self._columns is not None else None
            self._last = number, known if known is not None else self._index(shard, within)[within]
        return shard, self._last[1]

    def _index(self, shard: ShardInfo, within: int) -> tuple[SampleEntry, ...]:
        """The slow twin: all entries of the shard, of which the last ones asked for are kept."""
        index = self._indexes.get(shard.file)
        if index is None:
            try:
                index = load_index(self.folder, shard)
            except UserError as error:
                raise SampleError(f"{shard.file}[{within}]: {error}") from error
            if len(index) != shard.samples:
                raise SampleError(f"{shard.file}[{within}]: the index has {len(index)} samples, not {shard.samples}")
            self._indexes[shard.file] = index
            while len(self._indexes) > 1 and sum(map(len, self._indexes.values())) > INDEXED_SAMPLES:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(shard.file)
        return index

    def _members(self, shard: ShardInfo, entry: SampleEntry) -> list[memoryview]:
        """The members' bytes, by one read where they stand side by side, as they do in a tar."""
        start = min(member.offset for member in entry.members)
        end = max(member.offset + member.size for member in entry.members)
        if not 0 <= start <= end <= shard.size:
            raise SampleError(f"{shard.file}, {entry.key}: the index puts it outside the shard")
        if end - start <= sum(member.size + GAP for member in entry.members):
            whole = memoryview(self._pread(shard, start, end - start))
            parts = [whole[member.offset - start :][: member.size] for member in entry.members]
        else:
            parts = [memoryview(self._pread(shard, member.offset, member.size)) for member in entry.members]
        for member, part in zip(entry.members, parts, strict=True):
            if len(part) != member.size:
                raise SampleError(f"{shard.file}, {member.name}: the shard ends before its {member.size} bytes do")
        return parts

    def _pread(self, shard: ShardInfo, offset: int, size: int) -> bytes:
        try:
            return self._files.read(shard.file, offset, size)
        except OSError as error:
            raise SampleError(f"{shard.file}: the shard cannot be read ({error.strerror})") from error

    def _refuse_if_damaged(self, max_bad_share: float) -> None:
        bad, files = 0, []
        for shard in self.shards:
            file = self._files.path(shard.file)
            size = file.stat().st_size if file.is_file() else 0
            if size != shard.size:
                bad += self._beyond(shard, size)
                files.append(f"{shard.file} ({size} of {shard.size} bytes)")
        if bad > max_bad_share * len(self):
            raise UserError(
                f"{self.folder} is damaged: {bad} of {len(self)} samples are not there, more than "
                f"max_bad_share={max_bad_share} allows: {', '.join(files[:5])}. Copy these shards or pack the set again"
            )

    def _beyond(self, shard: ShardInfo, size: int) -> int:
        try:
            index = load_index(self.folder, shard)
        except UserError:
            return shard.samples
        return sum(any(member.offset + member.size > size for member in entry.members) for entry in index)


def _view_of(suffix: str) -> tuple[str, str]:
    """Whose photo a member is, and its suffix among the photos of that one: KEY.pos.1.jpg is the positive's 1.jpg."""
    view, dot, within = suffix.partition(".")
    return (view, within) if dot and view in VIEWS else (OWN, suffix)


def _partner(view: str, images: tuple[bytes, ...], record: Mapping[str, Any], where: str) -> Partner:
    """Whose a partner's photos are, by the json member; unknown, with the empty label, where that does not say."""
    told = record.get(VIEWS[view])
    if told is None:
        return Partner(images, f"{record['uid']}.{view}", "")
    if not isinstance(told, dict) or not (_is_text(told.get("uid")) and _is_text(told.get("label"))):
        raise SampleError(f"{where}: the field {VIEWS[view]!r} must hold the uid and the label of its photo")
    return Partner(images, told["uid"], told["label"])


def _image_rank(suffix: str) -> tuple[int, int, str]:
    """KEY.jpg first, then KEY.1.jpg, KEY.2.jpg, …, then named ones (KEY.wing.jpg)."""
    head, dot, _ = suffix.rpartition(".")
    if not dot:
        return 0, 0, ""
    return (1, int(head), "") if head.isdecimal() else (2, 0, head)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


_FIELDS: dict[str, Callable[[object], bool]] = {
    "uid": _is_text, "label": _is_text, "path": _is_path, "split": _is_text, "cohort": _is_text, "dataset": _is_text,
}  # fmt: skip


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)  # json.loads would make one for every sample


def _parse(data: memoryview, name: str) -> dict[str, Any]:
    if len(data) > MAX_JSON:
        raise SampleError(f"{name}: a json member may have {MAX_JSON} bytes, this one has {len(data)}")
    try:
        record = _JSON.decode(bytes(data).decode(json.detect_encoding(bytes(data)), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{name}: not readable as JSON ({error})") from error
    for field, holds in _FIELDS.items():
        if not isinstance(record, dict) or not holds(record.get(field)):
            raise SampleError(f"{name}: the field {field!r} is missing or of the wrong type")
    if record["path"][-1] != record["label"]:
        raise SampleError(f"{name}: the path {record['path']} does not end in the label {record['label']!r}")
    return record
