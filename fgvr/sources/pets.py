"""The Oxford-IIIT Pet data set as its archives unpack."""

from __future__ import annotations

from fgvr.errors import UserError
from fgvr.sources.benchmark import Benchmark, Listing, read_lines
from fgvr.sources.protocols import Photo

SPECIES = {"1": "cat", "2": "dog"}


class OxfordPets(Benchmark):
    """Oxford-IIIT Pet: the folder that holds images/ and annotations/ with trainval.txt and test.txt.

    american_pit_bull_terrier_1 shows an "american pit bull terrier". The taxonomy is species > breed. What the lists do
    not name, such as the .mat files that lie among the images, is not looked at.
    """

    KIND, NAME, ROOT = "OxfordPets", "pets", "pet"

    def listing(self) -> Listing:
        named: dict[int, tuple[str, ...]] = {}
        photos: list[Photo] = []
        for file, split in (("trainval", "train"), ("test", "test")):
            for number, line in enumerate(read_lines(self.root / f"annotations/{file}.txt"), 1):
                if line.startswith("#"):
                    continue
                fields = line.split()
                if len(fields) != 4 or not fields[1].isdecimal() or fields[2] not in SPECIES or "_" not in fields[0]:
                    raise UserError(
                        f"annotations/{file}.txt line {number} must be BREED_N, class, 1 or 2, and breed, got "
                        f"{line!r:.100}: unpack it again"
                    )
                path = (SPECIES[fields[2]], fields[0].rpartition("_")[0].replace("_", " "))
                if named.setdefault(int(fields[1]), path) != path:
                    raise UserError(
                        f"annotations/{file}.txt line {number} must be of the class that its number had before, "
                        f"{named[int(fields[1])][-1]!r}, but it is {path[-1]!r}: unpack it again"
                    )
                photos.append(Photo(f"images/{fields[0]}.jpg", fields[1], split))
        return Listing({str(number): path for number, path in sorted(named.items())}, photos, ("species", "breed"))
