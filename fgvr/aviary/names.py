"""Who lives in the Aviary: orders, families, genera and species, with the plumage and the mark that tell them apart.

The catalogue is fixed: no seed changes a name or what it looks like. A species is one genus' plumage with one mark, and
its name says so: a Crimson-browed Sunfinch is a Sunfinch with a crimson brow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

Colour = tuple[int, int, int]

RANKS = ("order", "family", "genus", "species")
ROOT = "bird"

MARK_COLOURS: dict[str, Colour] = {
    "Crimson": (208, 16, 44),
    "Amber": (255, 172, 10),
    "Azure": (36, 132, 255),
    "Violet": (150, 44, 222),
    "Ivory": (255, 250, 236),
    "Ebony": (16, 14, 20),
    "Lime": (138, 226, 34),
    "Rose": (255, 112, 178),
}
MARK_PLACES: dict[str, str] = {
    "brow": "browed",
    "cap": "capped",
    "throat": "throated",
    "collar": "collared",
    "breast": "breasted",
    "bar": "barred",
    "rump": "rumped",
    "tail": "tailed",
}


@dataclass(frozen=True)
class Plumage:
    """A genus' colours; `pattern` is what its underparts carry: plain, streaked, barred or scaled."""

    back: Colour
    belly: Colour
    wing: Colour
    head: Colour
    bill: Colour
    pattern: str


@dataclass(frozen=True)
class Genus:
    """One genus: its scientific name (the node) and the noun that its species' names end in."""

    order: str
    family: str
    name: str
    noun: str
    plumage: Plumage
    mark_colours: tuple[str, ...]
    mark_places: tuple[str, ...]


@dataclass(frozen=True)
class Species:
    """One species: what to call it, where it stands, and what to draw. `mark_place` is a key of MARK_PLACES."""

    name: str
    genus: Genus
    mark_colour: str
    mark_place: str

    @property
    def path(self) -> tuple[str, ...]:
        return (self.genus.order, self.genus.family, self.genus.name, self.name)


