"""Replies that were had once, kept in a database beside what is built of them: nothing is asked twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from fgvr.errors import UserError


class KeptReplies:
    """Texts by key. A killed process loses what it was writing and nothing before.

    Raises UserError for a file that is no such database.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._base = sqlite3.connect(file, timeout=60)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL)")
            self._base.commit()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{file} must be a database of replies as `python -m fgvr cot` keeps it, but it is none ({error}): "
                "remove it, and the teacher is asked again"
            ) from error

    def get(self, key: str) -> str | None:
        found = self._base.execute("SELECT text FROM replies WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, replies: Iterable[tuple[str, str]]) -> None:
        """All of them or none; the first text under a key stays."""
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", replies)

    def close(self) -> None:
        self._base.close()
