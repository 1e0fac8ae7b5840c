"""What every cache of judgements promises, held against each of them: a SQLite file and a real Redis."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import logging
import pickle
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cache_processes import batch_keys, entry, fork_while_writing, put_for_ever, put_overlapping
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from preloaded import processes
from redis_server import RedisServer

from fgvr.judges.caches.base import CacheEntry, VerdictCache, as_json, decode, encode
from fgvr.judges.caches.redis import RedisCache
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.types import Verdict


class Kind(NamedTuple):
    """Makes empty caches, and writes under one's key past it."""

    fresh: Callable[[], VerdictCache]
    spoil: Callable[[VerdictCache, str, bytes], None]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    number, made = itertools.count(), list[VerdictCache]()

    def keep(cache: VerdictCache) -> VerdictCache:
        made.append(cache)
        return cache

    if request.param == "sqlite":
        yield Kind(lambda: keep(SQLiteCache(tmp_path / f"{next(number)}.sqlite")), _spoil_sqlite)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        yield Kind(
            lambda: keep(RedisCache(server.url, prefix=f"{tmp_path.name}:{next(number)}:")),
            lambda cache, key, text: _spoil_redis(server, cache, key, text),
        )
    for cache in made:
        cache.close()


@pytest.fixture
def cache(kind: Kind) -> VerdictCache:
    return kind.fresh()


def _spoil_sqlite(cache: VerdictCache, key: str, text: bytes) -> None:
    assert isinstance(cache, SQLiteCache)
    cache.get([])
    connection = sqlite3.connect(cache.path)
    connection.execute("INSERT OR REPLACE INTO judgements VALUES (?, CAST(? AS TEXT))", (key, text))
    connection.commit()
    connection.close()


def _spoil_redis(server: RedisServer, cache: VerdictCache, key: str, text: bytes) -> None:
    assert isinstance(cache, RedisCache)
    with server.client() as client:
        client.set(f"{cache.prefix}2:{key}", text)


KEYS = st.text("abc0._:-", min_size=1, max_size=3)
TEXT = st.text(max_size=20) | st.sampled_from(["\ud800", "\0", '"}', "é\n", "NaN"])
SHARES = st.none() | st.lists(st.integers(0, 1000), min_size=6, max_size=6).filter(sum).map(
    lambda counts: {verdict: count / sum(counts) for verdict, count in zip(Verdict, counts, strict=True)}
)
ENTRIES = st.builds(CacheEntry, KEYS, TEXT, TEXT, st.sampled_from(Verdict), SHARES, TEXT, TEXT, TEXT)


@given(ENTRIES)
def test_an_entry_is_what_was_written(written: CacheEntry) -> None:
    text = encode(written)
    assert decode(written.key, text) == written
    assert encode(decode(written.key, text)) == text
    assert text.isascii()
    assert "\n" not in text


MADE = CacheEntry("k", "Finch", "é", Verdict.LESS_SPECIFIC, {Verdict.LESS_SPECIFIC: 1}, "m", "r", "p")
WITHOUT_DIGEST = (
    r'{"answer":"\u00e9","distribution":{"less specific":1.0},"label":"Finch","model":"m","prompt":"p",'
    r'"revision":"r","verdict":"less specific"}'
)


def test_an_entry_as_it_is_written_down() -> None:
    digest = hashlib.sha256(f"k {WITHOUT_DIGEST}".encode()).hexdigest()[:16]
    assert encode(MADE) == WITHOUT_DIGEST.replace('"distribution"', f'"digest":"{digest}","distribution"')


def test_an_entry_of_an_older_cache_is_read() -> None:
    assert decode("k", WITHOUT_DIGEST) == MADE


def test_no_flipped_bit_is_read_over() -> None:
    """What differs in one bit is no entry, or the same one: \\u00e9 is \\u00E9."""
    text, read = encode(entry("k")).encode(), 0
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        with suppress(ValueError):
            assert decode("k", bytes(flipped)) == entry("k")
            read += 1
    assert read < 10
    with pytest.raises(ValueError, match="its digest must be that of what it holds"):
        decode("j", text)  # under the key of another


