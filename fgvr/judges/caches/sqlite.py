"""Judgements in one SQLite file, for all processes of one machine."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.judges.caches.base import FORMAT, WITHOUT_DIGEST, CacheEntry, Row, VerdictCache, encode

log = logging.getLogger(__name__)

APPLICATION = 0x66677672  # "fgvr": says in the file's header whose it is
CHUNK = 500  # keys in one statement; the oldest SQLite takes 999
PAGE = 1000  # entries read at once by entries()
PATIENCE = 60.0  # seconds to wait for another writer
MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs"})  # their locks do not always hold
TABLE = "CREATE TABLE judgements (key TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID"
# what SQLite says of a file whose tables, names or sizes are not as they were written
DAMAGED = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_INTERNAL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,
    }
)
DELETE = "DELETE FROM judgements WHERE CAST(key AS BLOB) = ? AND CAST(entry AS BLOB) = ?"


class _Damaged(Exception):
    """The file is read without a complaint, but holds what was not written so."""


class SQLiteCache(VerdictCache):
    """One file on a local disk, shared by the threads and processes of one machine, forked ones too.

    A put is one transaction: after a crash all of it is there or nothing. The file (mode 0600) and its folder are made
    at the first use. Several machines need a RedisCache.
    """

    def __init__(self, path: Path = Path("runs/judgements.sqlite")) -> None:
        super().__init__()
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)  # device and inode of what is open
        self._watched = self._forking = False

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SQLiteCache, (self.path,)

    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        with self._locked() as connection:
            found, damaged = self._read(self._rows(connection, keys))
            if damaged:
                with _transaction(connection):
                    self._delete(connection, damaged)
            return found

    def put(self, entries: Sequence[CacheEntry]) -> dict[str, CacheEntry]:
        first: dict[str, CacheEntry] = {}
        for entry in entries:
            first.setdefault(entry.key, entry)
        if not first:
            return {}
        with self._locked() as connection, _transaction(connection):
            found, damaged = self._read(self._rows(connection, list(first)))
            self._delete(connection, damaged)
            missing = [(key, encode(entry)) for key, entry in first.items() if key not in found]
            connection.executemany("INSERT OR IGNORE INTO judgements VALUES (?, ?)", missing)
            found |= self._read(self._rows(connection, [key for key, _ in missing]))[0]
            if len(found) < len(first):
                raise _Damaged("what is written to it is not there")
        return {key: found[key] for key in first}

    def entries(self) -> Iterator[CacheEntry]:
        last = b""
        while True:  # by pages, so that nobody waits while the reader thinks
            with self._locked() as connection:
                query = "SELECT key, entry FROM judgements WHERE key > CAST(? AS TEXT) ORDER BY key LIMIT ?"
                rows = _rows(connection, query, (last, PAGE))
                if rows and rows[-1][0] <= last:
                    raise _Damaged("its keys are out of order")
                found, damaged = self._read(rows)
                if damaged:
                    with _transaction(connection):
                        self._delete(connection, damaged)
            yield from found.values()
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _rows(self, connection: sqlite3.Connection, keys: Sequence[str]) -> Iterator[Row]:
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            yield from _rows(connection, f"SELECT key, entry FROM judgements WHERE key IN ({marks})", chunk)

    def _delete(self, connection: sqlite3.Connection, damaged: Sequence[Row]) -> None:
        # the text too: another process may have put a good entry in its place
        connection.executemany(DELETE, damaged)

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """The open connection, for one thread at a time; SQLite's errors become sentences."""
        with self._lock:
            try:
                yield self._connected()
            except (sqlite3.Error, UnicodeDecodeError, _Damaged) as error:
                self.close()
                raise _as_user_error(error, self.path) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self.path) != self._file:
            log.warning("%s was moved away or replaced while in use: it is opened anew", self.path)
            self.close()  # what is written to the old file would be lost
        if self._connection is None:
            self._watch_forks()
            self._connection = _open(self.path)
            self._file = _identity(self.path)
        return self._connection

    def _watch_forks(self) -> None:
        """No connection may be open while the process forks: parent and child would undo each other's locks."""
        if self._watched or not hasattr(os, "register_at_fork"):
            return
        this = weakref.ref(self)

        def before() -> None:
            if (cache := this()) is not None:
                cache._lock.acquire()
                cache._forking = True
                cache.close()

        def after() -> None:
            cache = this()
            if cache is not None and cache._forking:
                cache._forking = False
                cache._lock.release()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
        self._watched = True