# "order family", then its genera: noun, genus, colours of back, belly, wing, head and bill, pattern, three mark colours
# and three mark places. Every mark stands out from what it lies on. There are only sixteen marks, each shared by genera
# of several families: so a mark tells nothing of the family, and neither do the first words of a name.
_TABLE = """
Cantiformes Finches
  Sunfinch     Solispiza        e8b61c f8e27a 5d5a22 e8b61c 8a7a68 plain    Ivory   Azure   Ebony   collar cap    breast
  Slatefinch   Petrospiza       5f7690 d5dde4 34414f 5f7690 3c3f46 streaked Lime    Rose    Amber   tail   bar    brow
  Rustfinch    Ferrospiza       a14c22 e8c9a0 54301d a14c22 c9a26a scaled   Violet  Ebony   Ivory   breast rump   cap
Cantiformes Sippers
  Leafsipper   Viridornis       2f9a56 b9dfae 1d5b3f 2f9a56 2b2626 plain    Lime    Rose    Ivory   bar    tail   collar
  Plumsipper   Prunornis        69398c c9b3d6 3a2153 69398c 2b2626 scaled   Ivory   Azure   Lime    cap    collar bar
  Honeysipper  Mellornis        e07d1e f6d49a 7c4215 e07d1e 2b2626 streaked Ebony   Violet  Azure   rump   breast collar
Cantiformes Crestjays
  Skyjay       Caelocitta       3d7fd0 e4ecf2 1f4a92 3d7fd0 26282e plain    Crimson Amber   Ivory   throat brow   cap
  Pinejay      Pinocitta        32694a aebf8d 1f4230 32694a 26282e barred   Rose    Lime    Azure   bar    tail   cap
  Fawnjay      Cervocitta       c08f63 efdcc2 6b4a36 c08f63 33302e plain    Ivory   Azure   Ebony   collar cap    breast
Cantiformes Plumetails
  Silkplume    Sericura         e9e2d2 faf6ec a39a8c e9e2d2 59636e plain    Amber   Crimson Ebony   brow   throat rump
  Copperplume  Cuprura          b8502c eaa873 6e2a1c b8502c 3a3230 plain    Violet  Ebony   Lime    rump   breast tail
  Inkplume     Atramura         2f3566 7d86b4 1a1d3e 2f3566 4a4a52 scaled   Azure   Ivory   Amber   cap    collar throat
Paludiformes Herons
  Mistheron    Nebulardea       8fa6b8 eef2f4 566b80 a9bccb d9a53a plain    Rose    Lime    Crimson tail   bar    brow
  Tawnyheron   Fulvardea        b97a3c f0d7a6 734720 b97a3c e0b548 streaked Ebony   Violet  Rose    breast rump   tail
  Jadeheron    Jadardea         3c8577 bcd6c0 22504c 3c8577 2e3436 plain    Crimson Amber   Rose    throat brow   bar
Paludiformes Ducks
  Frostdrake   Pruinanas        d3dae0 f7fafb 8794a2 d3dae0 e39a32 plain    Violet  Ebony   Crimson breast rump   throat
  Russetdrake  Rubranas         99502f dca876 5c2f20 99502f 5b6f86 scaled   Azure   Ivory   Violet  collar cap    breast
  Bottledrake  Vitranas         8d8a80 dcd8cc 5a564e 1d6b4a d8b43a barred   Amber   Crimson Ebony   brow   throat rump
Silviformes Owls
  Moonowl      Lunastrix        ddd2bd f9f4e8 b19c7c e6dcc8 d8c08a plain    Ebony   Violet  Azure   rump   breast collar
  Smokeowl     Fumostrix        6d747e c3c8cd 434952 6d747e c9b66a barred   Crimson Amber   Ivory   brow   throat collar
  Emberowl     Scintistrix      aa5a28 ecc08a 6a3518 aa5a28 d8c08a streaked Lime    Rose    Azure   bar    tail   cap
Silviformes Toucans
  Limebill     Limorhamphus     5aa83a d9e27c 2f6b2c 5aa83a e8a423 plain    Azure   Ivory   Rose    cap    collar bar
  Coalbill     Carborhamphus    2c2b31 f4efe2 17171c 2c2b31 f08b1d plain    Amber   Crimson Violet  throat brow   rump
  Coralbill    Corallorhamphus  dc5b4d f7c7ac 7c2c35 dc5b4d f2d35a plain    Rose    Lime    Violet  tail   bar    breast
"""


def _rgb(text: str) -> Colour:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


@cache
def genera() -> tuple[Genus, ...]:
    """All 24 genera, family by family."""
    found: list[Genus] = []
    order = family = ""
    for line in _TABLE.strip().splitlines():
        cells = line.split()
        if not line.startswith(" "):
            order, family = cells
            continue
        plumage = Plumage(*map(_rgb, cells[2:7]), pattern=cells[7])
        found.append(Genus(order, family, cells[1], cells[0], plumage, tuple(cells[8:11]), tuple(cells[11:14])))
    return tuple(found)


def ground(plumage: Plumage, place: str) -> Colour:
    """The colour that a mark at this place lies on."""
    return {"throat": plumage.belly, "breast": plumage.belly, "bar": plumage.wing, "tail": plumage.wing}.get(
        place, plumage.head if place in ("brow", "cap", "collar") else plumage.back
    )


# A genus' marks, as (colour, place) out of its three colours and three places: neither alone tells its species apart.
_GRID = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2))


@cache
def catalogue() -> dict[str, tuple[Species, ...]]:
    """Genus name to its five species, 120 in all."""
    species: dict[str, tuple[Species, ...]] = {}
    for genus in genera():
        marks = [(genus.mark_colours[colour], genus.mark_places[place]) for colour, place in _GRID]
        species[genus.name] = tuple(
            Species(f"{colour}-{MARK_PLACES[place]} {genus.noun}", genus, colour, place) for colour, place in marks
        )
    return species
