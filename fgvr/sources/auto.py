"""Whatever source a folder or a file is, recognised by what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.aircraft import Aircraft
from fgvr.sources.base import Record, Refusal, Source
from fgvr.sources.benchmark import Benchmark
from fgvr.sources.choice_json import ChoiceJSON
from fgvr.sources.closed_world_json import ClosedWorldJSON
from fgvr.sources.csv_file import CSV
from fgvr.sources.cub import CUB
from fgvr.sources.flowers import Flowers102
from fgvr.sources.food import Food101
from fgvr.sources.image_folder import ImageFolder
from fgvr.sources.inaturalist import INaturalist
from fgvr.sources.known_layouts import look_for
from fgvr.sources.messages_json import MessagesJSON
from fgvr.sources.metadata_folder import MetadataFolder
from fgvr.sources.pets import OxfordPets
from fgvr.sources.protocols import Classes, Train
from fgvr.sources.speciarl_parquet import SpeciaRLParquet
from fgvr.sources.stanford_cars import StanfordCars
from fgvr.sources.stanford_dogs import StanfordDogs
from fgvr.sources.triplet_parquet import TripletParquet
from fgvr.taxonomy.tree import Taxonomy

BENCHMARKS: tuple[type[Benchmark], ...] = (
    *(Aircraft, CUB, Flowers102, Food101, INaturalist, OxfordPets, StanfordCars, StanfordDogs),
)
OTHERS: tuple[Any, ...] = (
    *(ChoiceJSON, ClosedWorldJSON, CSV, ImageFolder, MessagesJSON, MetadataFolder, SpeciaRLParquet, TripletParquet),
)


class Auto(Source):
    """The source that `root`, a folder or a file, is recognised as; packing says which, and by what it was known.

    `classes`, `train`, `shots`, `seed` and `split_file` are those of a benchmark, refused where `root` is none.
    `dataset` is what the set is called. `--source auto DIR` is short for this.
    """

    def __init__(
        self,
        root: Path,
        classes: Classes = "all",
        train: Train = "all",
        shots: int | None = None,
        seed: int = 0,
        split_file: Path | None = None,
        dataset: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.asked: dict[str, Any] = {
            "classes": classes,
            "train": train,
            "shots": shots,
            "seed": seed,
            "split_file": split_file,
        }
        self.seen = look_for(self.root)
        self.found = self._found(dataset)
        self.dataset, self.walked = self.found.dataset, self.found.walked

    def _found(self, dataset: str | None) -> Source:
        kind, root, _ = self.seen
        for benchmark in BENCHMARKS:
            if benchmark.__name__ == kind:
                return benchmark(root, dataset=dataset, **self.asked)
        usual = {"classes": "all", "train": "all", "shots": None, "seed": 0, "split_file": None}
        if changed := [name for name, value in self.asked.items() if value != usual[name]]:
            raise UserError(
                f"{' and '.join(changed)} must be asked of a benchmark, but {root} is one for {kind}: leave "
                f"{'it' if len(changed) == 1 else 'them'} out"
            )
        return next(other for other in OTHERS if other.__name__ == kind)(root, dataset=dataset)

    @cached_property
    def sentence(self) -> str:
        """What it was recognised as and by what."""
        return f"{self.seen.root} is read as {self.seen.kind}: it has {' and '.join(self.seen.saw)}"

    def taxonomy(self) -> Taxonomy:
        return self.found.taxonomy()

    def records(self) -> Iterator[Record | Refusal]:
        return self.found.records()

    def describe(self) -> dict[str, Any]:
        return self.found.describe()

    def read_labels_by(self, find: Callable[[str], str | None]) -> None:
        self.found.read_labels_by(find)

    def remarks(self) -> list[str]:
        return [self.sentence, *self.found.remarks()]
