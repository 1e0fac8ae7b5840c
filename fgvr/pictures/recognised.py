"""Photos with what was said of them: pages of HTML that open from the disk and need nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgvr.errors import unseen
from fgvr.pictures.contact_sheets import PAGES
from fgvr.whole_files import write_whole

ROWS = 200  # on a page
LONGEST = 1200  # letters of a thought


@dataclass(frozen=True)
class Share:
    """A name with a number from 0 to 1, and what it is called, such as its rank."""

    called: str
    name: str
    share: float


@dataclass(frozen=True)
class Shown:
    """A row of a page. `image` is a data: address, empty where the photo could not be used and `error` says why."""

    photo: str
    image: str
    answer: str
    told: str
    path: Sequence[Share]
    candidates: Sequence[Share]
    reasoning: str
    error: str


class PagesOfRows:
    """Writes rows into predictions.html, predictions-2.html, ... as they come; no more than a page is held.

    A page that is full is written when the next row comes, so that it knows whether another follows. `said` are
    sentences for the head of each page, asked for when it is written.
    """

    def __init__(self, folder: Path, stem: str, title: str, said: Callable[[], Sequence[str]]) -> None:
        self.folder, self.stem, self.title, self.said = folder, stem, title, said
        self.rows: list[Shown] = []
        self.written = 0

    def add(self, row: Shown) -> None:
        if len(self.rows) == ROWS:
            self._write(last=False)
        self.rows.append(row)

    def close(self) -> int:
        """Writes the last page, removes those of an earlier, longer table, and returns how many there are."""
        self._write(last=True)
        number = self.written + 1
        while (old := self.folder / self._name(number)).is_file():
            old.unlink()
            number += 1
        return self.written

    def _write(self, last: bool) -> None:
        number = self.written + 1
        page = PAGES.get_template("recognised.html").render(
            title=self.title,
            said=self.said() if last else (),
            rows=self.rows,
            before=self._name(number - 1) if number > 1 else "",
            after="" if last else self._name(number + 1),
            number=number,
            plain=plain,
        )
        write_whole(self.folder / self._name(number), page.encode("utf-8", "backslashreplace"))
        self.rows, self.written = [], number

    def _name(self, number: int) -> str:
        return f"{self.stem}.html" if number == 1 else f"{self.stem}-{number}.html"


def plain(text: str, most: int = LONGEST) -> str:
    """Text of a model or a file name without marks that are obeyed and not seen, and no longer than a page likes."""
    kept = "".join("�" if unseen(mark) and mark != "\n" else mark for mark in text[: most + 1])
    return kept if len(kept) <= most else f"{kept[:most]}…"
