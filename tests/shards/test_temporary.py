import sqlite3

import pytest

from fgvr.errors import UserError
from fgvr.shards.temporary import Temporary


def test_a_disk_without_room_is_said_in_a_sentence():
    base = Temporary("CREATE TABLE texts (text TEXT)")
    base.ask("PRAGMA max_page_count = 20")  # of 4 KB
    with pytest.raises(UserError, match=r"must be room .*, but database or disk is full: make some in /var/tmp"):
        base.ask("INSERT INTO texts VALUES (?)", ("x" * 4096 * 20,))


def test_a_wrong_query_is_no_matter_of_room():
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        Temporary("").ask("SELECT * FROM absent")


def test_functions_of_the_program_serve_queries():
    base = Temporary("CREATE TABLE words (word TEXT)")
    base.define("backwards", 1, lambda word: word[::-1])
    for word in ("ab", "za", "ca"):
        base.ask("INSERT INTO words VALUES (?)", (word,))
    found = [word for (word,) in base.ask("SELECT word FROM words ORDER BY backwards(word)")]
    assert found == ["ca", "za", "ab"]  # by "ac", "az", "ba"
