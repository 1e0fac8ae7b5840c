"""A small backbone as GBIF publishes it: Taxon.tsv, and VernacularName.tsv beside it."""

from __future__ import annotations

from pathlib import Path

COLUMNS = (
    "taxonID", "scientificName", "canonicalName", "taxonRank", "taxonomicStatus",
    "kingdom", "phylum", "class", "order", "family", "genus",
)  # fmt: skip
BIRD = ("Animalia", "Chordata", "Aves")
ALBATROSS = (*BIRD, "Procellariiformes", "Diomedeidae", "Phoebastria")
THRUSHES, CHATS = (*BIRD, "Passeriformes", "Turdidae"), (*BIRD, "Passeriformes", "Muscicapidae")
MULBERRY = ("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Moraceae", "Morus")
ROWS = (
    ("1", "Phoebastria nigripes (Audubon, 1839)", "Phoebastria nigripes", "species", "accepted", *ALBATROSS),
    ("2", "Diomedea nigripes Audubon, 1839", "Diomedea nigripes", "species", "synonym", *ALBATROSS),
    ("3", "Turdus migratorius L.", "Turdus migratorius", "species", "accepted", *THRUSHES, "Turdus"),
    ("4", "Erithacus rubecula L.", "Erithacus rubecula", "species", "accepted", *CHATS, "Erithacus"),
    ("5", 'Oenanthe "sp. L.', "Oenanthe oenanthe", "species", "accepted", *CHATS, "Oenanthe"),
    ("6", "Turdus L.", "Turdus", "genus", "accepted", *THRUSHES, "Turdus"),
    ("7", "Morus alba L.", "Morus alba", "species", "accepted", *MULBERRY),
    ("8", "Morus alba X.", "Morus alba", "species", "doubtful", *BIRD, "Suliformes", "Sulidae", "Morus"),
)
COMMON = (
    *(("1", "Black-footed Albatross"), ("3", "Robin"), ("4", "Robin"), ("7", "White Mulberry")),
    ("8", "turdus migratorius"),
)


def backbone(folder: Path, rows: tuple[tuple[str, ...], ...] = ROWS, columns: tuple[str, ...] = COLUMNS) -> Path:
    file = folder / "Taxon.tsv"
    file.write_text("".join("\t".join(row) + "\n" for row in (columns, *rows)), encoding="utf-8")
    common = "".join("\t".join(row) + "\n" for row in (("taxonID", "vernacularName"), *COMMON))
    (folder / "VernacularName.tsv").write_text(common, encoding="utf-8")
    return file
