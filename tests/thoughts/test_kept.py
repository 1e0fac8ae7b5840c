"""Replies that are kept: by one process at a time, and what a disk has against them is a sentence."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from small_disks import small_disk

from fgvr.errors import UserError
from fgvr.thoughts.kept import KeptReplies


def test_the_first_text_under_a_key_stays(tmp_path: Path) -> None:
    kept = KeptReplies(tmp_path / "replies.sqlite")
    kept.put([("a", "one"), ("b", "two")])
    kept.put([("a", "three")])
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("one", "two", None)
    kept.close()


HOLDS = """
import sys
from pathlib import Path
from fgvr.thoughts.kept import KeptReplies
kept = KeptReplies(Path(sys.argv[1]))
kept.put([("a", "kept")])
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_has_them_at_a_time_and_a_killed_one_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "replies.sqlite"
    line = [sys.executable, "-c", HOLDS, str(file)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr("fgvr.thoughts.kept.PATIENCE", 0.05)
        with pytest.raises(UserError, match="must be used by one process at a time, but another one has it"):
            KeptReplies(file)
        other.kill()
    kept = KeptReplies(file)
    assert kept.get("a") == "kept"
    kept.close()


def test_a_full_disk_is_a_sentence_and_what_was_kept_is_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        kept = KeptReplies(disk / "replies.sqlite")
        kept.put([("first", "one")])
        with pytest.raises(UserError, match=r"replies\.sqlite must find room, but the disk is full: make room"):
            kept.put((str(number), "x" * 1000) for number in range(2000))
        assert kept.get("0") is None
        kept.close()
        again = KeptReplies(disk / "replies.sqlite")
        assert again.get("first") == "one"
        again.close()


@pytest.mark.parametrize("made", ["text", "table", "folder"])
def test_what_is_no_such_file_is_told_apart(tmp_path: Path, made: str) -> None:
    file = tmp_path / "replies.sqlite"
    words = "must be a database of replies as `python -m fgvr cot` keeps it, but it is none"
    if made == "text":
        file.write_text("of something else\n" * 100)
    elif made == "table":
        base = sqlite3.connect(file)
        base.execute("CREATE TABLE replies (other TEXT)")
        base.close()
    else:
        file.mkdir()
        words = "must be a file to read and write, but it is not"
    with pytest.raises(UserError, match=words):
        KeptReplies(file)
