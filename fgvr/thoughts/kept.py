"""Replies that were had once, kept in a database beside what is built of them: nothing is asked twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fgvr.errors import UserError

PATIENCE = 5.0  # seconds to wait for another process to let go of the file
UNUSABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)


class KeptReplies:
    """Texts by key. A killed process loses what it was writing and nothing before.

    One process has the file at a time: a second would ask all that the first has asked, and keep other replies. Raises
    UserError for a file that is no such database, that another process has, and that the disk refuses.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._told():
            self._base = sqlite3.connect(file, timeout=PATIENCE)
            try:
                # before the log is touched: without memory that processes share it works on network disks too
                self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._base.execute("PRAGMA journal_mode=WAL")
                with self._base:
                    self._base.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL)")
                self._base.execute("SELECT key, text FROM replies LIMIT 1").fetchall()
            except BaseException:
                self._base.close()
                raise

    def get(self, key: str) -> str | None:
        with self._told():
            found = self._base.execute("SELECT text FROM replies WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, replies: Iterable[tuple[str, str]]) -> None:
        """All of them or none; the first text under a key stays."""
        with self._told(), self._base:
            self._base.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", replies)

    def close(self) -> None:
        with self._told():
            self._base.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(_sentence(error, self.file)) from error


def _sentence(error: sqlite3.Error, file: Path) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return f"{file} must find room, but the disk is full: make room, and the same line goes on from what is kept"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{file} must be used by one process at a time, but another one has it: wait for that to end, or end it"
    if code in UNUSABLE:
        return (
            f"{file} must be a file to read and write, but it is not ({error}): see to its folder, its disk and what "
            "of it is this user's, or choose another out"
        )
    return (
        f"{file} must be a database of replies as `python -m fgvr cot` keeps it, but it is none ({error}): remove it, "
        "and the teacher is asked again"
    )
