import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_checkpoints import save_sharded

from fgvr.checkpoints.format import MANIFEST, STATE, DamagedCheckpoint, read_checkpoint, sweep, write_checkpoint
from fgvr.checkpoints.kept import BASE, began_with, digest_of, find_checkpoint, keep_checkpoint, run_of
from fgvr.errors import UserError


def saved(run: Path, step: int = 1, **fingerprint: Any) -> Path:
    path = run / "checkpoints" / f"step-{step:08d}.ckpt"
    content = {"global_step": step, "state_dict": {"w": torch.full((9,), float(step))}}
    write_checkpoint(content | {"fgvr": {"fingerprint": fingerprint}}, path)
    return path


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two file systems."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_stays_when_the_other_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, links: bool
):
    if not links:
        without_links(monkeypatch)
    caplog.set_level("INFO")
    path = saved(tmp_path / "sft")
    digest, held = digest_of(path), read_checkpoint(path)
    kept = keep_checkpoint(path, tmp_path / "rl")
    assert kept == tmp_path / "rl" / BASE / f"{digest[:16]}.ckpt"
    assert (path / STATE).samefile(kept / STATE) is links
    assert f"({(path / STATE).stat().st_size / 1e6:.1f} MB, {'linked' if links else 'copied'}" in caplog.text
    changed = kept.stat().st_mtime_ns
    assert keep_checkpoint(path, tmp_path / "rl") == kept  # once per run
    assert kept.stat().st_mtime_ns == changed
    shutil.rmtree(tmp_path / "sft")
    assert torch.equal(read_checkpoint(kept)["state_dict"]["w"], held["state_dict"]["w"])


@pytest.mark.parametrize("links", [True, False])
def test_every_file_of_a_sharded_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool):
    if not links:
        without_links(monkeypatch)
    weight = torch.arange(12.0).view(4, 3)
    path = save_sharded({"global_step": 1, "w": weight}, tmp_path / "sft/checkpoints/step-00000001.ckpt")
    kept = keep_checkpoint(path, tmp_path / "rl")
    assert kept.name == f"{digest_of(path)[:16]}.ckpt"
    assert find_checkpoint(digest_of(path), path, tmp_path / "rl/checkpoints/x.ckpt") == kept
    shutil.rmtree(tmp_path / "sft")
    assert torch.equal(read_checkpoint(kept)["w"], weight)


def test_a_copy_that_is_not_what_the_manifest_says_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_links(monkeypatch)
    path = saved(tmp_path / "sft")
    flip(path / STATE)
    with pytest.raises(DamagedCheckpoint, match=r"is damaged: state\.pt is not what its manifest says"):
        keep_checkpoint(path, tmp_path / "rl")
    assert not [*(tmp_path / "rl" / BASE).iterdir()]


@pytest.mark.parametrize("at", ["flush", "rename"])
@pytest.mark.parametrize("links", [True, False])
def test_a_crash_on_the_way_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, links: bool
):
    path, run = saved(tmp_path / "sft"), tmp_path / "rl"
    if (child := os.fork()) == 0:  # a process that ends without a word, as a killed one does
        if not links:
            without_links(monkeypatch)
        monkeypatch.setattr({"flush": "fgvr.checkpoints.kept.flush", "rename": "pathlib.Path.rename"}[at], _die)
        keep_checkpoint(path, run)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert find_checkpoint(digest_of(path), tmp_path / "away", run / "checkpoints" / "x.ckpt") == path  # beside it
    assert not [*(run / BASE).glob("[!.]*")]
    assert len(sweep(run / BASE)) == 1
    assert keep_checkpoint(path, run).is_dir()
    assert len([*(run / BASE).iterdir()]) == 1


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_links(monkeypatch)
    path = saved(tmp_path / "sft")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match=r"needs to go on, could not be kept .* \(No space left.*make room"):
        keep_checkpoint(path, tmp_path / "rl")
    assert not [*(tmp_path / "rl" / BASE).iterdir()]


def test_the_run_s_own_is_taken_first_then_where_it_was_then_what_lies_beside(tmp_path: Path):
    was = saved(tmp_path / "runs" / "sft")
    near = saved(tmp_path / "runs" / "rl", 5)
    digest = digest_of(was)
    own = keep_checkpoint(was, tmp_path / "runs" / "rl")
    assert find_checkpoint(digest, was, near) == own
    assert find_checkpoint(digest, was, own) == own  # for what is kept itself
    shutil.rmtree(own.parent)
    assert find_checkpoint(digest, was, near) == was
    (tmp_path / "runs").rename(tmp_path / "moved")
    near, there = (tmp_path / "moved" / path.relative_to(tmp_path / "runs") for path in (near, was))
    assert find_checkpoint(digest, was, near) == there
    there.parents[1].rename(tmp_path / "moved" / "renamed")
    assert find_checkpoint(digest, was, near) == tmp_path / "moved/renamed/checkpoints" / was.name
    shutil.rmtree(tmp_path / "moved" / "renamed")
    saved(tmp_path / "moved" / "sft", 2)  # another one under its old name
    assert find_checkpoint(digest, was, near) is None


def test_a_run_is_known_by_the_folders_it_has(tmp_path: Path):
    run = tmp_path / "rl"
    assert run_of(run / "checkpoints" / "step-00000001.ckpt") == run
    assert run_of(run / "base" / "0123456789abcdef.ckpt") == run
    assert run_of(run / "checkpoints" / "set-aside-1" / "step-00000001.ckpt") == run
    assert run_of(run / "step-00000001.ckpt") is None
    assert run_of(Path("/alone.ckpt")) is None


def test_for_a_checkpoint_outside_any_run_nothing_is_looked_at_but_where_it_was(tmp_path: Path):
    was = saved(tmp_path / "sft")
    alone = saved(tmp_path / "x" / "rl", 5).rename(tmp_path / "x" / "alone.ckpt")
    assert find_checkpoint(digest_of(was), was, alone) == was
    was.parents[1].rename(tmp_path / "other")  # beside the folder that the checkpoint lies in
    assert find_checkpoint(digest_of(saved(tmp_path / "sft", 2)), was, alone) is None


def test_a_damaged_manifest_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    was, near = saved(tmp_path / "sft"), saved(tmp_path / "rl", 5)
    own = keep_checkpoint(was, tmp_path / "rl")
    flip(own / MANIFEST)
    assert find_checkpoint(digest_of(was), was, near) == was
    assert f"{own} " in caplog.text
    assert keep_checkpoint(was, tmp_path / "rl") == own  # made anew
    assert digest_of(own) == digest_of(was)


def test_what_a_run_began_with_is_said_by_its_checkpoints(tmp_path: Path):
    assert began_with(saved(tmp_path, base={"digest": "d", "path": "p"})) == {"digest": "d", "path": "p"}
    assert began_with(saved(tmp_path, base=None)) is None
    assert began_with(saved(tmp_path)) is None


def flip(file: Path) -> None:
    """One bit, in the middle; on a file of its own, so that what it is linked with stays."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)


def _die(*_: Any, **__: Any) -> None:
    os._exit(9)
