"""Photos without labels: which files of a folder there are, and each as an example to be asked about."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fgvr.errors import SampleError, UserError, shown
from fgvr.sources.base import read_picture
from fgvr.sources.walking import EMPTY, walk, without_links
from fgvr.types import Example


@dataclass(frozen=True)
class Photos:
    """The files of a folder by their paths relative to it, sorted; a sample set for `StepLoader`.

    `reasons` says of each file why it cannot be a photo, or None for one to be opened. Nothing is read before `read`.
    """

    root: Path
    names: tuple[str, ...]
    files: tuple[Path, ...]
    reasons: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    def uid(self, number: int) -> str:
        """The file's path relative to the root, unique; what cannot be shown stands in it as escapes."""
        return self.names[number]

    def read(self, number: int) -> Example:
        """The file's bytes with the empty label and path. Raises SampleError, naming the file, when it has none."""
        name, reason = self.names[number], self.reasons[number]
        if reason is not None:
            raise SampleError(f"{name}: {reason}")
        data = read_picture(self.files[number], name)
        return Example(name, (data,), label="", path=(), split="predict", cohort="", dataset="photos")


def find_photos(root: Path, setting: str = "data.predict") -> Photos:
    """One image file, or all files below a folder by the rules of `ImageFolder`: hidden and text files are passed over.

    A file that is neither (another suffix, a link out of the folder) is kept, with its reason, so that it is named in
    the end. Raises UserError, which names the `setting`, when there is no such file or folder, or nothing in it.
    """
    root = Path(root)
    if root.is_file():
        found: list[tuple[str, Path, str | None]] = [(shown(root.name), root, None)]
    elif root.is_dir():
        there = [(path, why) for path, why in walk(root, without_links(root)) if why != EMPTY]
        found = [(shown(path.relative_to(root).as_posix()), path, why) for path, why in there]
    else:
        raise UserError(f"{setting} must be a folder of photos or one photo, but {root} is neither: give its path")
    if not found:
        raise UserError(f"{setting} must be a folder with photos in it, but {root} holds none: check the path")
    names, files, reasons = zip(*sorted(found, key=lambda entry: entry[0]), strict=True)
    if names == (".",):  # the folder itself, which cannot be listed
        raise UserError(f"{setting} must be a folder that can be read, {root} is not: {reasons[0]}")
    twice = [name for name, following in pairwise(names) if name == following]
    if twice:
        raise UserError(f"files must differ in the names that can be shown, but two are {twice[0]!r}: rename one")
    return Photos(root, names, files, reasons)
