"""`python -m fgvr judgements`: the entries of a cache of judgements as a file, and a file's entries into a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgvr.errors import UserError
from fgvr.judges.caches.base import CacheEntry, VerdictCache, as_json, from_json, parse_object

# RedisCache so that --cache accepts it by its short name.
from fgvr.judges.caches.redis import RedisCache  # noqa: F401
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.next_steps import after_judgements_merge, after_judgements_out
from fgvr.whole_files import write_whole

BATCH = 1000  # entries put at once
NAMED = 5  # differing entries in the summary


@dataclass(frozen=True)
class Merged:
    """What came of the lines of a file; `differing` are keys that the cache has another judgement of, and keeps."""

    added: int
    present: int
    differing: tuple[str, ...]


def judgements(
    cache: VerdictCache | Path = Path("runs/judgements.sqlite"), out: Path | None = None, merge: Path | None = None
) -> str:
    """Write all judgements of a cache to a file, or put those of such a file into a cache.

    The file has one JSON object per line, sorted by key: the same judgements give the same bytes. A judge with
    `offline` replays them on another machine from the cache that they were merged into. Returns what to do next.

    Args:
        cache: the file of a SQLite cache, or RedisCache, whose url is in FGVR_REDIS_URL or as its options say
        out: the file to write
        merge: the file to put into the cache; what the cache has already stays as it is
    """
    if (out is None) == (merge is None):
        raise UserError(f"one of out and merge must be given, got {'none' if out is None else 'both'} of them.")
    with SQLiteCache(cache) if isinstance(cache, Path) else cache as store:
        if out is not None:
            print(f"{out}: {export_judgements(store, out):,} judgements of {store}.")
            return after_judgements_out(out)
        assert merge is not None
        merged = merge_judgements(store, merge)
        print(f"{store}: {merged.added:,} judgements added, {merged.present:,} were there already.")
        if merged.differing:
            named = ", ".join(merged.differing[:NAMED])
            more = "" if len(merged.differing) <= NAMED else f" and {len(merged.differing) - NAMED:,} more"
            print(f"{len(merged.differing):,} differ from {merge} and stay as they were: {named}{more}.")
        return after_judgements_merge(str(store))


def export_judgements(cache: VerdictCache, out: Path) -> int:
    """Writes every entry as one line of JSON, sorted by key; returns their number.

    Raises UserError for a SQLite cache that does not exist and for a folder that does not.
    """
    if isinstance(cache, SQLiteCache) and not cache.path.exists():
        raise UserError(f"{cache.path} must be a cache of judgements, but there is no such file: give another cache.")
    if not out.parent.is_dir():
        raise UserError(f"out must be in a folder that exists, got {out}: make {out.parent} first.")
    lines = sorted((entry.key, _line(entry)) for entry in cache.entries())
    write_whole(out, "".join(line for _, line in lines).encode("ascii"))
    return len(lines)


def merge_judgements(cache: VerdictCache, file: Path) -> Merged:
    """Puts the entries of a file into a cache, where the first write of a key wins.

    Nothing is put unless every line is an entry: raises UserError with file and line for the first that is not.
    """
    for _ in _entries(file):
        pass
    added, present, differing = 0, 0, list[str]()
    for batch in _batches(file):
        before = cache.get([entry.key for entry in batch])
        stored = cache.put(batch)
        new = {entry.key for entry in batch} - set(before)
        added += len(new)
        present += len(batch) - len(new)
        differing += [entry.key for entry in batch if stored[entry.key] != entry]
    return Merged(added, present, tuple(dict.fromkeys(differing)))


def _line(entry: CacheEntry) -> str:
    raw = {"key": entry.key, **as_json(entry)}
    return json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def _batches(file: Path) -> Iterator[Sequence[CacheEntry]]:
    batch: list[CacheEntry] = []
    for entry in _entries(file):
        batch.append(entry)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _entries(file: Path) -> Iterator[CacheEntry]:
    if not file.is_file():
        raise UserError(f"merge must be a file of judgements, but there is no file {file}: give another.")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                raw = parse_object(line)
                yield from_json(raw.pop("key", ""), raw)
            except ValueError as error:
                raise UserError(
                    f"{file} line {number} must be a judgement as `fgvr judgements --out` writes it, but {error}: "
                    "mend the line or leave it out; nothing was merged."
                ) from error
