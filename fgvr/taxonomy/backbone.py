"""A biodiversity backbone: a Darwin Core table of taxa, as GBIF publishes it, asked for exact names alone."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fgvr.errors import UserError
from fgvr.taxonomy.spelling import normalise

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")  # its columns, coarse to fine
FINE = (
    "species",
    "subspecies",
    "variety",
    "form",
    "",
)  # ranks of a taxon that a class may be; empty where none is told
VERNACULAR = "VernacularName.tsv"  # GBIF's common names, beside its Taxon.tsv
LONGEST = 10_000_000  # characters of a field


@dataclass(frozen=True)
class Taxon:
    """One taxon: its scientific name without the author, and its names at `RANKS`, "" where it has none."""

    name: str
    lineage: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """What a backbone says of some names: the taxon of each `matched`, the taxa of each `ambiguous` one, and the rest.

    `common` are those matched by a common name. `digest` is the sha256 of the files that were read.
    """

    matched: Mapping[str, Taxon]
    ambiguous: Mapping[str, tuple[Taxon, ...]]
    unmatched: tuple[str, ...]
    common: frozenset[str]
    digest: str


@dataclass
class _Found:
    """The taxa that were met under one name; those whose name is accepted count before all others."""

    accepted: set[Taxon] = field(default_factory=set)
    others: set[Taxon] = field(default_factory=set)

    @property
    def taxa(self) -> tuple[Taxon, ...]:
        return tuple(sorted(self.accepted or self.others, key=lambda one: (one.name, one.lineage)))


def ask_backbone(file: Path, names: Iterable[str]) -> Answers:
    """Looks up names, past case and punctuation only: as scientific names, else as common ones.

    The table (.csv, or tab-separated and unquoted) has the columns of `RANKS`, and canonicalName or scientificName;
    taxonRank, taxonomicStatus and vernacularName are used where it has them, and so is VernacularName.tsv beside it.
    Only species and what is below them match. A name of several taxa is ambiguous unless one alone is accepted. Raises
    UserError for a file that is not such a table.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        wanted[normalise(name)].append(name)
    wanted.pop("", None)
    beside = file.parent / VERNACULAR
    common_of = _common_names(beside, wanted) if beside.is_file() else {}
    scientific: dict[str, _Found] = defaultdict(_Found)
    common: dict[str, _Found] = defaultdict(_Found)
    for row in _rows(file, RANKS, ("canonicalName", "scientificName")):
        if row.get("taxonRank", "").casefold() not in FINE:
            continue
        keys = {normalise(row.get("canonicalName", "")), normalise(row.get("scientificName", ""))} & wanted.keys()
        spoken = {normalise(row.get("vernacularName", "")), *common_of.get(row.get("taxonID", ""), ())} & wanted.keys()
        for found, hit in ((scientific, keys), (common, spoken)):
            for key in hit:
                taxa = found[key].accepted if row.get("taxonomicStatus", "") in ("accepted", "") else found[key].others
                taxa.add(Taxon(row.get("canonicalName") or row["scientificName"], tuple(row[rank] for rank in RANKS)))
    matched: dict[str, Taxon] = {}
    ambiguous: dict[str, tuple[Taxon, ...]] = {}
    for key, spelt in wanted.items():
        taxa = (scientific.get(key) or common.get(key) or _Found()).taxa
        for name in spelt:
            if len(taxa) == 1:
                matched[name] = taxa[0]
            elif taxa:
                ambiguous[name] = taxa
    everything = [name for spelt in wanted.values() for name in spelt]
    unmatched = tuple(sorted(name for name in everything if name not in matched and name not in ambiguous))
    by_common = frozenset(name for name in matched if normalise(name) not in scientific)
    return Answers(matched, ambiguous, unmatched, by_common, _digest(file, beside))


def _common_names(file: Path, wanted: Mapping[str, object]) -> dict[str, set[str]]:
    """The wanted common names of each taxon, by its taxonID."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in _rows(file, ("taxonID", "vernacularName"), ()):
        if (key := normalise(row["vernacularName"])) in wanted:
            found[row["taxonID"]].add(key)
    return found


def _rows(file: Path, needed: tuple[str, ...], either: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table as they stand in it. Raises UserError, with the line, for one that cannot be read."""
    before = csv.field_size_limit(LONGEST)
    number = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            quoted = file.suffix.casefold() == ".csv"
            table = (
                csv.reader(stream, strict=True) if quoted else csv.reader(stream, "excel-tab", quoting=csv.QUOTE_NONE)
            )
            columns = [column.rpartition("/")[2].rpartition(":")[2].strip() for column in next(table, [])]
            lacking = [column for column in needed if column not in columns]
            if either and not {*either} & {*columns}:
                lacking.append(" or ".join(either))
            if lacking:
                raise UserError(
                    f"{file} must be a Darwin Core table, as GBIF's Taxon.tsv, but it has no column "
                    f"{', '.join(lacking)}: name the file with a row for each taxon"
                )
            for number, cells in enumerate(table, 2):
                if len(cells) != len(columns):
                    raise UserError(
                        f"{file} line {number} must have {len(columns)} fields, but it has {len(cells)}: mend it"
                    )
                yield dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file} must be a table in UTF-8, but it cannot be read after line {number}: {error}"
        ) from error
    finally:
        csv.field_size_limit(before)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
