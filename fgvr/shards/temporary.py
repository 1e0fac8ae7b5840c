"""Tables in a temporary file: what is sorted and looked up there takes no memory, however much it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any
from weakref import finalize

from fgvr.errors import UserError

NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class Temporary:
    """An SQLite database in a file without a name, which is gone when the process ends, however it ends.

    `tables` are the statements that make its tables. Raises UserError where the file has no room.
    """

    def __init__(self, tables: str) -> None:
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # any thread may collect it
        finalize(self, self._base.close)
        self._base.executescript(f"PRAGMA journal_mode = OFF; BEGIN; {tables}")

    def define(self, name: str, arguments: int, function: Callable[..., Any]) -> None:
        """Makes a function, which depends on nothing but its arguments, one that queries may call."""
        self._base.create_function(name, arguments, function, deterministic=True)

    def ask(self, query: str, given: tuple[Any, ...] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """The rows that answer a query; they must have been read before their tables are written to again."""
        try:
            return self._base.execute(query, given)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in NO_ROOM:
                raise
            raise UserError(
                f"there must be room for a temporary list of what is packed, but {error}: make some in /var/tmp, or "
                "set SQLITE_TMPDIR to a folder that has some"
            ) from error
