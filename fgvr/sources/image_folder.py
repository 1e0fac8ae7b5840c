"""Pictures in folders that are named after their classes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import (
    SPLITS,
    PictureAt,
    Record,
    Refusal,
    Source,
    SourceGone,
    clean,
    known_label,
    printable,
    stamp_of,
    unfit,
)
from fgvr.sources.downloads import (
    refuse_bare_splits,
    refuse_known_layout,
    refuse_names_like_splits,
    refuse_numbers,
    refuse_strange_tops,
    refuse_wrapping,
    without_number,
)
from fgvr.sources.walking import EMPTY, UNREADABLE, walk, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy

NEARLY_ALL = 0.9  # of the pictures: at the depth at which so many lie, the others are out of place
NAMED = 5  # folders in a sentence


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of one folder that may be pictures: with a million of them, what each takes of memory counts.

    `path` is the folder's, `name` is it relative to the root with a slash behind it, `place` its parts, NFC. `files`
    are the files' names, parted by slashes.
    """

    path: str
    name: str
    place: tuple[str, ...]
    files: str

    @classmethod
    def of(cls, root: Path, folder: Path, files: Iterable[str]) -> _Files:
        relative = folder.relative_to(root)
        place = tuple(unicodedata.normalize("NFC", part) for part in relative.parts)
        return cls(str(folder), f"{relative.as_posix()}/" if place else "", place, "/".join(files))


