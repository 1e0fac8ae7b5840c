import errno
import json
import logging
import os
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_processes import entry
from refusals import refusing, seccomp

from fgvr.errors import UserError
from fgvr.judges.caches import sqlite as sqlite_cache
from fgvr.judges.caches.base import CacheEntry, as_json
from fgvr.judges.caches.sqlite import SQLiteCache, network_filesystem
from fgvr.types import Verdict

PWRITE64 = 18  # as x86-64 counts its calls


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "judgements.sqlite"


def pragma(cache: SQLiteCache, name: str) -> object:
    cache.get([])
    assert cache._connection is not None
    return cache._connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "judgements.sqlite"
    cache = SQLiteCache(path)
    assert repr(cache) == f"SQLiteCache({str(path)!r})"
    cache.close()
    assert list(tmp_path.iterdir()) == []
    cache.put([entry("k")])
    assert [file.name for file in path.parent.iterdir()] == ["judgements.sqlite"]
    assert path.stat().st_mode & 0o777 == 0o600
    cache.close()


def test_the_file_is_safe_for_several_processes(path: Path) -> None:
    with SQLiteCache(path) as cache:
        assert pragma(cache, "journal_mode") == b"delete"
        assert pragma(cache, "synchronous") == 2
        assert pragma(cache, "busy_timeout") == 60_000


def test_a_file_in_write_ahead_mode_is_brought_back(path: Path) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    connection.close()
    with SQLiteCache(path) as cache:
        assert cache.get(["k"]) == {"k": entry("k")}
        assert pragma(cache, "journal_mode") == b"delete"


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "judgements.sqlite"):
        with pytest.raises(
            UserError, match=r"must be a file to read and write, but .* is not \(.+\): give another path"
        ):
            SQLiteCache(path).get(["k"])
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE birds (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="database of another program"):
        SQLiteCache(path).put([entry("k")])
    assert path.read_bytes() == before


def test_judgements_of_another_format(path: Path) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(UserError, match="must be of format 2, but they are of format 3, of another version of fgvr"):
        SQLiteCache(path).get(["k"])


def test_judgements_of_the_format_without_digests_stay_good(path: Path) -> None:
    """A file as it was written then: its entries are read, and those of now are written beside them."""
    connection = sqlite3.connect(path)
    connection.execute(sqlite_cache.TABLE)
    connection.execute(f"PRAGMA application_id = {sqlite_cache.APPLICATION}")
    connection.execute("PRAGMA user_version = 1")
    rows = [(key, json.dumps(as_json(entry(key)))) for key in ("a", "b")]
    connection.executemany("INSERT INTO judgements VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    with SQLiteCache(path) as cache:
        assert cache.put([entry("a", "two"), entry("c")]) == {"a": entry("a"), "c": entry("c")}
        assert list(cache.entries()) == [entry("a"), entry("b"), entry("c")]
        assert (cache.damaged, pragma(cache, "user_version")) == (0, 2)  # no older fgvr takes "c" for damaged


@pytest.mark.parametrize("flips", [1, 5, 20, 100])
def test_flipped_bits_are_a_miss_or_a_sentence_and_never_a_verdict(path: Path, flips: int) -> None:
    entries = {f"k{n:03}": entry(f"k{n:03}", n, list(Verdict)[2 + n % 4]) for n in range(80)}
    with SQLiteCache(path) as cache:
        cache.put(list(entries.values()))
    whole, said = path.read_bytes(), Counter[str]()
    for seed in range(60):
        chance = random.Random(seed)
        data = bytearray(whole)
        size = len(data) if seed % 3 else 1024  # a third of them in the header and the tables' names
        for bit in (chance.randrange(8 * size) for _ in range(flips)):
            data[bit // 8] ^= 1 << bit % 8
        uses: list[Callable[[SQLiteCache], dict[str, CacheEntry]]] = [
            lambda cache: cache.get(list(entries)),
            lambda cache: cache.put(list(entries.values())),
            lambda cache: {found.key: found for found in cache.entries()},
        ]
        for use in uses:
            path.write_bytes(data)
            try:
                with SQLiteCache(path) as cache:
                    found = use(cache)
            except UserError as error:
                said[re.sub(r"\(.*\)|\d+", "", str(error))] += 1
            else:
                assert all(entries[key] == each for key, each in found.items())
    assert len(said) > 0


@pytest.mark.parametrize("damage", ["no database", "cut", "overwritten"])
def test_a_damaged_file_is_named(path: Path, damage: str) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry(f"k{number}") for number in range(500)])
    whole = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"label,answer\n" * 1000)
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    cache = SQLiteCache(path)
    with pytest.raises(UserError, match=rf"damaged \(.+\): move {path} and {path}-journal away"):
        list(cache.entries())
    with pytest.raises(UserError, match="damaged"):
        cache.put([entry("k1", "two"), entry("another")])
    path.unlink()
    assert cache.put([entry("k1", "two")]) == {"k1": entry("k1", "two")}
    cache.close()


