import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fgvr.checkpoints.format import sweep
from fgvr.errors import UserError
from fgvr.models.folders import find_folder, folder_digest, keep_folder

FILES = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


def model(folder: Path, content: str = "a") -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"{content} {name}")
    (folder / "images").mkdir()
    return folder


def test_a_kept_folder_takes_no_room_and_is_found_by_its_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    folder, run = model(tmp_path / "model"), tmp_path / "runs" / "rl"
    digest = folder_digest(folder)
    keep_folder(folder, run)
    (kept,) = (run / "base").iterdir()
    assert kept.name == f"model-{digest[:8]}"
    assert all((folder / name).samefile(kept / name) for name in FILES)
    assert f"{folder} is kept as {kept} (linked)" in caplog.text
    keep_folder(folder, run)
    keep_folder(kept, run)
    assert [*(run / "base").iterdir()] == [kept]  # once per run
    folder.rename(tmp_path / "away")
    assert find_folder(digest, folder, run / "checkpoints" / "x.ckpt") == kept
    assert find_folder(digest, folder, tmp_path / "alone.ckpt") is None


def test_a_hidden_folder_is_kept_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = model(tmp_path / ".model")
    monkeypatch.chdir(folder)
    keep_folder(Path(), tmp_path / "rl")
    keep_folder(folder, tmp_path / "rl")
    assert [path.name for path in (tmp_path / "rl" / "base").iterdir()] == [f"model-{folder_digest(folder)[:8]}"]


def test_links_in_a_folder_are_followed(tmp_path: Path):
    blobs, folder = model(tmp_path / "blobs"), tmp_path / "snapshot"  # as the hub's cache has it
    folder.mkdir()
    for name in FILES:
        (folder / name).symlink_to(blobs / name)
    keep_folder(folder, tmp_path / "rl")
    (kept,) = (tmp_path / "rl" / "base").iterdir()
    assert not any((kept / name).is_symlink() for name in FILES)
    assert all((kept / name).samefile(blobs / name) for name in FILES)


def test_without_hard_links_nothing_is_copied_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    caplog.set_level("INFO")
    monkeypatch.setattr(os, "link", refuse)
    folder, run = model(tmp_path / "model"), tmp_path / "rl"
    keep_folder(folder, run)
    assert not (run / "base").exists()
    assert f"{folder} cannot be linked into {run / 'base'}: leave it where it is, the run needs it" in caplog.text


def test_what_is_half_made_is_no_model_and_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, run = model(tmp_path / "model"), tmp_path / "rl"
    if (child := os.fork()) == 0:  # a process that ends without a word, as a killed one does
        monkeypatch.setattr("pathlib.Path.rename", lambda *_: os._exit(9))
        keep_folder(folder, run)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    digest = folder_digest(folder)
    assert find_folder(digest, tmp_path / "nowhere", run / "checkpoints" / "x.ckpt") == folder  # beside the run
    assert len([*(run / "base").iterdir()]) == len(sweep(run / "base")) == 1
    keep_folder(folder, run)
    assert [path.name for path in (run / "base").iterdir()] == [f"model-{digest[:8]}"]


def test_what_was_kept_and_is_another_now_is_kept_anew(tmp_path: Path):
    folder, run = model(tmp_path / "model"), tmp_path / "rl"
    keep_folder(folder, run)
    (kept,) = (run / "base").iterdir()
    (kept / FILES[1]).unlink()
    keep_folder(folder, run)
    assert folder_digest(kept) == folder_digest(folder)
    assert [*(run / "base").iterdir()] == [kept]


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fgvr.models.folders.flush", full)
    with pytest.raises(
        UserError, match=r"model, which the run needs to go on, could not be kept in .*rl/base \(No spa"
    ):
        keep_folder(model(tmp_path / "model"), tmp_path / "rl")
    assert not [*(tmp_path / "rl" / "base").iterdir()]