def _rows(connection: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[Row]:
    rows: list[Row] = connection.execute(query, values).fetchall()
    if not all(isinstance(key, bytes) and isinstance(text, bytes) for key, text in rows):
        raise _Damaged("a column that must be text is not")
    return rows


def _open(path: Path) -> sqlite3.Connection:
    """Raises UserError where locks may not hold, where no file can be, and for a file that is no cache."""
    kind = network_filesystem(path)
    if kind is not None:
        raise UserError(
            f"A SQLite cache must lie on a local disk, but {path} is on {kind}, where locks between processes do not "
            "hold: give a path on a local disk, or a RedisCache for several machines."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
    except OSError as error:
        raise UserError(_unusable(path, error.strerror)) from error
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=16
    )
    try:
        if new:
            path.chmod(0o600)  # by name: to close the file in another way would drop the locks that others hold on it
        connection.text_factory = bytes
        _set_up(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def network_filesystem(path: Path, mounts: Path | None = None) -> str | None:
    """The kind of network file system that `path` would be on, None for a local one or where that cannot be told."""
    try:
        lines = (mounts or MOUNTS).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None  # not Linux
    place, best, kind = Path(path).resolve(), Path(), ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4]))
        if place.is_relative_to(point) and len(point.parts) >= len(best.parts):  # a later mount covers an earlier one
            best, kind = point, after.split(" ")[0]
    return kind if kind in NETWORK else None


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    # No write-ahead log: before SQLite 3.51.3 two processes that write and checkpoint at once can corrupt it.
    connection.execute("PRAGMA synchronous = FULL")
    if _header(connection) == (0, 0):
        with _transaction(connection):
            if _header(connection) == (0, 0):  # still, now that nobody else can be making it
                with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as tables:
                    if tables.fetchone()[0]:
                        raise UserError(_foreign(path))
                connection.execute(TABLE)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
    application, version = _header(connection)
    if application != APPLICATION:
        raise UserError(_foreign(path))
    if connection.execute("PRAGMA encoding").fetchone()[0] != b"UTF-8":
        raise _Damaged("it is not in UTF-8")
    if version == WITHOUT_DIGEST:  # fgvr of that format would take entries of this one for damaged
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        raise UserError(
            f"The judgements in {path} must be of format {FORMAT}, but they are of format {version}, "
            "of another version of fgvr: use that version, or give another path."
        )
    if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != b"delete":
        raise UserError(f"{path} must not be in write-ahead mode, but another program holds it so: end that program.")


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _foreign(path: Path) -> str:
    return f"The cache must be a file of judgements, but {path} is the database of another program: give another path."


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise
    connection.commit()


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return stat.st_dev, stat.st_ino


def _as_user_error(error: Exception, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in DAMAGED or isinstance(error, _Damaged | UnicodeDecodeError):
        return UserError(
            f"The judgements in {path} must be a whole SQLite file, but it is damaged ({error}): "
            f"move {path} and {path}-journal away, and a new one is made."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UserError(f"{path} must become free, but another process held it for {PATIENCE:.0f} s: end that one.")
    if code == sqlite3.SQLITE_FULL:
        return UserError(f"{path} must find room, but the disk is full: make room, then start again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        quota = ", or its user's share of the disk is used up" if code == sqlite3.SQLITE_IOERR else ""
        return UserError(_unusable(path, f"{error}{quota}"))
    return error


def _unusable(path: Path, reason: object) -> str:
    return f"The cache must be a file to read and write, but {path} is not ({reason}): give another path."
