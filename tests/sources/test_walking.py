import os
from pathlib import Path

import pytest
from sourced import touch

from fgvr.sources.walking import EMPTY, walk, without_links


def found(root: Path) -> dict[str, str | None]:
    return {path.relative_to(root).as_posix(): reason for path, reason in walk(root, without_links(root))}


def test_only_files_that_may_be_pictures_come_without_a_reason(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "a/.hidden.jpg", "a/notes.txt", "a/Thumbs.db", "a/film.mp4", ".git/1.jpg")
    assert found(root) == {"a/1.jpg": None, "a/film.mp4": "it must be an image file, but its suffix is '.mp4'"}


def test_the_topmost_folder_without_a_picture_is_named(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "b/notes.txt")
    (root / "c/d/e").mkdir(parents=True)
    (root / "a/f").mkdir()
    assert found(root) == {"a/1.jpg": None, "a/f": EMPTY, "b": EMPTY, "c": EMPTY}


@pytest.mark.parametrize("target", ["self.jpg", "loop", "../a/self.jpg"])
def test_links_in_a_circle_are_refused_by_name(tmp_path, target):
    root = touch(tmp_path, "a/1.jpg")
    (root / "a/self.jpg").symlink_to(target)
    (root / "a/loop").symlink_to("self.jpg")
    for name in ("a/self.jpg", "a/loop"):
        assert found(root)[name] == (
            "it must be a regular file, but its link leads nowhere (Too many levels of symbolic links)"
        )
    assert found(root)["a/1.jpg"] is None


def test_what_links_lead_to(tmp_path):
    root = touch(tmp_path, "in/a/1.jpg", "out/2.jpg") / "in"
    (root / "a/same.jpg").symlink_to(root / "a/1.jpg")
    (root / "a/out.jpg").symlink_to(tmp_path / "out/2.jpg")
    (root / "all").symlink_to(tmp_path / "out")
    (root / "again").symlink_to(root / "a")
    (root / "gone.jpg").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe.jpg")
    reasons = found(root)
    assert reasons["a/same.jpg"] is None
    assert reasons["a/out.jpg"] == reasons["all"] == "it is a link that climbs out of the root"
    assert str(reasons["again"]).startswith("linked folders are not followed")
    assert "leads nowhere (No such file" in str(reasons["gone.jpg"])
    assert reasons["pipe.jpg"] == "it must be a regular file, but it is not"
    assert without_links(root / "again/1.jpg") == without_links(root) / "a/1.jpg"
