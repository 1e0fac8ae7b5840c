"""Every sampled reply, kept as it was said: a file that only grows, keyed by what the replies were made with."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

from fgvr.errors import UserError
from fgvr.options.votes import Reply
from fgvr.retries import patiently
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import sealed_line, unsealed_line, write_whole

log = logging.getLogger(__name__)
FORMAT = 1
Scope = Literal["base", "all", "open"]
MEANING = {
    "model": "model",
    "prompt": "question",
    "sampling": "way of sampling",
    "seed": "seed",
    "data": "shard set",
    "split": "split",
    "cohorts": "choice of cohorts",
    "photos": "number of photos",
    "at_once": "number of rows at a time",
}  # of what may differ between two stores, in the words of a sentence


@dataclass(frozen=True)
class Made:
    """What replies were made with. Two stores with equal ones hold the same bytes, by one engine on one kind of device.

    `model`, `prompt` and `data` are digests of the weights, of what is asked and of the shard set. `at_once` photos are
    sampled together, so that a store which goes on samples the same ones together. `classes` maps each class to the
    cohort that it belongs to.
    """

    model: str
    prompt: str
    sampling: Mapping[str, float]
    seed: int
    data: str
    split: str
    cohorts: tuple[str, ...]
    photos: int
    at_once: int
    dataset: str
    taxonomy: Mapping[str, Any]
    classes: Mapping[str, str]

    @cached_property
    def names(self) -> Names:
        return Names(Taxonomy.from_dict(self.taxonomy))

    @property
    def trains(self) -> bool:
        """Whether its options may be trained on, so that the truth is put among them."""
        return self.split == "train"

    @property
    def held_out(self) -> frozenset[str]:
        """The classes whose names must not enter training."""
        return frozenset(name for name, cohort in self.classes.items() if cohort not in TRAINED_COHORTS)

    def scope(self, scope: Scope) -> frozenset[str] | None:
        """The names that may be options: those of the classes trained on, those of all classes, or None for any."""
        if scope == "open":
            return None
        return frozenset(self.classes) - (self.held_out if scope == "base" else frozenset())

    def differences(self, other: Made) -> list[str]:
        """What is not the same, as words of a sentence."""
        return [said for name, said in MEANING.items() if _plain(getattr(self, name)) != _plain(getattr(other, name))]


@dataclass(frozen=True)
class Sampled:
    """One photo with its replies; none where it was `refused`, which says why.

    `picture` is the sha256 of the encoded image. `parts` is 1, or how many calls its replies were sampled in because
    memory did not hold them together.
    """

    uid: str
    label: str
    cohort: str
    picture: str
    replies: tuple[Reply, ...] = ()
    refused: str = ""
    parts: int = 1


class ReplyStore:
    """A store that is being written, a batch of photos at a time. Held by one process; closed by `with`.

    Opening it goes on behind the last whole batch of a file that was made with the same; a torn end, and photos of a
    batch that was not finished, are cut away and sampled again. Raises UserError for a file that was made with anything
    else, that is damaged before its end, or that another process is writing.
    """

    def __init__(self, path: Path, made: Made) -> None:
        self.path, self.made = Path(path), made
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, sealed_line({"format": FORMAT, "made": asdict(made)}))
        self._file: IO[bytes] = self.path.open("r+b")
        try:
            self._hold()
            self.done = self._go_on()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ReplyStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def append(self, photos: Sequence[Sampled]) -> None:
        """Writes one batch: its lines are there together when this returns, whatever happens afterwards."""
        self._file.write(b"".join(sealed_line(_row(photo)) for photo in photos))
        self._file.flush()
        self.done += len(photos)

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{self.path} must be written by one process at a time, but another one writes it: wait for it to end"
            ) from error

    def _go_on(self) -> int:
        """Cuts the file behind its last whole batch; how many photos it holds then."""
        lines = self._file.readlines()
        made, _ = _parsed(self.path, lines[:1])
        if differing := made.differences(self.made):
            raise UserError(
                f"{self.path} must hold replies of this model to this question, but it was made with another "
                f"{' and another '.join(differing)}: give another folder, or remove the file to sample again"
            )
        whole = len(_parsed(self.path, lines, torn=True)[1])
        kept = whole if whole == self.made.photos else whole - whole % self.made.at_once
        self._file.seek(sum(map(len, lines[: kept + 1])))
        self._file.truncate()
        return kept


def remove_if_of_others(path: Path, made: Made) -> None:
    """Removes a store that was begun with anything else than `made`: a training that goes on came to other weights."""
    if not path.exists():
        return
    with path.open("rb") as file:
        found, _ = _parsed(path, [file.readline()])
    if differing := found.differences(made):
        log.warning("%s is sampled anew: it was made with another %s", path, " and another ".join(differing))
        path.unlink()


def read_store(path: Path) -> tuple[Made, list[Sampled]]:
    """What a finished store was made with, and its photos. Raises UserError for one that is none, or not finished."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} must be a store of replies, but there is no such file: say which model is asked")
    lines = patiently(path.read_bytes, path).splitlines(keepends=True)
    made, photos = _parsed(path, lines, torn=True)
    if len(photos) < made.photos:
        raise UserError(
            f"{path} must hold the replies to all {made.photos:,} photos, but it holds those to {len(photos):,}: run "
            "the same `python -m fgvr mine` line again, which goes on where it stopped"
        )
    return made, photos


def _parsed(path: Path, lines: Sequence[bytes], torn: bool = False) -> tuple[Made, list[Sampled]]:
    """With `torn` what is not whole at the end is passed over; anywhere else it is damage."""
    made: Made | None = None
    photos: list[Sampled] = []
    for number, line in enumerate(lines, 1):
        try:
            row = unsealed_line(line)
            if made is None:
                made = _made(row)
            else:
                photos.append(_photo(row))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if torn and made is not None and number == len(lines):
                break
            raise UserError(
                f"{path} must be a store of replies as it was written, but line {number} is not ({error}): put a whole "
                "copy in its place, or remove it to sample again"
            ) from error
    if made is None:
        raise UserError(f"{path} must be a store of replies, but it is empty: remove it to sample again")
    return made, photos


def _made(row: Mapping[str, Any]) -> Made:
    if "made" not in row and "rules" in row:
        raise ValueError("it holds options: the replies they were made of are in a replies.jsonl")
    if row["format"] != FORMAT:
        raise ValueError(f"its format is {row['format']}, this version reads {FORMAT}")
    made = Made(**row["made"])
    return replace(made, cohorts=tuple(made.cohorts))


def _row(photo: Sampled) -> dict[str, Any]:
    """Replies as lists: they are most of the file."""
    row = {field.name: getattr(photo, field.name) for field in fields(photo)}
    return row | {"replies": [list(astuple(reply)) for reply in photo.replies]}


def _photo(row: Mapping[str, Any]) -> Sampled:
    return Sampled(**{**row, "replies": tuple(Reply(*reply) for reply in row["replies"])})


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def confusions(made: Made, photos: Iterable[Sampled]) -> dict[str, dict[str, int]]:
    """For each class how often its photos were called by the name of which other one, over all replies."""
    counts: dict[str, dict[str, int]] = {}
    for photo in photos:
        own = counts.setdefault(photo.label, {})
        for reply in photo.replies:
            name = None if reply.answer is None else made.names.find(reply.answer)
            if name is not None and name != photo.label and name in made.classes:
                own[name] = own.get(name, 0) + 1
    return counts
