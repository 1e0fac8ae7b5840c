"""What a folder of shards says about itself: the manifest, and for every shard an index of its members.

The manifest is written last, so its presence means that the set is whole. Both files are canonical JSON and carry a
digest of themselves, so that one flipped bit in them is noticed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.retries import await_mount, patiently
from fgvr.sources.base import Refusal
from fgvr.whole_files import sealed, unsealed, write_whole

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_STEM = r"(?:train|val|test)-(?:seen|unseen|base|novel)-\d{6}"
SHARD_NAME = re.compile(SHARD_STEM + r"\.tar")
SHOWN = 5  # refusals named in a message; the manifest names them all
WITH_PARTNER = {"pos": "with a positive", "neg": "with a negative"}  # in notes, how many samples have a frozen one
MAPPINGS = ("source", "options", "taxonomy", "cohorts", "counts", "notes", "image_pixels")
AGAIN = "copy it again, or run the same `python -m fgvr shards` line, which packs what is damaged"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """One file inside a tar. `offset` is where its data begins, in bytes from the start of the tar."""

    name: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class PartnerEntry:
    """A frozen positive ("pos") or negative ("neg"): whose photo it is, and the sha256 of its source's bytes.

    The label is empty where it is unknown.
    """

    view: str
    uid: str
    label: str
    picture: str


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """The members of one sample. `picture` is the sha256 of the source's bytes; width and height are in pixels."""

    key: str
    label: str
    members: tuple[MemberEntry, ...]
    picture: str = ""
    width: int = 0
    height: int = 0
    partners: tuple[PartnerEntry, ...] = ()


@dataclass(frozen=True)
class ShardInfo:
    """One tar and its index, by name relative to the folder; `size` in bytes, hashes in hex."""

    file: str
    index_file: str
    split: str
    cohort: str
    samples: int
    size: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Leak:
    """One picture, byte for byte, that stands in more than one split; `samples` are SPLIT/KEY."""

    picture: str
    samples: tuple[str, ...]


