"""Stanford Dogs as its archives unpack."""

from __future__ import annotations

import re

from fgvr.errors import UserError
from fgvr.sources.base import SourceGone, clean
from fgvr.sources.benchmark import Benchmark, Listing
from fgvr.sources.mat_file import read_mat
from fgvr.sources.protocols import Photo

FOLDER = re.compile(r"n\d{8}-(.+)")


class StanfordDogs(Benchmark):
    """Stanford Dogs: the folder that holds Images/, and train_list.mat and test_list.mat of lists.tar.

    n02099429-curly-coated_retriever means "curly-coated retriever". Without the two lists there is no official split.
    """

    KIND, NAME, ROOT = "StanfordDogs", "dogs", "dog"

    def listing(self) -> Listing:
        images = self.root / "Images"
        if not images.is_dir():
            raise SourceGone(f"Stanford Dogs must have its folder Images, but {self.root} has none: unpack images.tar")
        folders = sorted(path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
        named = {folder: FOLDER.fullmatch(folder) for folder in folders}
        if strange := [folder for folder, match in named.items() if match is None]:
            raise UserError(
                f"the folders of {images} must be called like n02085620-Chihuahua, got {strange[0]!r}: move it out"
            )
        paths = {folder: (clean(match[1].replace("_", " ")),) for folder, match in named.items() if match is not None}
        lists = [self.root / place / f"{split}_list.mat" for split in ("train", "test") for place in (".", "lists")]
        if not any(file.is_file() for file in lists):
            photos = [
                Photo(f"Images/{folder}/{file.name}", folder, None)
                for folder in folders
                for file in sorted((images / folder).iterdir())
                if not file.name.startswith(".")
            ]
            said = f"{self.root} has no train_list.mat and test_list.mat (lists.tar), so there is no official split"
            return Listing(paths, photos, ("breed",), said=(said,))
        return Listing(paths, self._listed("train") + self._listed("test"), ("breed",))

    def _listed(self, split: str) -> list[Photo]:
        files = [self.root / f"{split}_list.mat", self.root / f"lists/{split}_list.mat"]
        file = next((one for one in files if one.is_file()), files[0])
        if not file.is_file():
            raise SourceGone(f"the benchmark must have both of its lists, but {file} is not a file: unpack lists.tar")
        held = read_mat(file).get("file_list")
        if not isinstance(held, list) or not all(isinstance(one, str) and one.count("/") == 1 for one in held):
            raise UserError(f"{file} must hold file_list, a cell of FOLDER/FILE, but it does not: unpack it again")
        return [Photo(f"Images/{one}", one.split("/")[0], split) for one in held]
