"""Contact sheets: pages of small photos that a browser opens from the disk, and that ask nothing of a network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from fgvr.whole_files import write_whole

SIDE, QUALITY = 120, 80  # of a small photo, in pixels and of its JPEG
PAGES = Environment(loader=PackageLoader("fgvr.pictures", "pages"), autoescape=select_autoescape(), trim_blocks=True)


@dataclass(frozen=True)
class Small:
    """A small photo with the words below it; `image` is a data: address, empty where the photo could not be read."""

    image: str
    words: str


@dataclass(frozen=True)
class Section:
    """Photos under a heading, with what is to be said of them all."""

    heading: str
    said: str
    photos: Sequence[Small]


def small(photo: Image.Image, words: str) -> Small:
    """The photo within a square of `SIDE` pixels."""
    reduced = photo.convert("RGB")
    reduced.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    reduced.save(stream, "JPEG", quality=QUALITY)
    return Small("data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode(), words)


def write_sheet(file: Path, title: str, sections: Sequence[Section], back: str = "") -> None:
    """One page of sections; `back` is the page that its head leads to."""
    page = PAGES.get_template("sheet.html").render(title=title, sections=sections, back=back)
    write_whole(file, page.encode())


def write_index(file: Path, title: str, said: Sequence[str], tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """The page that leads to the sheets: sentences, then tables by their headings, the first row of each its head.

    A row's last cell is a link to that page where it ends in ".html"; a class may be called anything.
    """
    page = PAGES.get_template("index.html").render(title=title, said=said, tables=tables)
    write_whole(file, page.encode())


def page_name(number: int, label: str) -> str:
    """A file name for a class's page, in ASCII and unlike any other class's."""
    slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:60]
    return f"{number:05d}-{slug}.html" if slug else f"{number:05d}.html"