class ImageFolder(Source):
    """Pictures in folders named after their classes: root/class/x.jpg or root/split/class/x.jpg.

    `root` is the folder to look in. Folders between are taxonomy ranks, coarse to fine (root/family/genus/class): as
    many as nine of ten pictures lie under, or as `ranks` names, and a picture that lies elsewhere is refused; where the
    depth varies more than that, the last folder alone is the class. `taxonomy` is a yaml file with root, ranks, paths
    and synonyms (default: root/taxonomy.yaml where there is one); a folder may then go by any spelling or synonym of a
    class in it. `ranks` names the folder levels, the class level last. `splits` says whether the top folders are
    splits; by default they are when all of them are called so. `drop_numbers` says whether 001.Laysan_Albatross means
    "Laysan Albatross"; by default such folders are refused. `leave_out` names folders of root that are not looked into.
    Hidden files and text files are passed over; any other file that is not an image is refused, and so are links out of
    the root. Nothing is looked for before it is asked for: a run on shards that are there already needs no pictures.
    """

    def __init__(
        self,
        root: Path,
        taxonomy: Path | None = None,
        ranks: list[str] | None = None,
        splits: bool | None = None,
        dataset: str | None = None,
        drop_numbers: bool | None = None,
        leave_out: list[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.walked = self.root
        beside = self.root / "taxonomy.yaml"
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else beside if beside.is_file() else None
        self.ranks = ranks
        self.splits = splits
        self.dataset = dataset or without_links(self.root).name or "pictures"
        self.drop_numbers, self.leave_out = drop_numbers, list(leave_out or [])

    def describe(self) -> dict[str, Any]:
        asked = {"drop_numbers": self.drop_numbers, "leave_out": self.leave_out}  # unasked, what a set says stays
        return {
            **{"kind": "ImageFolder", "dataset": self.dataset, "splits": self._has_splits, "ranks": self.ranks},
            **{name: value for name, value in asked.items() if value},
        }

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        for one in self._found:
            if isinstance(one, Refusal):
                yield one
                continue
            for file in one.files.split("/"):
                yield self._record(printable(f"{one.name}{file}"), f"{one.path}/{file}", one.place)

    def remarks(self) -> list[str]:
        said: list[str] = []
        if self._empty:
            said.append(f"folders of {self.root} without a picture, so none is a class: {_listed(self._empty)}")
        if self.taxonomy_file is None and self._ragged:
            counts = ", ".join(f"{count:,} under {depth}" for depth, count in sorted(self._depths.items()))
            said.append(
                f"the pictures of {self.root} lie under different numbers of folders ({counts}), so the last folder "
                "alone is the class and there are no ranks above it: move them to one depth, or write a taxonomy.yaml"
            )
        return said

    @cached_property
    def _walked(self) -> tuple[list[_Files | Refusal], list[str]]:
        """What lies in the root but for `leave_out`, sorted, and which folders are without pictures."""
        if not self.root.is_dir():
            raise SourceGone(f"root must be a folder of pictures, but {self.root} is not a folder: give its path")
        missing = [name for name in self.leave_out if not (self.root / name).exists()]
        if missing:
            raise UserError(f"leave_out must name folders of {self.root}, but there is no {missing[0]!r}: mend it")
        found: list[_Files | Refusal] = []
        empty: list[str] = []
        for (folder, reason), files in groupby(self._walk(), key=lambda one: (one[0].parent, one[1])):
            if reason is None:
                found.append(_Files.of(self.root, folder, (file.name for file, _ in files)))
                continue
            names = [printable(path.relative_to(self.root).as_posix()) for path, _ in files]
            if reason == EMPTY:
                empty += names
            else:
                found += [Refusal(name, name, reason) for name in names]
        return found, empty

    def _walk(self) -> Iterator[tuple[Path, str | None]]:
        for path, reason in walk(self.root, without_links(self.root)):
            if not {*path.relative_to(self.root).parts[:1]}.isdisjoint(self.leave_out):
                continue
            if reason is not None and reason.startswith(UNREADABLE):  # nobody knows how many pictures lie in it
                complaint = f"{path}: {reason}: change its permissions or move it out of {self.root}"
                raise SourceGone(complaint) if path == self.root else UserError(complaint)
            yield path, reason

    @property
    def _found(self) -> list[_Files | Refusal]:
        """Every file that counts, sorted by its path."""
        found, _ = self._walked
        if not found:
            raise SourceGone(f"root must hold pictures in class folders, but {self.root} holds none: check the path")
        return found

    @property
    def _empty(self) -> list[str]:
        return self._walked[1]

    @cached_property
    def _places(self) -> Counter[tuple[str, ...]]:
        """The folders above pictures, and above how many."""
        places: Counter[tuple[str, ...]] = Counter()
        for one in self._found:
            if isinstance(one, _Files):
                places[one.place] += one.files.count("/") + 1
        return places

    @cached_property
    def _has_splits(self) -> bool:
        if self.splits is not None:
            return self.splits
        deep = {place[0] for place in self._places if len(place) >= 2}
        flat = {place[0] for place in self._places if len(place) == 1}
        named = {top for top in deep if top.casefold() in SPLITS}
        others = sorted((deep | flat) - named)
        if named and others:
            raise UserError(
                f"either all top folders of {self.root} are splits or none is, but {sorted(named)} are named like "
                f"splits and {others[:NAMED]} are not: move these, name them in leave_out, or set splits to true or "
                "false"
            )
        return bool(named)

    @cached_property
    def _depths(self) -> Counter[int]:
        """How many pictures lie under how many folders, the split aside."""
        depths: Counter[int] = Counter()
        for place, count in self._places.items():
            depths[len(place) - self._has_splits] += count
        return Counter({depth: count for depth, count in depths.items() if depth > 0})

    @cached_property
    def _depth(self) -> int:
        """How many folders name the class: as many as nearly all pictures lie under, or as `ranks` names; else 1."""
        named = len(self.ranks or ())
        if len(self._depths) > 1 and named:
            return named if named in self._depths else 1
        return self._commonest if self._depths[self._commonest] >= NEARLY_ALL * self._depths.total() else 1

    @cached_property
    def _commonest(self) -> int:
        return max(self._depths, key=lambda depth: self._depths[depth], default=1)

    @cached_property
    def _ragged(self) -> bool:
        """True when the depth varies so much that no picture is out of place."""
        return len(self._depths) > 1 and (self._depth == 1 and self._depths[1] < NEARLY_ALL * self._depths.total())

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        self._refuse_downloads()
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        paths: dict[str, tuple[str, ...]] = {}
        whole: dict[str, tuple[str, ...]] = {}
        for place in sorted(self._places):
            folders = place[int(self._has_splits) :]
            if not folders or self._misplaced(folders):
                continue
            path = self._path(folders)
            label = path[-1]
            if any(unfit(name) for name in path):
                continue
            if whole.setdefault(label, folders) != folders:
                raise UserError(
                    f"a class must have one folder in each split, but {label!r} lies under {'/'.join(whole[label])} "
                    f"and {'/'.join(folders)}: rename one of the folders"
                )
            paths[label] = path
        return Taxonomy(paths, _rank_names(self.ranks, self._depth, "folder levels"))

    def _refuse_downloads(self) -> None:
        """Raises UserError for a layout that would be read otherwise than it is meant, with what to do."""
        refuse_known_layout(self.root, self.leave_out)
        places = set(self._places)
        refused = [found for found in self._found if isinstance(found, Refusal)]
        refuse_strange_tops(self.root, places, refused)
        if self.splits is None:
            refuse_bare_splits(self.root, places)
            refuse_names_like_splits(self.root, {place[-1] for place in places if place})
        if self.ranks is None and self.taxonomy_file is None:
            even = [place for place in places if len(place) - self._has_splits == self._commonest]
            refuse_wrapping(self.root, even, self._has_splits)
        if self.drop_numbers is None:
            known = read_taxonomy(self.taxonomy_file) if self.taxonomy_file is not None else None
            classes = {clean(place[-1]): None for place in sorted(places) if len(place) > self._has_splits}
            refuse_numbers(self.root, [name for name in classes if known is None or known_label(known, name) is None])

    def _path(self, folders: tuple[str, ...]) -> tuple[str, ...]:
        """The names that the folders stand for, from the coarsest rank to the class."""
        return tuple(
            without_number(clean(name)) if self.drop_numbers else clean(name) for name in folders[-self._depth :]
        )

    def _misplaced(self, folders: tuple[str, ...]) -> bool:
        return self.taxonomy_file is None and not self._ragged and len(folders) != self._depth

    def _record(self, name: str, path: str, place: tuple[str, ...]) -> Record | Refusal:
        split = None
        if self._has_splits:
            split = SPLITS.get(place[0].casefold()) if place else None
            if split is None:
                return Refusal(name, name, f"it must lie in one of the split folders {sorted(set(SPLITS))}")
        folders = place[int(self._has_splits) :]
        if not folders:
            return Refusal(name, name, "it must lie in a class folder, but it lies above them")
        if self._misplaced(folders):
            reason = (
                f"it must lie under {self._depth} folders as nearly all do, but it lies under {len(folders)}: move it"
            )
            return Refusal(name, name, reason)
        names = self._path(folders)
        for text in names if self.taxonomy_file is None else names[-1:]:
            if (complaint := unfit(text)) is not None:
                return Refusal(name, name, complaint)
        known = self.known(names[-1])
        if known is None:
            return Refusal(name, name, f"its folder {names[-1]!r} is not a class of the taxonomy")
        load = PictureAt(path, name)
        return Record(name, known, self._taxonomy.paths[known], split, None, load, {}, stamp_of(Path(path)))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _rank_names(given: list[str] | None, depth: int, what: str) -> tuple[str, ...]:
    if given is None:
        return (*(f"level {level}" for level in range(1, depth)), "class")
    if len(given) != depth:
        raise UserError(f"ranks must name the {depth} {what}, coarse to fine, got {len(given)}: {given}")
    return tuple(given)
