"""Small birds in real shards, for triplets: a taxonomy of two families, and photos that no two share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import QUESTION, photo, tiny_backbone

from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import ShardSource, TripletData
from fgvr.models import PixelBudget
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources.image_folder import ImageFolder
from fgvr.types import Example

FINCHES, OWLS = ("Amber Finch", "Azure Finch", "Crimson Finch"), ("Grey Owl", "Jade Owl", "Snow Owl")
FAMILY = {bird: family for family, birds in (("Finch", FINCHES), ("Owl", OWLS)) for bird in birds}
EVEN = dict.fromkeys(FAMILY, 5)


def write_photos(folder: Path, train: Mapping[str, int], first: int = 0, val: int = 1) -> Path:
    """FOLDER/SPLIT/FAMILY/BIRD/N.png, each photo of its own seed from `first` on."""
    number = first
    for split, counts in (("train", train), ("val", dict.fromkeys(train, val))):
        for bird, count in counts.items():
            place = folder / split / FAMILY[bird] / bird
            place.mkdir(parents=True, exist_ok=True)
            for at in range(count):
                photo(56 + 28 * (number % 2), 56, seed=number).save(place / f"{at}.png")
                number += 1
    return folder


def packed(folder: Path, train: Mapping[str, int] = EVEN, first: int = 0, **options: Any) -> Path:
    """The shard set of such photos. Its dataset is called by the folder."""
    write_photos(folder / "photos", train, first)
    source = ImageFolder(folder / "photos", dataset=folder.name)
    pack(source, folder / "shards", PackOptions(**options))
    return folder / "shards"


def triplet_data(*shards: Path | ShardSource, **options: Any) -> TripletData:
    """Set up for training, with a tiny model's processor and no Trainer."""
    sources = [one if isinstance(one, ShardSource) else ShardSource(one) for one in shards]
    settings: dict[str, Any] = {"batch_size": 6, "workers": 0} | options
    data = TripletData(sources, OpenWorld(QUESTION), **settings)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.setup("fit")
    return data


def examples_of(data: TripletData) -> list[Example]:
    """The next epoch's examples, in the order of training."""
    return [example for batch in data.train_dataloader() for example in batch.examples]


def facts(examples: list[Example]) -> list[tuple[Any, ...]]:
    """The uids of each example and of its partners."""
    return [(one.uid, one.positive and one.positive.uid, one.negative and one.negative.uid) for one in examples]
