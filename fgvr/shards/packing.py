"""From a source to a folder of shards: every picture decoded once, every refusal named, the same bytes every time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fgvr.data.images import inspect_image, stored_form
from fgvr.errors import SampleError, UserError
from fgvr.shards.accounts import Accounts, timm_info
from fgvr.shards.columns import HEAD as COLUMNS
from fgvr.shards.columns import ROWS, columns_fit, write_columns
from fgvr.shards.manifest import (
    MANIFEST,
    SHARD_NAME,
    SHARD_STEM,
    Manifest,
    Refusal,
    SampleEntry,
    ShardIndex,
    ShardInfo,
    canonical_json,
    dump_index,
    index_name,
    parse_index,
    read_manifest,
    refusal_message,
    save_manifest,
    vouched_for,
)
from fgvr.shards.near_names import told_of_near_names
from fgvr.shards.partners import stored_partners, with_partners
from fgvr.shards.plan import PackOptions, Plan, PlannedShard, first_of_each_folder, make_plan, told_of_shares
from fgvr.shards.reading import open_shard_writer
from fgvr.shards.repeats import told_of_repeats
from fgvr.shards.shelf import Item
from fgvr.shards.texts import RESPONSES, has_response, told_of_responses
from fgvr.similarity import Similarity
from fgvr.sources.base import Source
from fgvr.sources.walking import without_links
from fgvr.whole_files import refuse_no_folder, write_whole

INFO = "_info.json"
SAMPLES = 4  # classes that are named before a packing
BESIDE = (INFO, MANIFEST, ROWS, COLUMNS)  # what stands beside the shards and their indexes
PART = re.compile(rf"\.?(?:{'|'.join(map(re.escape, BESIDE))}|{SHARD_STEM}(?:\.tar|\.index\.json))(?:\.\d+)?\.part")
Progress = Callable[[int, int], None]
logger = logging.getLogger(__name__)


def pack(
    source: Source,
    out: Path,
    options: PackOptions = PackOptions(),  # noqa: B008  (frozen)
    *,
    triplets: Similarity | None = None,
    max_bad_share: float = 0.001,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = logger.info,
) -> Manifest:
    """Packs a source into `out`; killed at any moment and run again, it goes on and ends with the same bytes.

    A set that is there is left alone once every file has the hash that the manifest states; damaged shards are packed
    again, and with `overwrite` all are. `triplets` freezes partners beside the pictures to train on. `progress` is told
    pictures done and pictures planned, `say` gets sentences. Raises UserError when more than `max_bad_share` of the
    samples are refused (the folder then holds the shards and a manifest that says so), and when `out` holds something
    else, unless `overwrite`.
    """
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share must be a share between 0 and 1, got {max_bad_share}")
    out = Path(out)
    if source.walked is not None and without_links(out).is_relative_to(without_links(source.walked)):
        raise UserError(
            f"the shards must not lie among the pictures, but {out} is in {source.walked}: choose another out"
        )
    plan = make_plan(source, options)
    if triplets is not None:
        plan = with_partners(plan, triplets, options.seed, say)
    _make_folder(out)
    with _alone_in(out, say):
        before = None if overwrite else _packed_before(out, plan)
        damaged = _damaged(out, before) if before is not None else []
        if before is not None and not damaged and _acceptable(before, max_bad_share):
            _mend_info(out, before, say)
            if not columns_fit(out, before) and write_columns(out, before):
                say(f"damaged or missing, so written again: {COLUMNS}")
            say(f"{out} holds this shard set already, whole: nothing to do")
            return before
        if before is None:
            responses = told_of_responses(plan.records("train"), plan.taxonomy)
            shares = told_of_shares(plan, options)
            names = told_of_near_names(plan)
            for sentence in (*overview(source.dataset, plan), *names, *shares, *source.remarks(), *responses):
                say(sentence)
        _clear(out, plan, overwrite, damaged)
        if damaged:
            say(f"damaged or missing, so packed again: {', '.join(shard.file for shard in damaged)}")
        accounts = Accounts()
        _write_shards(out, plan, source.dataset, accounts, progress, say)
        manifest = accounts.manifest(source, options, plan, max_bad_share)
        write_whole(out / INFO, canonical_json(timm_info(manifest)))
        write_columns(out, manifest)
        save_manifest(manifest, out)
    for sentence in told_of_repeats(manifest, accounts.contradictions(), plan):
        say(sentence)
    if not manifest.accepted:
        raise UserError(refusal_message(manifest, out))
    return manifest


def overview(dataset: str, plan: Plan) -> list[str]:
    """What is about to be packed, in words: how many pictures, the ranks, names to look at, and what is refused."""
    taxonomy, labels = plan.taxonomy, sorted(plan.cohorts)
    sample = [labels[place * (len(labels) - 1) // max(1, SAMPLES - 1)] for place in range(SAMPLES)]
    names = "; ".join(" > ".join(taxonomy.paths[label]) for label in dict.fromkeys(sample))
    ranks = " > ".join(taxonomy.ranks) or "none"
    said = [
        f"{dataset}: {plan.pictures:,} pictures of {len(labels):,} classes to pack; ranks, coarse to fine: {ranks}",
        f"names such as {names}",
    ]
    if plan.refused:
        said.append(f"{len(plan.refused):,} refused before any is read{first_of_each_folder(plan.refused)}")
    return said


def _make_folder(out: Path) -> None:
    if not out.is_dir():  # one that is there may be whole, and need no writing
        refuse_no_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out must be a folder that can be written, but {out}: {error.strerror}") from error


def _write_shards(
    out: Path,
    plan: Plan,
    dataset: str,
    accounts: Accounts,
    progress: Progress | None,
    say: Callable[[str], None],
) -> None:
    """Writes every shard with its index into the folder and the accounts; those there and whole are only counted."""
    done, kept = 0, 0
    for shard in plan.shards:
        index = _finished(out, shard, plan)
        kept += index is not None
        if index is None:
            step = partial(_tell, progress, done, plan.pictures)
            index = _write_shard(out, shard, plan, dataset, step)
            write_whole(out / index_name(shard.file), dump_index(index))
        accounts.add(shard, index)
        done += len(shard.items)
        _tell(progress, done, plan.pictures, 0)
    if kept:
        say(f"{kept} of {len(plan.shards)} shards were there already and whole: kept")


def _tell(progress: Progress | None, before: int, planned: int, pictures: int) -> None:
    if progress is not None:
        progress(before + pictures, planned)


def _write_shard(out: Path, shard: PlannedShard, plan: Plan, dataset: str, step: Callable[[int], None]) -> ShardIndex:
    samples: list[SampleEntry] = []
    refused: list[Refusal] = []
    notes: Counter[str] = Counter()
    file = out / shard.file
    with open_shard_writer(file) as writer:
        for done, item in enumerate(shard.items, 1):
            record = item.record
            try:
                data = record.load()
                picture = inspect_image(data, record.name)
                partners = stored_partners(record, data)
            except SampleError as error:
                refused.append(Refusal(record.name, record.name, str(error).removeprefix(record.name).lstrip(": ")))
                continue
            finally:
                step(done)
            suffix, stored = stored_form(data, picture)
            text = canonical_json({**_sample_fields(item, dataset), **partners.told})
            members = writer.write(item.key, {suffix: stored, **partners.members, "json": text})
            width, height = picture.image.size
            notes.update([*picture.notes, *partners.notes])
            notes["re-encoded"] += stored is not data
            notes[RESPONSES] += item.split == "train" and has_response(record)
            digest = hashlib.sha256(data).hexdigest()
            samples.append(SampleEntry(item.key, record.label, members, digest, width, height, partners.entries))
    digest = _file_hash(file)
    return ShardIndex(plan.hash, shard.file, file.stat().st_size, digest, tuple(samples), tuple(refused), dict(+notes))


def _sample_fields(item: Item, dataset: str) -> dict[str, Any]:
    record = item.record
    own = {
        "uid": item.key,
        "label": record.label,
        "path": list(record.path),
        "split": item.split,
        "cohort": item.cohort,
    }
    return {**record.extra, **own, "dataset": dataset}


def _finished(out: Path, shard: PlannedShard, plan: Plan) -> ShardIndex | None:
    """The index of a shard that this plan has written before, if the tar still has the hash it had then."""
    index_file, file = out / index_name(shard.file), out / shard.file
    if not index_file.is_file() or not file.is_file():
        return None
    try:
        index = parse_index(index_file, index_file.read_bytes())
    except UserError:
        return None
    if (
        not index.vouched
        or index.plan != plan.hash
        or index.size != file.stat().st_size
        or index.sha256 != _file_hash(file)
    ):
        return None
    return index


def _packed_before(out: Path, plan: Plan) -> Manifest | None:
    """The manifest of a finished packing of this plan, accepted or not; None too for one that nothing vouches for."""
    if not (out / MANIFEST).is_file() or not vouched_for(out):
        return None
    try:
        manifest = read_manifest(out)
    except UserError:
        return None
    return manifest if manifest.plan == plan.hash else None


def _damaged(out: Path, manifest: Manifest) -> list[ShardInfo]:
    """The shards of which the tar or the index is missing or has not the hash that the manifest states."""
    return [
        shard
        for shard in manifest.shards
        if not _has_hash(out / shard.index_file, shard.index_sha256) or not _has_hash(out / shard.file, shard.sha256)
    ]


def _has_hash(file: Path, digest: str) -> bool:
    return file.is_file() and _file_hash(file) == digest


def _mend_info(out: Path, manifest: Manifest, say: Callable[[str], None]) -> None:
    """Writes what timm reads once more where it is not what the manifest makes it."""
    file, data = out / INFO, canonical_json(timm_info(manifest))
    if not file.is_file() or file.read_bytes() != data:
        write_whole(file, data)
        say(f"damaged or missing, so written again: {INFO}")


def _acceptable(manifest: Manifest, max_bad_share: float) -> bool:
    total = len(manifest.refused) + sum(shard.samples for shard in manifest.shards)
    return manifest.accepted and len(manifest.refused) <= max_bad_share * total


def _clear(out: Path, plan: Plan, overwrite: bool, damaged: Sequence[ShardInfo]) -> None:
    """Removes what an unfinished or an overwritten packing left; raises UserError before it removes anything else's."""
    own, strange, others = _contents(out, plan)
    if (strange or others) and not overwrite:
        what = f"a shard set made from other pictures or options ({others[0].name})" if others else strange[0].name
        raise UserError(
            f"{out} must be empty or hold this very shard set, but it holds {what}: choose another folder, or set "
            "overwrite to replace the shards in it"
        )
    for shard in damaged:  # before the manifest, which alone tells a wrong index from a right one
        (out / shard.index_file).unlink(missing_ok=True)
    for file in sorted((*others, *own), key=lambda file: file.name != MANIFEST):
        if overwrite or file in others or file.name == MANIFEST or PART.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _contents(out: Path, plan: Plan) -> tuple[list[Path], list[Path], list[Path]]:
    """The files in `out`: those of this plan, those that no packing wrote, and those of another plan."""
    planned = {name for shard in plan.shards for name in (shard.file, index_name(shard.file))} | {*BESIDE}
    own: list[Path] = []
    strange: list[Path] = []
    others: list[Path] = []
    files = sorted(out.iterdir())
    foreign = any(_plan_of(file) not in (None, plan.hash) for file in files)
    for file in files:
        shardlike = bool(SHARD_NAME.fullmatch(file.name.removesuffix(".index.json").removesuffix(".tar") + ".tar"))
        if PART.fullmatch(file.name) or (file.name in planned and not foreign):
            own.append(file)
        elif shardlike or file.name in planned:
            others.append(file)
        elif not file.name.startswith("."):
            strange.append(file)
    return own, strange, others


def _plan_of(file: Path) -> str | None:
    """The plan to which an index or a manifest says it belongs; None for other files and damaged ones."""
    try:
        if file.name == MANIFEST:
            return read_manifest(file.parent).plan
        return parse_index(file, file.read_bytes()).plan if file.name.endswith(".index.json") else None
    except UserError:
        return None


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone_in(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Two processes that pack into one folder take turns; the second then finds a whole set. Freed when killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is packing into {folder}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems cannot lock a folder
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL, errno.ENOSYS):
                raise
        yield
    finally:
        os.close(descriptor)