GOOD = as_json(entry("k"))
BROKEN = {
    "a digest of something else": json.dumps(GOOD | {"digest": "0" * 16}),
    "a digest of no text": json.dumps(GOOD | {"digest": None}),
    "a verdict that was changed": encode(entry("k")).replace('"verdict":"specific"', '"verdict":"wrong"'),
    "no JSON": "{",
    "nothing": "",
    "no text": b"\xff\xfe\x80",
    "a list": "[]",
    "a number": "7",
    "depth": "[" * 100_000,
    "a verdict of another kind": json.dumps(GOOD | {"verdict": "probably specific"}),
    "a verdict in capitals": json.dumps(GOOD | {"verdict": "SPECIFIC"}),
    "a verdict by number": json.dumps(GOOD | {"verdict": 4}),
    "no verdict": json.dumps({name: value for name, value in GOOD.items() if name != "verdict"}),
    "one thing more": json.dumps(GOOD | {"score": 1}),
    "a label of no text": json.dumps(GOOD | {"label": None}),
    "NaN": json.dumps(GOOD | {"distribution": {"specific": float("nan")}}),
    "infinity": json.dumps(GOOD | {"distribution": {"specific": float("inf")}}),
    "a huge number": json.dumps(GOOD).replace("0.75", "1e999"),
    "a negative share": json.dumps(GOOD | {"distribution": {"specific": 1.5, "wrong": -0.5}}),
    "a share of true": json.dumps(GOOD | {"distribution": {"specific": True}}),
    "shares of less than 1": json.dumps(GOOD | {"distribution": {"specific": 0.5}}),
    "no shares": json.dumps(GOOD | {"distribution": {}}),
    "shares in a list": json.dumps(GOOD | {"distribution": [1]}),
    "a name twice": json.dumps(GOOD)[:-1] + ', "verdict": "wrong"}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_entry_is_not_read_as_one(text: str | bytes) -> None:
    assert decode("k", json.dumps(GOOD)) == entry("k")
    with pytest.raises(ValueError, match=r"must|codec"):
        decode("k", text)


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": "a b"},
        {"key": "a\n"},
        {"key": "k" * 201},
        {"answer": None},
        {"verdict": 4},
        {"distribution": {Verdict.WRONG: float("nan")}},
        {"distribution": {"wrong": 1.0}},
        {"distribution": {Verdict.WRONG: 0.5}},
    ],
    ids=str,
)
def test_an_entry_that_could_not_be_read_again_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(entry("k"), **change)


