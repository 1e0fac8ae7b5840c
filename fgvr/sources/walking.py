"""Which files of a folder may be pictures: by their names and kinds alone, none is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
NOT_DATA = {".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml"}
NOT_DATA_NAMES = {"thumbs.db", "desktop.ini"}
UNREADABLE = "the folder must be readable"
EMPTY = "the folder holds no picture"


def walk(folder: Path, base: Path) -> Iterator[tuple[Path, str | None]]:
    """Files below a folder, sorted, with the reason to refuse each, or None. Linked folders are not entered.

    A folder that cannot be opened comes with UNREADABLE, the topmost of those that have no file to name with EMPTY.
    Hidden files and text files are passed over. `base` is the folder, without links, that no link may lead out of.
    """
    try:
        entries = sorted(os.scandir(folder), key=_as_in_a_path)
        os.stat(f"{folder}/.")  # a folder may be listed without the right to open what is in it
    except OSError as error:
        yield folder, f"{UNREADABLE}, but {error.strerror}"
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() in NOT_DATA_NAMES:
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(path, base)
        elif path.suffix.casefold() not in NOT_DATA:
            yield path, _complaint(entry, path, base)


def _as_in_a_path(entry: os.DirEntry[str]) -> str:
    """What sorts a folder's entries so that all paths below it come sorted."""
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _inside(folder: Path, base: Path) -> Iterator[tuple[Path, str | None]]:
    """As `walk`, but of a folder without any file nothing but that."""
    found, empty = walk(folder, base), list[tuple[Path, str | None]]()
    for one in found:
        if one[1] != EMPTY:
            yield from (*empty, one)
            yield from found
            return
        empty.append(one)
    yield folder, EMPTY


def without_links(path: Path) -> Path:
    """The path that links lead to in the end; links that lead in a circle stay as they are."""
    return Path(os.path.realpath(path))


def _complaint(entry: os.DirEntry[str], path: Path, base: Path) -> str | None:
    if entry.is_symlink() and (reason := _complaint_of_link(path, base)) is not None:
        return reason
    if path.suffix.casefold() not in IMAGE_SUFFIXES:
        return f"it must be an image file, but its suffix is {path.suffix!r}"
    return None if entry.is_file() else "it must be a regular file, but it is not"


def _complaint_of_link(path: Path, base: Path) -> str | None:
    if not without_links(path).is_relative_to(base):
        return "it is a link that climbs out of the root"
    try:
        kind = path.stat().st_mode
    except OSError as error:
        return f"it must be a regular file, but its link leads nowhere ({error.strerror})"
    return "linked folders are not followed: link or copy the files" if stat.S_ISDIR(kind) else None


def inside(root: Path, name: str, base: Path) -> tuple[Path, str | None]:
    """The file that a relative name means, and a complaint when it is none or lies outside `base`, links followed."""
    if not name or "\0" in name:
        return root, "file must name a picture, but it is empty or holds a NUL"
    try:
        file = root / name
        outside = not without_links(file).is_relative_to(base)
    except (OSError, ValueError) as error:
        return root, f"file must be a usable path, but {error}"
    return file, f"its file climbs out of {root.name or 'the root'}" if outside else None
