"""CUB-200-2011 as its archive unpacks."""

from __future__ import annotations

from fgvr.errors import UserError
from fgvr.sources.benchmark import Benchmark, Listing, read_columns
from fgvr.sources.protocols import Photo

SPLIT = {"1": "train", "0": "test"}


class CUB(Benchmark):
    """CUB-200-2011: the folder CUB_200_2011 with images.txt, classes.txt, image_class_labels.txt, train_test_split.txt.

    001.Black_footed_Albatross means "Black footed Albatross".
    """

    KIND, NAME, ROOT = "CUB", "cub", "bird"

    def listing(self) -> Listing:
        classes = dict(read_columns(self.root / "classes.txt", 2))
        paths = {number: (name.partition(".")[2].replace("_", " ").strip(),) for number, name in classes.items()}
        if unnamed := [classes[number] for number, path in paths.items() if not path[0]]:
            raise UserError(f"classes.txt must hold names such as 001.Laysan_Albatross, got {unnamed[0]!r}: mend it")
        labels = dict(read_columns(self.root / "image_class_labels.txt", 2))
        splits = dict(read_columns(self.root / "train_test_split.txt", 2))
        photos = [
            Photo(f"images/{file}", labels.get(number, ""), SPLIT.get(splits.get(number, "")))
            for number, file in read_columns(self.root / "images.txt", 2)
        ]
        unsplit = sum(photo.split is None for photo in photos)
        said = (
            (f"{unsplit:,} photos are in neither half of train_test_split.txt, and are split by share",)
            if unsplit
            else ()
        )
        return Listing(paths, photos, ("species",), said=said)
