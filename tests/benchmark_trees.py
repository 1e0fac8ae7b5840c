"""Benchmarks written as their archives unpack, small, with the quirks of the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostile import jpeg
from scipy.io import savemat


def lines(file: Path, *rows: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def photos(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(sum(name.encode()) + 7 * number))


def cells(texts: Sequence[str]) -> np.ndarray:
    held = np.empty((len(texts), 1), dtype=object)
    held[:, 0] = texts
    return held


def structs(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    held = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        held[0, place] = tuple(row.values())
    return held


def cub(
    root: Path, named: Sequence[str] = ("001.Black_footed_Albatross", "002.Brandt's_Cormorant"), each: int = 4
) -> Path:
    """So many photos of each class, two of four to train on."""
    files = [f"{name}/{name.partition('.')[2]}_{n:04d}.jpg" for name in named for n in range(each)]
    photos(root, *(f"images/{file}" for file in files))
    lines(root / "classes.txt", *(f"{number} {name}" for number, name in enumerate(named, 1)))
    lines(root / "images.txt", *(f"{number} {file}" for number, file in enumerate(files, 1)))
    lines(root / "image_class_labels.txt", *(f"{n + 1} {n // each + 1}" for n in range(len(files))))
    lines(root / "train_test_split.txt", *(f"{n + 1} {int(n % 4 < 2)}" for n in range(len(files))))
    lines(root / "bounding_boxes.txt", *(f"{n + 1} 60.0 27.0 325.0 304.0" for n in range(len(files))))
    lines(root / "parts/parts.txt", "1 back")
    lines(root / "README", "CUB-200-2011")
    return root


PLANES = (  # manufacturer, family, variant
    ("Airbus", "A380", "A380"),
    ("Boeing", "Boeing 707", "707-320"),
    ("Boeing", "Boeing 737", "737-200"),
    ("McDonnell Douglas", "F/A-18", "F/A-18"),
    ("Supermarine", "Spitfire", "Spitfire"),
)


def aircraft(root: Path) -> Path:
    """A photo of each variant in each split."""
    data = root / "data"
    for start, split in enumerate(("train", "val", "test")):
        ids = [f"{start}{n:06d}" for n in range(len(PLANES))]
        photos(data, *(f"images/{one}.jpg" for one in ids))
        for place, level in enumerate(("manufacturer", "family", "variant")):
            rows = [f"{one} {plane[place]}" for one, plane in zip(ids, PLANES, strict=True)]
            lines(data / f"images_{level}_{split}.txt", *rows)
        lines(data / f"images_{split}.txt", *ids)
    lines(data / "variants.txt", *sorted(variant for _, _, variant in PLANES))
    lines(data / "families.txt", *sorted({family for _, family, _ in PLANES}))
    lines(data / "images_box.txt", "0000000 1 1 20 20")
    lines(root / "README.html", "<html>")
    return root


CARS = (
    "AM General Hummer SUV 2000",
    "Audi S4 Sedan 2007",
    "Audi S4 Sedan 2012",
    "Bentley Continental Supersports Conv. Convertible 2012",
    "Ram C/V Cargo Van Minivan 2012",
)


def cars(root: Path, labelled: bool = True) -> Path:
    """Two photos of each class to train on, one to test."""
    boxes = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 9, "bbox_y2": 9}
    sets: dict[str, list[dict[str, Any]]] = {}
    for split, each in (("train", 2), ("test", 1)):
        rows = [{**boxes, "class": n // each + 1, "fname": f"{n + 1:05d}.jpg"} for n in range(each * len(CARS))]
        photos(root, *(f"cars_{split}/{row['fname']}" for row in rows))
        sets[split] = rows
    (root / "devkit").mkdir()
    savemat(root / "devkit/cars_meta.mat", {"class_names": cells(CARS).T})
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": structs(sets["train"])}, do_compression=True)
    bare = [{key: value for key, value in row.items() if key != "class"} for row in sets["test"]]
    savemat(root / "devkit/cars_test_annos.mat", {"annotations": structs(bare)})
    if labelled:
        savemat(root / "cars_test_annos_withlabels.mat", {"annotations": structs(sets["test"])})
    return root


def one_list_of_cars(root: Path) -> Path:
    rows = [
        {"relative_im_path": f"car_ims/{n + 1:06d}.jpg", "bbox_x1": 1, "class": n // 3 + 1, "test": int(n % 3 == 2)}
        for n in range(3 * len(CARS))
    ]
    photos(root, *(row["relative_im_path"] for row in rows))
    savemat(root / "cars_annos.mat", {"annotations": structs(rows), "class_names": cells(CARS).T})
    return root


def tables_of_cars(root: Path) -> Path:
    """The copy with CSV lists without headers, in which a slash in a class is a hyphen in its folder."""
    lines(root / "names.csv", *CARS)
    for split, each in (("train", 2), ("test", 1)):
        rows = [(f"{n + 1:05d}.jpg", n // each) for n in range(each * len(CARS))]
        photos(root, *(f"car_data/car_data/{split}/{CARS[c].replace('/', '-')}/{file}" for file, c in rows))
        lines(root / f"anno_{split}.csv", *(f"{file},39,116,569,375,{c + 1}" for file, c in rows))
    return root


DOGS = ("n02085620-Chihuahua", "n02099429-curly-coated_retriever", "n02105056-groenendael")


def dogs(root: Path, lists: bool = True) -> Path:
    files = [f"{folder}/{folder.split('-')[0]}_{n}.jpg" for folder in DOGS for n in range(3)]
    photos(root, *(f"Images/{file}" for file in files))
    lines(root / f"Annotation/{DOGS[0]}/n02085620_0", "<annotation>")
    for split, mine in (("train", [0, 1]), ("test", [2])) if lists else ():
        held = [file for place, file in enumerate(files) if place % 3 in mine]
        labels = [[float(DOGS.index(file.split("/")[0]) + 1)] for file in held]
        savemat(root / f"{split}_list.mat", {"file_list": cells(held), "labels": labels})
    return root


def flowers(root: Path, count: int = 9) -> Path:
    """Photos of the classes 1, 41 and 77: of each three one to train on, one to validate, one to test."""
    photos(root, *(f"jpg/image_{n + 1:05d}.jpg" for n in range(count)))
    labels = np.array([[(1, 41, 77)[n // 3] for n in range(count)]], dtype=np.uint8)
    savemat(root / "imagelabels.mat", {"labels": labels}, do_compression=True)
    sets = {
        name: np.array([[n + 1 for n in range(count) if n % 3 == place]], np.uint16)
        for place, name in enumerate(("trnid", "valid", "tstid"))
    }
    savemat(root / "setid.mat", sets)
    return root


PETS = (("Abyssinian", 1, 1), ("american_pit_bull_terrier", 2, 3), ("Egyptian_Mau", 3, 1), ("yorkshire_terrier", 4, 2))


def pets(root: Path) -> Path:
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    for breed, number, species in PETS:
        species = min(species, 2)
        for n in range(3):
            photos(root, f"images/{breed}_{n}.jpg")
            rows["test" if n == 2 else "trainval"].append(f"{breed}_{n} {number} {species} 1")
    for split, held in rows.items():
        lines(root / f"annotations/{split}.txt", *held)
    lines(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID", *rows["trainval"], *rows["test"])
    (root / "images/Abyssinian_100.mat").write_bytes(b"MATLAB 5.0")
    lines(root / "annotations/._trimaps", "x")
    return root


def food(root: Path) -> Path:
    named = ("baby_back_ribs", "creme_brulee", "pho")
    photos(root, *(f"images/{name}/{n}.jpg" for name in named for n in (1005649, 2, 3)))
    lines(root / "meta/classes.txt", *named)
    lines(root / "meta/labels.txt", "Baby back ribs", "Creme brulee", "Pho")
    lines(root / "meta/train.txt", *(f"{name}/{n}" for name in named for n in (1005649, 2)))
    lines(root / "meta/test.txt", *(f"{name}/3" for name in named))
    lines(root / "meta/train.json", json.dumps({}))
    return root


def category(number: int, common: str, *names: str) -> dict[str, Any]:
    ranks = ("kingdom", "phylum", "class", "order", "family", "genus", "name")
    lineage = dict(zip(ranks, names, strict=True))
    folder = f"{number:05d}_" + "_".join(names).replace(" ", "_")
    return {
        "id": number, "common_name": common, "supercategory": names[2], "image_dir_name": folder,
        "specific_epithet": names[-1].split()[-1], **lineage,
    }  # fmt: skip


PERCHING, WRENS = ("Animalia", "Chordata", "Aves", "Passeriformes"), ("Wrens", "Troglodytes")
FLOWERING = ("Plantae", "Tracheophyta", "Magnoliopsida", "Caryo", "Caryophyll")
INAT = (
    category(0, "Sand Star", *PERCHING, "Passeridae", "Arenaria", "Arenaria alba"),
    category(1, "Sandwort", *FLOWERING, "Arenaria", "Arenaria bella"),
    category(2, "House Wren", *PERCHING, *WRENS, "Troglodytes aedon"),
    category(3, "House Wren", *PERCHING, *WRENS, "Troglodytes musculus"),
)


def inaturalist(root: Path, mini: bool = True, categories: Sequence[dict[str, Any]] = INAT) -> Path:
    for top in ("train_mini" if mini else "train", "val"):
        rows = [(one, f"{top}/{one['image_dir_name']}/{n}.jpg") for one in categories for n in range(2)]
        photos(root, *(file for _, file in rows))
        held = {
            "info": {"year": 2021},
            "images": [{"id": n, "file_name": file, "width": 40, "height": 30} for n, (_, file) in enumerate(rows)],
            "categories": list(categories),
            "annotations": [{"id": n, "image_id": n, "category_id": one["id"]} for n, (one, _) in enumerate(rows)],
        }
        (root / f"{top}.json").write_text(json.dumps(held))
    return root


def hugging_face(root: Path, jsonl: bool = False) -> Path:
    """train/ and test/, each with its own table; labels that a table reader likes to make something else of."""
    labels = ("None", "NA", "1e5", "Wren.")
    for split in ("train", "test"):
        names = [f"{n}.jpg" for n in range(len(labels))]
        photos(root / split, *names)
        rows = list(zip(names, labels, strict=True))
        if jsonl:
            said = [json.dumps({"file_name": name, "label": label, "photographer": "M"}) for name, label in rows]
            lines(root / split / "metadata.jsonl", *said)
        else:
            lines(root / split / "metadata.csv", "file_name,label,photographer", *(f"{a},{b},M" for a, b in rows))
    return root