@dataclass(frozen=True)
class ShardIndex:
    """Everything about one shard that can be known without its tar. `plan` is the hash of the packing it belongs to.

    `vouched` is False when it was read from a file without a digest of its own, as older versions wrote them.
    """

    plan: str
    file: str
    size: int
    sha256: str
    samples: tuple[SampleEntry, ...]
    refused: tuple[Refusal, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    vouched: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Manifest:
    """A whole shard set: where it came from, what it holds, what was left out and why.

    `counts[split][label]` are samples. `notes` counts what was done to pictures ("turned upright": 3). `image_pixels`
    holds the least, median and greatest width and height. `accepted` is False when too many samples were refused.
    """

    format: int
    dataset: str
    source: Mapping[str, Any]
    seed: int
    options: Mapping[str, Any]
    taxonomy: Mapping[str, Any]
    cohorts: Mapping[str, str]
    counts: Mapping[str, Mapping[str, int]]
    shards: tuple[ShardInfo, ...]
    refused: tuple[Refusal, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    image_pixels: Mapping[str, list[int]] = field(default_factory=dict)
    accepted: bool = True
    leaks: tuple[Leak, ...] = ()
    plan: str = ""

    def samples(self, split: str, cohorts: Collection[str]) -> int:
        """How many samples `select` finds, by the manifest's own count."""
        return sum(shard.samples for shard in self.select(split, cohorts))

    def select(self, split: str, cohorts: Collection[str]) -> tuple[ShardInfo, ...]:
        """The shards of one split and some cohorts, in the manifest's order."""
        return tuple(shard for shard in self.shards if shard.split == split and shard.cohort in cohorts)

    def fingerprint(self) -> str:
        """A hex sha256 of the format, the taxonomy and every shard's name and hash: equal for equal data only."""
        shards = [[shard.file, shard.sha256] for shard in self.shards]
        return hashlib.sha256(canonical_json([self.format, self.taxonomy, shards])).hexdigest()


def has_partners(manifest: Manifest) -> bool:
    """Whether any sample has a frozen partner."""
    return any(manifest.notes.get(note) for note in WITH_PARTNER.values())


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a whole and accepted shard set; raises UserError for a folder that is not one."""
    manifest = read_manifest(folder)
    if not manifest.accepted:
        raise UserError(refusal_message(manifest, folder))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """As `load_manifest`, but also for a set that was packed and not accepted."""
    folder = Path(folder)
    await_mount(folder)
    if not patiently(folder.is_dir, folder):
        raise UserError(f"a shard set is a folder, but {folder} is not one: pack it first with `python -m fgvr shards`")
    file = folder / MANIFEST
    if not file.is_file():
        if not any(folder.glob("*.tar*")):  # one that is being written ends in .part
            raise UserError(
                f"a shard set has a {MANIFEST} and tar files, but {folder} has neither: give the folder that "
                "`python -m fgvr shards` wrote to (--out)"
            )
        raise UserError(
            f"a whole shard set has a {MANIFEST}, but {folder} has none: its packing was not finished, "
            "so run the same `python -m fgvr shards` line again"
        )
    there = patiently(file.stat, file)
    manifest, vouched = _read_once(file, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)
    if not vouched:
        _warn_of_old(file)
    return manifest


def vouched_for(folder: Path) -> bool:
    """Whether the manifest in a folder can be read and has the digest that it states."""
    try:
        return _read(Path(folder) / MANIFEST)[1]
    except UserError:
        return False


def refusal_message(manifest: Manifest, folder: Path) -> str:
    """Why a set was not accepted, with the first refusals and the option that lifts the limit."""
    refused, kept = len(manifest.refused), sum(shard.samples for shard in manifest.shards)
    first = "; ".join(str(refusal) for refusal in manifest.refused[:SHOWN])
    more = f"; and {refused - SHOWN} more, all named in {MANIFEST}" if refused > SHOWN else ""
    limit = manifest.options.get("max_bad_share")
    return (
        f"{folder} was packed but not accepted: at most a share of {limit} may be refused, and "
        f"{refused} of {refused + kept} were ({first}{more}). Mend or remove them, or run it again with "
        f"--max_bad_share {_round_up(refused / max(1, refused + kept))}"
    )


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes manifest.json whole or not at all."""
    write_whole(Path(folder) / MANIFEST, sealed(asdict(manifest)))


def load_index(folder: Path, shard: ShardInfo) -> tuple[SampleEntry, ...]:
    """The samples of one shard, in the order of the tar. Raises UserError unless the index has the manifest's hash."""
    file = Path(folder) / shard.index_file
    try:
        data = patiently(file.read_bytes, file)
    except OSError as error:
        raise UserError(f"{file} must be readable, but it is not ({error.strerror}): pack the set again") from error
    if hashlib.sha256(data).hexdigest() != shard.index_sha256:
        raise UserError(f"{file} does not have the hash that {MANIFEST} gives: copy it again, or pack the set again")
    try:
        return tuple(map(sample_entry, json.loads(data)["samples"]))  # the hash says more than its own digest would
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{file} must be the index of a shard, but it is none: pack the set again ({error})") from error


def sample_entry(sample: Mapping[str, Any]) -> SampleEntry:
    """One sample of an index. Raises KeyError or TypeError for what is none."""
    return SampleEntry(
        sample["key"],
        sample["label"],
        tuple(MemberEntry(*member) for member in sample["members"]),
        sample["picture"],
        sample["width"],
        sample["height"],
        tuple(PartnerEntry(*partner) for partner in sample.get("partners", ())),
    )


def parse_index(file: Path, data: bytes) -> ShardIndex:
    """Raises UserError when `data` is not an index; `file` is only named."""
    try:
        raw, vouched = unsealed(data)
        samples = tuple(map(sample_entry, raw["samples"]))
        whole = ShardIndex(
            raw["plan"], raw["file"], raw["size"], raw["sha256"], samples, _refusals(raw), raw["notes"], vouched
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} must be the index of a shard, but it is none: pack the set again ({error})") from error
    return whole


def dump_index(index: ShardIndex) -> bytes:
    """The inverse of `parse_index`; members are lists [name, offset, size, crc32] to keep large indexes small.

    So are partners, which stand only where there are any.
    """
    own = {name: getattr(index, name) for name in ("plan", "file", "size", "sha256")}
    refused = [asdict(refusal) for refusal in index.refused]
    return sealed({**own, "samples": [*map(_told, index.samples)], "refused": refused, "notes": dict(index.notes)})


def _told(sample: SampleEntry) -> dict[str, Any]:
    members = [[member.name, member.offset, member.size, member.crc32] for member in sample.members]
    partners = [[partner.view, partner.uid, partner.label, partner.picture] for partner in sample.partners]
    return {
        **{"key": sample.key, "label": sample.label, "members": members, "picture": sample.picture},
        **{"width": sample.width, "height": sample.height},
        **({"partners": partners} if partners else {}),
    }


def index_name(shard: str) -> str:
    return shard.removesuffix(".tar") + ".index.json"


def canonical_json(value: Any) -> bytes:
    """One value, one spelling: keys sorted, ASCII, no spaces, a newline at the end. Raises ValueError for NaN."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _read(file: Path) -> tuple[dict[str, Any], bool]:
    try:
        return unsealed(patiently(file.read_bytes, file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} must be JSON as it was written, but {error}: {AGAIN}") from error


@lru_cache(maxsize=8)  # a set is opened many times in a run, and that of ten million members has megabytes to check
def _read_once(file: Path, *_changed: int) -> tuple[Manifest, bool]:
    """The manifest in a file, and whether a digest vouches for it; `_changed` are others when the file is another."""
    data, vouched = _read(file)
    return _parse(file, data), vouched


@cache
def _warn_of_old(file: Path) -> None:
    logger.warning(
        "%s was written by an older version and has no digest of itself, so damage to it would pass unnoticed: the "
        "same `python -m fgvr shards` line packs the set again and adds one",
        file,
    )


def _parse(file: Path, data: dict[str, Any]) -> Manifest:
    if data.get("format") != FORMAT:
        raise UserError(f"{file} has format {data.get('format')!r} but this version reads {FORMAT}: pack the set again")
    try:
        manifest = Manifest(**{**data, "shards": _shards(data), "refused": _refusals(data), "leaks": _leaks(data)})
    except (TypeError, KeyError) as error:
        raise UserError(f"{file} lacks or misnames a field ({error}): {AGAIN}") from error
    for name in MAPPINGS:
        if not isinstance(getattr(manifest, name), dict):
            raise UserError(f"{file} must hold an object under {name}: {AGAIN}")
    for shard in manifest.shards:
        if not SHARD_NAME.fullmatch(shard.file) or shard.index_file != index_name(shard.file):
            raise UserError(f"{file} names a shard {shard.file!r}, but a shard is called like train-seen-000000.tar")
        if not shard.file.startswith(f"{shard.split}-{shard.cohort}-") or not _is_count(shard.samples):
            raise UserError(
                f"{file} says of {shard.file} that it is {shard.split}-{shard.cohort} with {shard.samples} samples, "
                f"which cannot be: {AGAIN}"
            )
    return manifest


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shards(data: Mapping[str, Any]) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(**shard) for shard in data["shards"])


def _refusals(data: Mapping[str, Any]) -> tuple[Refusal, ...]:
    return tuple(Refusal(**refusal) for refusal in data["refused"])


def _leaks(data: Mapping[str, Any]) -> tuple[Leak, ...]:
    return tuple(Leak(leak["picture"], tuple(leak["samples"])) for leak in data["leaks"])


def _round_up(share: float) -> float:
    return math.ceil(share * 1000) / 1000