@given(st.lists(st.lists(ENTRIES, max_size=4), max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_write_of_a_key_stays(kind: Kind, batches: list[list[CacheEntry]]) -> None:
    expected: dict[str, CacheEntry] = {}
    with kind.fresh() as cache:
        for batch in batches:
            for written in batch:
                expected.setdefault(written.key, written)
            assert cache.put(batch) == {written.key: expected[written.key] for written in batch}
        asked = [*expected, "never.written"]
        assert cache.get(asked) == expected
        cache.close()
        assert {found.key: found for found in cache.entries()} == expected
        assert cache.damaged == 0


def test_an_empty_question(cache: VerdictCache) -> None:
    assert cache.get([]) == cache.put([]) == {}
    assert list(cache.entries()) == []


def test_thousands_at_once(cache: VerdictCache) -> None:
    keys = [f"k{number}" for number in range(3500)]
    stored = cache.put([entry(key, key) for key in keys])
    assert list(stored) == keys
    assert cache.get([*keys, *keys, "other"]) == stored
    assert sorted(found.key for found in cache.entries()) == sorted(keys)


@pytest.mark.parametrize("text", [BROKEN["NaN"], BROKEN["no text"], BROKEN["a verdict of another kind"]], ids=ascii)
def test_a_damaged_entry_is_a_miss_and_said(kind: Kind, text: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    cache = kind.fresh()
    cache.put([entry("sound"), entry("bad")])
    damage = text.encode() if isinstance(text, str) else text
    for count, read in enumerate((cache.get, lambda _: {found.key: found for found in cache.entries()}), 1):
        kind.spoil(cache, "bad", damage)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert read(["sound", "bad"]) == {"sound": entry("sound")}
        assert cache.damaged == count
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"1 damaged entries of {cache!r} were deleted, such as bad: " in caplog.text
        caplog.clear()
        assert cache.get(["bad"]) == {}  # it is gone
        assert not caplog.records
    kind.spoil(cache, "bad", damage)
    assert cache.put([entry("bad", "two")]) == {"bad": entry("bad", "two")}
    assert kind.fresh().damaged == 0
    assert cache.damaged == 3


def test_many_threads_share_one(cache: VerdictCache) -> None:
    def work(number: int) -> list[CacheEntry]:
        told: list[CacheEntry] = []
        for key in (f"k{index}" for index in random.Random(number).sample(range(30), 20)):
            told += cache.put([entry(key, number)]).values()
            told += cache.get([key]).values()
        return told

    with ThreadPoolExecutor(8) as pool:
        told = list(itertools.chain(*pool.map(work, range(8))))
    stored = {found.key: found for found in cache.entries()}
    assert len(told) == 2 * 8 * 20
    assert all(stored[found.key] == found for found in told)


def test_copies_and_pickles_open_the_same_store(cache: VerdictCache) -> None:
    cache.put([entry("k")])
    for other in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert other is not cache
        assert repr(other) == repr(cache)
        with other:
            assert other.get(["k"]) == {"k": entry("k")}


def test_processes_forked_while_a_thread_writes(cache: VerdictCache, tmp_path: Path) -> None:
    parent = processes().Process(target=fork_while_writing, args=(cache, 12, tmp_path / "out"))
    parent.start()
    parent.join(60)
    alive = parent.is_alive()
    parent.kill()
    assert not alive, "a child waits for a lock that nobody holds"
    assert (tmp_path / "out").read_text() == "all children did their work"
    assert cache.get([f"child{number}" for number in range(12)]).keys() == {f"child{number}" for number in range(12)}


def test_eight_processes_write_at_once(cache: VerdictCache, tmp_path: Path) -> None:
    context, keys = processes(), 80
    ready = context.Barrier(8)
    outs = [tmp_path / f"{number}.pickle" for number in range(8)]
    writers = [
        context.Process(target=put_overlapping, args=(cache, number, keys, ready, out))
        for number, out in enumerate(outs)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 8
    stored = {found.key: found for found in cache.entries()}
    assert set(stored) == {f"k{index}" for index in range(keys)}
    assert len({found.answer for found in stored.values()}) > 1  # more than one of them was first with some key
    told = [found for out in outs for found in pickle.loads(out.read_bytes())]
    assert len(told) >= 8 * keys * 3 // 4
    assert all(found == stored[found.key] for found in told)  # each was told what everybody reads in the end
    assert cache.get(list(stored)) == stored
    assert cache.damaged == 0


def _kill_writers(cache: VerdictCache, folder: Path, kills: int) -> int:
    """Kills one writer after another while it writes; how many died in the middle of a SQLite transaction."""
    context, chance, torn, size = processes(), random.Random(0), 0, 6
    for life in range(kills):
        note = folder / f"acknowledged.{life}"
        writer = context.Process(target=put_for_ever, args=(cache, life, size, note))
        writer.start()
        until = time.monotonic() + 60
        while not note.exists():
            assert time.monotonic() < until
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.06))
        writer.kill()
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
        if isinstance(cache, SQLiteCache):
            torn += Path(f"{cache.path}-journal").exists()
        done = [int(number) for number in note.read_text().split()]
        assert done == list(range(len(done)))
        for number in done:
            expected = {key: entry(key, life) for key in batch_keys(life, number, size)}
            assert cache.get(list(expected)) == expected
        unfinished = cache.get(list(batch_keys(life, len(done), size)))
        if isinstance(cache, SQLiteCache):  # all of a put or nothing
            assert len(unfinished) in (0, size)
        assert all(found == entry(key, life) for key, found in unfinished.items())
    assert cache.damaged == 0
    if isinstance(cache, SQLiteCache):
        connection = sqlite3.connect(cache.path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    return torn


def test_a_killed_writer_corrupts_nothing(cache: VerdictCache, tmp_path: Path) -> None:
    torn = _kill_writers(cache, tmp_path, 30)
    assert torn or not isinstance(cache, SQLiteCache)


@pytest.mark.slow
def test_many_killed_writers_corrupt_nothing(cache: VerdictCache, tmp_path: Path) -> None:
    torn = _kill_writers(cache, tmp_path, 300)
    assert torn >= 10 or not isinstance(cache, SQLiteCache)
