"""Food-101 as its archive unpacks."""

from __future__ import annotations

from fgvr.errors import UserError
from fgvr.sources.benchmark import Benchmark, Listing, read_lines
from fgvr.sources.protocols import Photo


class Food101(Benchmark):
    """Food-101: the folder food-101 with images/ and meta/. The class baby_back_ribs is called "baby back ribs"."""

    KIND, NAME, ROOT = "Food101", "food", "food"

    def listing(self) -> Listing:
        paths = {name: (name.replace("_", " "),) for name in read_lines(self.root / "meta/classes.txt")}
        photos: list[Photo] = []
        for split in ("train", "test"):
            for number, line in enumerate(read_lines(self.root / f"meta/{split}.txt"), 1):
                if line.count("/") != 1:
                    raise UserError(f"meta/{split}.txt line {number} must be CLASS/NUMBER, got {line!r:.100}: mend it")
                photos.append(Photo(f"images/{line}.jpg", line.split("/")[0], split))
        return Listing(paths, photos, ("dish",))
