"""Each benchmark on a tree as its archive unpacks: names, splits, taxonomy, and shards that stream back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import benchmark_trees as trees
import pytest
from sourced import parted

from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import (
    CUB,
    Aircraft,
    Auto,
    Benchmark,
    Flowers102,
    Food101,
    ImageFolder,
    INaturalist,
    MetadataFolder,
    OxfordPets,
    Source,
    SourceGone,
    StanfordCars,
    StanfordDogs,
)

CAR = ("make", "model", "car")
LAYOUTS: list[tuple[Callable[[Path], Path], type[Source], dict[str, int], dict[str, tuple[str, ...]]]] = [
    (
        trees.cub,
        CUB,
        {"train": 4, "test": 4},
        {"Black footed Albatross": ("Black footed Albatross",), "Brandt's Cormorant": ("Brandt's Cormorant",)},
    ),
    (
        trees.aircraft,
        Aircraft,
        {"train": 5, "val": 5, "test": 5},
        {
            "707-320": ("Boeing", "Boeing 707", "707-320"),
            "737-200": ("Boeing", "Boeing 737", "737-200"),
            "A380": ("Airbus", "A380"),
            "F/A-18": ("McDonnell Douglas", "F/A-18"),
            "Spitfire": ("Supermarine", "Spitfire"),
        },
    ),
    *(
        (
            tree,
            StanfordCars,
            {"train": 10, "test": 5},
            {
                trees.CARS[0]: ("AM General", "AM General Hummer", trees.CARS[0]),
                trees.CARS[1]: ("Audi", "Audi S4", trees.CARS[1]),
                trees.CARS[2]: ("Audi", "Audi S4", trees.CARS[2]),
                trees.CARS[3]: ("Bentley", "Bentley Continental Supersports Conv.", trees.CARS[3]),
                trees.CARS[4]: ("Ram", "Ram C/V Cargo Van", trees.CARS[4]),
            },
        )
        for tree in (trees.cars, trees.one_list_of_cars, trees.tables_of_cars)
    ),
    (
        trees.dogs,
        StanfordDogs,
        {"train": 6, "test": 3},
        {name: (name,) for name in ("Chihuahua", "curly-coated retriever", "groenendael")},
    ),
    (trees.flowers, Flowers102, {"train": 3, "val": 3, "test": 3}, {}),
    (
        trees.pets,
        OxfordPets,
        {"train": 8, "test": 4},
        {
            "Abyssinian": ("cat", "Abyssinian"),
            "american pit bull terrier": ("dog", "american pit bull terrier"),
            "Egyptian Mau": ("cat", "Egyptian Mau"),
            "yorkshire terrier": ("dog", "yorkshire terrier"),
        },
    ),
    (
        trees.food,
        Food101,
        {"train": 6, "test": 3},
        {name: (name,) for name in ("baby back ribs", "creme brulee", "pho")},
    ),
    (
        trees.inaturalist,
        INaturalist,
        {"train": 8, "val": 8},
        {
            "Arenaria alba": (
                *("Animalia", "Chordata", "Aves", "Passeriformes", "Passeridae"),
                *("Arenaria (Passeridae)", "Arenaria alba"),
            ),
            "Arenaria bella": (
                *("Plantae", "Tracheophyta", "Magnoliopsida", "Caryo", "Caryophyll"),
                *("Arenaria (Caryophyll)", "Arenaria bella"),
            ),
            **{
                name: ("Animalia", "Chordata", "Aves", "Passeriformes", "Wrens", "Troglodytes", name)
                for name in ("Troglodytes aedon", "Troglodytes musculus")
            },
        },
    ),
    (
        trees.hugging_face,
        MetadataFolder,
        {"train": 4, "test": 4},
        {name: (name,) for name in ("1e5", "NA", "None", "Wren.")},
    ),
]
IDS = [tree.__name__ for tree, *_ in LAYOUTS]


@pytest.mark.parametrize(("tree", "kind", "splits", "paths"), LAYOUTS, ids=IDS)
def test_a_benchmark_is_recognised_packed_and_streams_back(tmp_path: Path, tree, kind, splits, paths):
    root = tree(tmp_path / "in")
    source, plain = Auto(root), kind(root)
    assert source.seen.kind == kind.__name__
    assert source.describe() == plain.describe()
    records, refused = parted(plain)
    assert refused == {}
    assert Counter(record.split for record in records.values()) == splits
    if paths:
        assert dict(plain.taxonomy().paths) == paths
    said: list[str] = []
    pack(source, tmp_path / "out", PackOptions(val=0, test=0), say=said.append)
    assert any(sentence.startswith(f"{root} is read as {kind.__name__}: it has ") for sentence in said)
    for split, count in splits.items():
        shards = ShardSet(tmp_path / "out", split, ("seen",))
        assert len(shards) == count
        for number in range(count):
            example = shards.read(number)
            assert example.images[0]
            assert example.path == plain.taxonomy().paths[example.label]


@pytest.mark.parametrize(("tree", "kind"), [(tree, kind) for tree, kind, *_ in LAYOUTS], ids=IDS)
def test_an_image_folder_refuses_it_and_says_which_source_it_is(tmp_path: Path, tree, kind):
    root = tree(tmp_path / "in")
    with pytest.raises(UserError, match=f"give --source {kind.__name__} --source.root {root}"):
        ImageFolder(root).taxonomy()


def test_the_folder_above_a_benchmark_will_do_and_two_will_not(tmp_path: Path):
    trees.cub(tmp_path / "CUB_200_2011")
    assert Auto(tmp_path).seen[:2] == ("CUB", tmp_path / "CUB_200_2011")
    trees.food(tmp_path / "food-101")
    with pytest.raises(UserError, match=r"holds CUB_200_2011 \(CUB\), food-101 \(Food101\): give one of these"):
        Auto(tmp_path)


def test_cars_without_labels_for_the_test_photos_say_so(tmp_path: Path):
    source = StanfordCars(trees.cars(tmp_path / "in", labelled=False))
    assert Counter(record.split for record in parted(source)[0].values()) == {"train": 10}
    assert "put cars_test_annos_withlabels.mat into" in source.remarks()[0]
    record = parted(source)[0]["cars_train/00001.jpg"]
    assert record.extra == {"body": "SUV", "year": "2000"}


def test_dogs_without_lists_have_no_split(tmp_path: Path):
    source = StanfordDogs(trees.dogs(tmp_path / "in", lists=False))
    assert Counter(record.split for record in parted(source)[0].values()) == {None: 9}
    assert "no official split" in source.remarks()[0]
    (tmp_path / "in/train_list.mat").write_bytes(b"x")
    with pytest.raises(UserError, match=r"train_list.mat must be a readable .mat file"):
        list(source.__class__(tmp_path / "in").records())


def test_flowers_have_their_names_and_the_names_of_others(tmp_path: Path):
    source = Flowers102(trees.flowers(tmp_path))
    taxonomy = source.taxonomy()
    assert len(taxonomy.paths) == 102
    assert {record.label for record in parted(source)[0].values()} == {
        "pink primrose",
        "barbeton daisy",
        "passion flower",
    }
    assert taxonomy.find("Barberton daisy") == "barbeton daisy"
    (tmp_path / "cat_to_name.json").write_text('{"1": "x", "41": "y", "77": "z"}')
    assert list(Flowers102(tmp_path).taxonomy().paths) == ["x", "y", "z"]


def test_common_names_of_one_class_alone_are_synonyms(tmp_path: Path):
    source = INaturalist(trees.inaturalist(tmp_path))
    assert source.taxonomy().find("sandwort") == "Arenaria bella"
    assert source.taxonomy().find("House Wren") is None
    assert source.remarks() == ["2 common names are those of several classes and stand for none"]


def test_ten_thousand_classes_have_their_taxonomy(tmp_path: Path):
    many = [
        trees.category(
            n, f"Common {n}", "K", f"P{n % 7}", f"C{n % 49}", f"O{n % 98}", f"F{n % 490}", f"G{n % 4900}", f"S {n}"
        )
        for n in range(10_000)
    ]
    paths = {str(one["id"]): tuple(one[rank] for rank in ("kingdom", "genus", "name")) for one in many}
    assert len(paths) == 10_000
    from fgvr.sources.inaturalist import told_apart

    assert told_apart(paths, "living thing") == paths


@pytest.mark.parametrize(
    "kind", [CUB, Aircraft, StanfordCars, StanfordDogs, Flowers102, OxfordPets, Food101, INaturalist]
)
def test_a_folder_without_its_lists_is_a_sentence(tmp_path: Path, kind: type[Benchmark]):
    with pytest.raises(SourceGone, match=r"must have|must be"):
        list(kind(tmp_path).records())
    with pytest.raises(SourceGone, match="give its path"):
        list(kind(tmp_path / "none").records())


def test_what_lists_say_wrong_is_refused_by_file_and_line(tmp_path: Path):
    root = trees.cub(tmp_path / "cub")
    trees.lines(root / "images.txt", "1 ../../up.jpg", "2 002.Brandt's_Cormorant/none.jpg", "3 x.jpg", "1")
    with pytest.raises(UserError, match=r"images.txt line 4 must have 2 fields, got '1'"):
        list(CUB(root).records())
    trees.lines(root / "images.txt", "1 ../../up.jpg", "2 a.jpg", "2 a.jpg", "99 b.jpg")
    good, refused = parted(CUB(root))
    assert good == {}
    assert "climbs out" in refused["images/../../up.jpg"]
    assert "listed 2 times" in refused["images/a.jpg"]
    assert "not in the benchmark's list" in refused["images/b.jpg"]
    pets = trees.pets(tmp_path / "pets")
    trees.lines(pets / "annotations/test.txt", "Abyssinian_1 1 3 1")
    with pytest.raises(UserError, match=r"test.txt line 1 must be BREED_N"):
        list(OxfordPets(pets).records())
    data = trees.inaturalist(tmp_path / "inat")
    (data / "val.json").write_text('{"images": [[]]}')
    with pytest.raises(UserError, match=r"val.json must be JSON with lists of categories"):
        list(INaturalist(data).records())
