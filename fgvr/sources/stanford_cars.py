"""Stanford Cars as its archives unpack, and as the copy with CSV lists does."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import SourceGone, clean
from fgvr.sources.benchmark import Benchmark, Listing
from fgvr.sources.car_names import car_of
from fgvr.sources.mat_file import read_mat
from fgvr.sources.protocols import Photo
from fgvr.taxonomy.spelling import normalise

LABELLED = ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat", "devkit/cars_test_annos.mat")


class StanfordCars(Benchmark):
    """Stanford Cars: the folder that holds cars_train/, cars_test/ and devkit/, or car_ims/ and cars_annos.mat.

    The copy with names.csv, anno_train.csv and anno_test.csv beside car_data/ is read too. The taxonomy is make > model
    > class; body type and year go into the samples. Of cars_test/ the labels are in cars_test_annos_withlabels.mat;
    without it its photos are left out.
    """

    KIND, NAME, ROOT = "StanfordCars", "cars", "car"

    def listing(self) -> Listing:
        for file, read in (
            ("devkit/cars_meta.mat", self._of_devkit),
            ("cars_annos.mat", self._of_one_list),
            ("names.csv", self._of_tables),
        ):
            if (self.root / file).is_file():
                return read()
        raise SourceGone(
            f"Stanford Cars must have devkit/cars_meta.mat, cars_annos.mat or names.csv, but {self.root} has none: "
            "unpack car_devkit.tgz in it"
        )

    def _of_devkit(self) -> Listing:
        names = _texts(self.root / "devkit/cars_meta.mat", "class_names")
        photos = self._annotated(self.root / "devkit/cars_train_annos.mat", "cars_train", "train")
        tests = [self.root / file for file in LABELLED if (self.root / file).is_file()]
        tested = self._annotated(tests[0], "cars_test", "test") if tests else []
        labelled = [photo for photo in tested if photo.key]
        said = ()
        if len(labelled) < len(tested) or not tests:
            said = (
                "the photos of cars_test have no labels here and are left out: put cars_test_annos_withlabels.mat into "
                f"{self.root}",
            )
        return _listing(names, photos + labelled, said)

    def _annotated(self, file: Path, folder: str, split: str) -> list[Photo]:
        return [
            Photo(f"{folder}/{one.get('fname', '')}", _number(one.get("class")), split)
            for one in _rows(file, "annotations")
        ]

    def _of_one_list(self) -> Listing:
        file = self.root / "cars_annos.mat"
        photos = [
            Photo(
                str(one.get("relative_im_path", "")),
                _number(one.get("class")),
                "test" if _number(one.get("test")) == "1" else "train",
            )
            for one in _rows(file, "annotations")
        ]
        return _listing(_texts(file, "class_names"), photos)

    def _of_tables(self) -> Listing:
        names = [row[0] for row in _table(self.root / "names.csv", 1)]
        photos: list[Photo] = []
        for split in ("train", "test"):
            top = self._folder_of(split)
            for row in _table(self.root / f"anno_{split}.csv", 6):
                number = row[5].strip()
                place = int(number) - 1 if number.isdecimal() else -1
                name = clean(names[place]) if 0 <= place < len(names) else ""
                inner = "" if top.name.startswith("cars_") else f"{name.replace('/', '-')}/"
                photos.append(Photo(f"{top.relative_to(self.root).as_posix()}/{inner}{row[0]}", number, split))
        return _listing(names, photos)

    def _folder_of(self, split: str) -> Path:
        tops = [self.root / top for top in (f"car_data/car_data/{split}", f"car_data/{split}", f"cars_{split}", split)]
        found = [top for top in tops if top.is_dir()]
        if not found:
            raise SourceGone(f"Stanford Cars must have its photos in car_data/{split}, but {self.root} has none there")
        return found[0]


def _listing(names: list[str], photos: list[Photo], said: tuple[str, ...] = ()) -> Listing:
    paths: dict[str, tuple[str, ...]] = {}
    extra: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(map(clean, names), 1):
        car = car_of(name)
        parts = (car.make, car.model, name)
        paths[str(number)] = tuple(
            part for part, below in zip(parts, (*parts[1:], ""), strict=True) if normalise(part) != normalise(below)
        )
        extra[str(number)] = {name: part for name, part in (("body", car.body), ("year", car.year)) if part}
    return Listing(paths, photos, ("make", "model", "car"), extra=extra, said=said)


def _texts(file: Path, name: str) -> list[str]:
    held = read_mat(file).get(name)
    if not isinstance(held, list) or not held or not all(isinstance(one, str) for one in held):
        raise UserError(f"{file} must hold {name}, a cell of names, but it does not: unpack it again")
    return held


def _rows(file: Path, name: str) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        raise SourceGone(f"the benchmark must have its list {file.name}, but {file} is not a file: unpack it whole")
    held = read_mat(file).get(name)
    if not isinstance(held, list) or not all(isinstance(one, dict) for one in held):
        raise UserError(f"{file} must hold {name}, a struct array, but it does not: unpack it again")
    yield from held


def _number(value: Any) -> str:
    """The one number of a field as text; empty where there is none."""
    held = value if isinstance(value, list) else []
    return str(int(held[0])) if len(held) == 1 and held[0] == held[0] // 1 else ""


def _table(file: Path, columns: int) -> list[list[str]]:
    if not file.is_file():
        raise SourceGone(f"the benchmark must have its list {file.name}, but {file} is not a file: unpack it whole")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, strict=True) if row]
    except (csv.Error, ValueError) as error:
        raise UserError(f"{file} must be proper csv in UTF-8, but {error}: mend it") from error
    if short := [number for number, row in enumerate(rows, 1) if len(row) < columns]:
        raise UserError(f"{file} row {short[0]} must have {columns} fields, got {rows[short[0] - 1]!r:.100}: mend it")
    return rows
