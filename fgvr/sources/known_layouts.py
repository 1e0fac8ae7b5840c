"""Which known layout a folder or a file has: told by its names, and for files of items by the first of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from fgvr.errors import UserError
from fgvr.sources.metadata_folder import metadata_files

LAYOUTS: tuple[tuple[str, tuple[str, ...]], ...] = (  # the class that reads it, and what must be there together
    ("CUB", ("images.txt", "image_class_labels.txt", "train_test_split.txt")),
    ("Aircraft", ("data/variants.txt", "data/images")),
    ("Aircraft", ("variants.txt", "images_variant_train.txt")),
    ("StanfordCars", ("devkit/cars_meta.mat",)),
    ("StanfordCars", ("cars_annos.mat",)),
    ("StanfordCars", ("names.csv", "anno_train.csv")),
    ("StanfordCars", ("cars_train", "cars_test")),
    ("StanfordDogs", ("Images", "train_list.mat")),
    ("StanfordDogs", ("Images", "Annotation")),
    ("Flowers102", ("jpg", "imagelabels.mat")),
    ("OxfordPets", ("images", "annotations/trainval.txt")),
    ("Food101", ("images", "meta/classes.txt")),
)
INATURALIST = ("train", "train_mini")
LINEAGE_FOLDER = re.compile(r"\d{5}_[A-Z].*_.*")
HEAD = 64 * 2**10  # bytes of a file of items that tell what they are
ITEMS = (  # the source of a file whose items have these keys
    ("ClosedWorldJSON", {"image_path", "question", "options", "ground_truth"}),
    ("ChoiceJSON", {"image_path", "problem", "solution"}),
    ("MessagesJSON", {"messages", "images"}),
)
TABLES = (  # the source of a parquet file with these columns
    ("SpeciaRLParquet", {"images", "prompt", "reward_model"}),
    ("TripletParquet", {"images", "problem", "answer", "image_noisy", "image_aug"}),
)


class Sighting(NamedTuple):
    """A layout that was recognised: its source's class, where its root is, and what gave it away."""

    kind: str
    root: Path
    saw: tuple[str, ...]


def known_layout(root: Path, left_out: Collection[str] = ()) -> Sighting | None:
    """The layout of a folder, or None for one that is not known. What `left_out` names is not looked at."""
    for kind, marks in LAYOUTS:
        if all((root / mark).exists() and mark.split("/")[0] not in left_out for mark in marks):
            return Sighting(kind, root, marks)
    for top in INATURALIST:
        if (root / f"{top}.json").is_file() and not {top, f"{top}.json"} & {*left_out}:
            first = next((path.name for path in sorted((root / top).glob("*"))), "") if (root / top).is_dir() else ""
            if LINEAGE_FOLDER.fullmatch(first):
                return Sighting("INaturalist", root, (f"{top}.json", f"{top}/{first}"))
    tables = [table.relative_to(root).as_posix() for table in metadata_files(root)] if root.is_dir() else []
    if tables := [table for table in tables if table.split("/")[0] not in left_out]:
        return Sighting("MetadataFolder", root, tuple(tables))
    return None


def look_for(root: Path) -> Sighting:
    """The layout of a folder, of the one folder in it that has a known one, or of a file; else ImageFolder's.

    Raises UserError for what is no source at all, and for a folder that holds several benchmarks.
    """
    if root.is_file():
        return _of_file(root)
    if not root.is_dir():
        raise UserError(f"--source auto must be given a folder or a file, but {root} is neither: check the path")
    if (found := known_layout(root)) is not None:
        return found
    inner = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    within = [found for path in inner if (found := known_layout(path)) is not None]
    if len(within) > 1:
        named = ", ".join(f"{one.root.name} ({one.kind})" for one in within)
        raise UserError(f"--source auto must be given one benchmark, but {root} holds {named}: give one of these")
    if within:
        return within[0]
    if not inner:
        raise UserError(f"--source auto must be given a known layout or class folders, but {root} has no folders in it")
    return Sighting("ImageFolder", root, (f"folders such as {inner[0].name}",))


def _of_file(file: Path) -> Sighting:
    suffix = file.suffix.casefold()
    if suffix == ".csv":
        return Sighting("CSV", file, ("a table",))
    if suffix == ".parquet":
        columns = _columns(file)
        kind = next((kind for kind, wanted in TABLES if wanted <= columns), None)
        held = f"the columns {', '.join(sorted(columns))}"
    else:
        keys = _first_keys(file)
        kind = next((kind for kind, wanted in ITEMS if wanted <= keys), None)
        held = f"the keys {', '.join(sorted(keys)) or 'of no item'}"
    if kind is None:
        raise UserError(f"{file} must be a file of a known form, but its first item has {held:.300}: name the source")
    return Sighting(kind, file, (held,))


def _first_keys(file: Path) -> set[str]:
    """The keys of the first item of a JSON list or of JSON lines, read from the file's beginning where that does."""
    try:
        with file.open(encoding="utf-8", errors="strict" if file.stat().st_size <= HEAD else "ignore") as stream:
            text = stream.read(HEAD).lstrip("\ufeff \t\r\n")
        item, _ = json.JSONDecoder().raw_decode(text.removeprefix("[").lstrip())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} must be JSON, JSON lines, csv or parquet, but it is not: {error}") from error
    return {str(key) for key in item} if isinstance(item, dict) else set()


def _columns(file: Path) -> set[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError("reading parquet needs pyarrow, which is not there: pip install 'fgvr[parquet]'") from error
    try:
        schema: Any = parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} must be a parquet file, but it cannot be read as one: {error}") from error
    return set(schema.names)
