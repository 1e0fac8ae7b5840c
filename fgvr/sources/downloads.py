"""Class folders as benchmarks are downloaded: what would teach a model another name than the one that is meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from fgvr.errors import UserError
from fgvr.sources.base import SPLITS, Refusal
from fgvr.sources.known_layouts import known_layout

NUMBERED = re.compile(
    r"(?:n\d{8}|\d{1,6})[._-](?P<name>.*[^\W\d_].*)", re.DOTALL
)  # 001.Laysan_Albatross, n02085620-Pug
NUMBER = re.compile(r"n\d{8}|\d{1,6}")  # n01440764
LIKE_SPLIT = re.compile(
    r"(?:.*[_\W])?(?:train|training|trainval|val|valid|validation|test|testing)(?:[_\W].*)?", re.IGNORECASE
)
CONTAINERS = {"data", "dataset", "images", "image", "imgs", "img", "jpegimages", "jpg", "photos", "pictures", "raw"}

Place = tuple[str, ...]  # the folders above a picture


def without_number(folder: str) -> str:
    """Laysan Albatross for 001.Laysan_Albatross and Pug for n02085620-Pug; any other name as it is."""
    numbered = NUMBERED.fullmatch(folder)
    return folder if numbered is None else numbered["name"].replace("_", " ")


def refuse_known_layout(root: Path, leave_out: Collection[str]) -> None:
    """Raises UserError for a folder whose files say that it is a benchmark, or has a table of its photos."""
    found = known_layout(root, leave_out)
    if found is not None:
        marks = sorted({mark.split("/")[0] for mark in found.saw})
        raise UserError(
            f"an ImageFolder must hold class folders, but {root} has {' and '.join(found.saw)}, so its labels are "
            f"those of {found.kind}: give --source {found.kind} --source.root {root}, or, where folders are classes, "
            f"name {' or '.join(marks)} in leave_out"
        )


def refuse_names_like_splits(root: Path, classes: Collection[str]) -> None:
    """Raises UserError when all class folders are named like splits (cars_train, cars_test)."""
    alike = sorted(name for name in classes if LIKE_SPLIT.fullmatch(name))
    if len(alike) > 1 and len(alike) == len(classes):
        raise UserError(
            f"a class folder must be called what its pictures show, but those of {root} are called like splits, "
            f"{_listed(alike)}: list the pictures with their labels in a CSV (--source CSV), try --source auto {root}, "
            "or set splits to false if these are the classes"
        )


def refuse_numbers(root: Path, folders: Collection[str]) -> None:
    """Raises UserError when most class folders have a number before their name, each its own, or are nothing else."""
    numbered = [name for name in folders if NUMBERED.fullmatch(name)]
    if len({re.split("[._-]", name)[0] for name in numbered}) == len(numbered) and _are_most(numbered, folders):
        raise UserError(
            f"a class folder must be called what its pictures show, but {len(numbered)} of {root} are numbered, such "
            f"as {numbered[0]!r}: set drop_numbers true to take {without_number(numbered[0])!r} as the name, false to "
            "keep the numbers in the names, or rename the folders"
        )
    bare = [name for name in folders if NUMBER.fullmatch(name)]
    if _are_most(bare, folders):
        raise UserError(
            f"a class folder must be called what its pictures show, but {len(bare)} of {root} are numbers, such as "
            f"{bare[0]!r}: rename them, or write a taxonomy.yaml with the number of each class among its synonyms "
            "(drop_numbers false keeps the numbers as names)"
        )


def refuse_wrapping(root: Path, places: Collection[Place], has_splits: bool) -> None:
    """Raises UserError when all class folders, or all splits, lie in one folder that only holds them together."""
    classes = [place[int(has_splits) :] for place in places]
    shared = _shared(classes)
    holds = next((level for level, name in enumerate(shared, 1) if name.casefold() in CONTAINERS), 0)
    if not holds and shared and all(place[len(shared)].casefold() in SPLITS for place in classes):
        holds = len(shared)
    if holds and has_splits:
        raise UserError(
            f"the class folders must lie in the split folders themselves, but in {root} they all lie in a folder "
            f"{'/'.join(shared[:holds])} there: move them up, or name all levels with ranks"
        )
    if holds:
        raise UserError(
            f"root must be the folder of the class folders, but all pictures of {root} lie in its folder "
            f"{'/'.join(shared[:holds])}: give {root.joinpath(*shared[:holds])} as root, or name all levels with ranks"
        )


def refuse_bare_splits(root: Path, places: Collection[Place]) -> None:
    """Raises UserError when splits hold pictures and no class folders."""
    tops = sorted({place[0] for place in places if place})
    if len(tops) > 1 and all(len(place) <= 1 for place in places) and all(top.casefold() in SPLITS for top in tops):
        raise UserError(
            f"pictures must lie in class folders, but those of {root} lie in {tops}, which are named like splits: sort "
            "them into class folders, list them in a CSV, or set splits to false if these are the classes"
        )


def refuse_strange_tops(root: Path, pictures: Collection[Place], refused: Sequence[Refusal]) -> None:
    """Raises UserError for a top folder with files in it of which none is a picture, beside others that hold some."""
    tops = {place[0] for place in pictures if place}
    firsts = {refusal.file.split("/")[0]: refusal for refusal in reversed(refused) if "/" in refusal.file}
    strange = {top: refusal for top, refusal in firsts.items() if top not in tops}
    if tops and strange:
        first = min(strange)
        raise UserError(
            f"every folder of {root} must hold pictures, but {_listed(sorted(strange))} {_do(strange)} not "
            f"({strange[first]}): move what is no class out of it, or name it in leave_out, as in "
            f"--source.leave_out '[{', '.join(sorted(strange)[:3])}]'"
        )


def _shared(places: Collection[Place]) -> Place:
    """The folders above all classes alike; a class is none of them."""
    alike: list[str] = []
    for names in list(zip(*places, strict=False))[:-1]:
        if len(set(names)) > 1:
            break
        alike.append(names[0])
    return tuple(alike)


def _are_most(some: Collection[str], all_of_them: Collection[str]) -> bool:
    return len(some) >= 2 and 2 * len(some) > len(all_of_them)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _do(names: Collection[str]) -> str:
    return "does" if len(names) == 1 else "do"
