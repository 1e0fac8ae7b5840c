"""What fgvr reads and writes, on a disk that fails for a moment: run by itself, with flaky_disk.c preloaded."""

from __future__ import annotations

import ctypes
import errno
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_checkpoints import content, save_sharded

from fgvr.callbacks.sample_log import RowLog
from fgvr.checkpoints.format import newest_checkpoint, read_checkpoint, read_object, verify_checkpoint, write_checkpoint
from fgvr.retries import TRIES, patiently
from fgvr.shards import manifest
from fgvr.shards.reading import ShardSet
from fgvr.whole_files import sealed, unsealed_line, write_whole

DISK = ctypes.CDLL(None)


def failing(
    call: str, name: str, error: int, work: Callable[[], Any], times: int = 1, retries: int | None = None
) -> Any:
    """What `work` returns when the first calls of that kind have failed, so many retries having been counted."""
    before = patiently.count
    DISK.flaky_arm(call.encode(), name.encode(), error, times)
    try:
        result = work()
    finally:
        left = DISK.flaky_left()
        DISK.flaky_arm(b"", b"", 0, 0)
    assert left == 0, f"{call} of {name} was never called"
    assert patiently.count - before == (retries or times), (call, name, patiently.count - before)
    return result


def main(folder: Path, shards: Path) -> None:
    saves(folder)
    loads(folder)
    rows(folder)
    reads_shards(shards)
    stays_final(folder)
    print("retries", patiently.count)


def saves(folder: Path) -> None:
    for number, (call, name, error) in enumerate(
        (
            ("mkdir", ".ckpt.new-", errno.ESTALE),
            ("open", "state.pt", errno.ESTALE),
            ("write", "state.pt", errno.EIO),
            ("fsync", "state.pt", errno.EIO),
            ("write", "manifest.json", errno.EIO),
            ("fsync", "manifest.json", errno.EIO),
            ("rename", ".ckpt.new-", errno.ESTALE),
        ),
        1,
    ):
        path = folder / f"step-{number}.ckpt"
        failing(call, name, error, lambda path=path, number=number: write_checkpoint(content(number), path))
        verify_checkpoint(path)
        assert newest_checkpoint(folder) == path
    path = folder / "step-8.ckpt"
    failing("write", "shard-00001", errno.EIO, lambda: save_sharded(content(8), path))
    verify_checkpoint(path)
    record = folder / "record.json"
    for call in ("open", "write", "fsync", "rename"):
        failing(call, "record.json", errno.EIO, lambda call=call: write_whole(record, sealed({"call": call})))
        assert read_object(record, "call", str, "")["call"] == call
    assert {path.suffix for path in folder.iterdir()} == {".ckpt", ".json"}, "nothing half-made is left"


def loads(folder: Path) -> None:
    for step in (7, 8):
        for call in ("open", "read"):
            for name in ("manifest.json", "state.pt", *(["shard-00000"] if step == 8 else [])):
                path = folder / f"step-{step}.ckpt"
                found = failing(call, name, errno.ESTALE, lambda path=path: read_checkpoint(path))
                assert torch.equal(found["state_dict"]["w"], torch.full((50,), float(step)))
                assert failing(call, name, errno.EIO, lambda: newest_checkpoint(folder)) if step == 8 else True
    failing("open", "state.pt", errno.ENOTCONN, lambda: read_checkpoint(folder / "step-7.ckpt"), times=3)


def rows(folder: Path) -> None:
    log = RowLog("samples", frozenset())
    log._path = folder / "samples.jsonl"
    log._path.touch()
    for number in range(3):
        failing("write", "samples.jsonl", errno.EIO, lambda number=number: log.write([{"n": number, "to": "x" * 50}]))
    # what a failed write has left in the buffer is tried once more as the file is closed, and so the second one fails
    failing("write", "samples.jsonl", errno.EIO, lambda: log.write([{"n": 3}, {"n": 4}]), times=3, retries=2)
    log.close()
    assert [unsealed_line(line)["n"] for line in log._path.read_bytes().splitlines(keepends=True)] == [0, 1, 2, 3, 4]


def reads_shards(folder: Path) -> None:
    failing("open", "manifest.json", errno.ESTALE, lambda: manifest.load_manifest(folder))
    manifest._read_once.cache_clear()  # which keeps one that has not changed
    shard_set = failing("read", "manifest.json", errno.EIO, lambda: ShardSet(folder, "train", ("seen",)))
    assert failing("open", ".index.json", errno.ESTALE, lambda: shard_set.read(0)).uid == "s00000"
    assert failing("open", ".tar", errno.ESTALE, lambda: ShardSet(folder, "train", ("seen",)).read(0)).uid == "s00000"
    # the first failure of a handle that was open before is answered by a fresh one at once
    assert failing("pread", ".tar", errno.EIO, lambda: ShardSet(folder, "train", ("seen",)).read(1)).uid == "s00001"


def stays_final(folder: Path) -> None:
    """No room and no right are answers: nothing is tried again, and nothing half-written has the name."""
    for error in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        for call, name in (("write", "state.pt"), ("write", "manifest.json"), ("fsync", "state.pt")):
            refused(call, name, error, 1, lambda: write_checkpoint(content(9), folder / "step-9.ckpt"))
            assert not (folder / "step-9.ckpt").exists()
            assert not list(folder.glob(".*"))
    refused("fsync", "state.pt", errno.EIO, TRIES, lambda: write_checkpoint(content(9), folder / "step-9.ckpt"))
    assert not (folder / "step-9.ckpt").exists()
    damage = refused("read", "step-8.ckpt/state.pt", errno.EIO, TRIES, lambda: read_checkpoint(folder / "step-8.ckpt"))
    assert "lacks a readable state.pt (Input/output error)" in damage


def refused(call: str, name: str, error: int, times: int, work: Callable[[], Any]) -> str:
    before = patiently.count
    DISK.flaky_arm(call.encode(), name.encode(), error, times)
    try:
        work()
    except ValueError as refusal:
        assert patiently.count - before == times - 1
        assert DISK.flaky_left() == 0
        return str(refusal)
    raise AssertionError(f"{call} of {name} was not refused")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