def test_bytes_that_are_no_text_are_deleted_under_their_own_key(path: Path) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])
        connection = sqlite3.connect(path)
        connection.execute("INSERT INTO judgements VALUES (CAST(x'ff00' AS TEXT), 'x'), (x'ff', 'x'), ('z', 1.5)")
        connection.commit()
        assert list(cache.entries()) == [entry("k")]
        assert cache.damaged == 3
        assert connection.execute("SELECT key FROM judgements").fetchall() == [("k",)]
        connection.close()


def test_a_file_that_another_process_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_cache, "PATIENCE", 0.3)
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert cache.get(["k"]) == {"k": entry("k")}  # reading goes on
        with pytest.raises(UserError, match="must become free, but another process held it"):
            cache.put([entry("other")])
        other.execute("ROLLBACK")
        other.close()
        assert cache.put([entry("other")]) == {"other": entry("other")}


@seccomp
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=["full", "broken", "quota"])
def test_a_disk_that_takes_no_more(path: Path, error: int) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])

        def put() -> None:
            told = (
                "full: make room" if error == errno.ENOSPC else r"not \(disk I/O error, or its user's share of the disk"
            )
            with pytest.raises(UserError, match=told):
                cache.put([entry("other")])

        refusing({PWRITE64: error}, put)
        assert list(cache.entries()) == [entry("k")]
        assert cache.put([entry("other")]) == {"other": entry("other")}


def test_a_file_moved_away_while_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SQLiteCache(path) as cache:
        cache.put([entry("k")])
        os.rename(path, path.with_name("old.sqlite"))
        with caplog.at_level(logging.WARNING):
            assert cache.get(["k"]) == {}
        assert f"{path} was moved away or replaced while in use" in caplog.text
        cache.put([entry("k", "two")])
    with SQLiteCache(path) as new, SQLiteCache(path.with_name("old.sqlite")) as old:
        assert (*new.entries(), *old.entries()) == (entry("k", "two"), entry("k"))


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:5 / /home rw,nosuid - nfs4 server:/home rw,vers=4.2
31 30 0:6 / /home/me/scratch rw - ext4 /dev/vdb rw
32 22 0:7 / /mnt/with\040space rw master:3 - fuse.sshfs me@host: rw
33 22 0:8 / /mnt/share rw - cifs //server/share rw
34 22 0:9 / /mnt/share rw - xfs /dev/vdc rw
""".lstrip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/j.sqlite", None),
        ("/home/me/runs/j.sqlite", "nfs4"),
        ("/home/me/scratch/j.sqlite", None),
        ("/homes/j.sqlite", None),
        ("/mnt/with space/runs/j.sqlite", "fuse.sshfs"),
        ("/mnt/share/j.sqlite", None),  # covered by the later mount
        ("/home/me/scratch/../j.sqlite", "nfs4"),
    ],
)
def test_the_kind_of_file_system(tmp_path: Path, path: str, kind: str | None) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_filesystem(Path(path), tmp_path / "mountinfo") == kind


def test_a_network_file_system_is_refused(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network_filesystem(path) is None
    assert network_filesystem(path, tmp_path / "missing") is None
    (tmp_path / "mountinfo").write_text(f"22 1 0:5 / {tmp_path} rw - nfs server:/ rw\n")
    monkeypatch.setattr(sqlite_cache, "MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(UserError, match=r"is on nfs, .* a path on a local disk, or a RedisCache for several machines"):
        SQLiteCache(path).get(["k"])
    assert not path.exists()
