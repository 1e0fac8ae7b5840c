"""Benchmarks as they come out of their archives, a few folders of each."""

from pathlib import Path

import pytest
from sourced import parted, touch

from fgvr.errors import UserError
from fgvr.shards.plan import PackOptions, make_plan
from fgvr.sources import ImageFolder
from fgvr.sources.downloads import without_number

CUB = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "036.Northern_Flicker", "096.Hooded_Oriole")
DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02086240-Shih-Tzu")


def pictures(root: Path, folders: tuple[str, ...] | list[str]) -> Path:
    return touch(root, *(f"{folder}/{number}.jpg" for folder in folders for number in range(2)))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02086240-Shih-Tzu", "Shih-Tzu"),
        ("12_wren", "wren"),
        ("737-800", "737-800"),
        ("2012 BMW M3 Coupe", "2012 BMW M3 Coupe"),
        ("apple_pie", "apple_pie"),
        ("F-16A_B", "F-16A_B"),
    ],
)
def test_only_a_number_before_a_name_is_dropped(folder, name):
    assert without_number(folder) == name


@pytest.mark.parametrize(("folders", "name"), [(CUB, "Black footed Albatross"), (DOGS, "Chihuahua")])
@pytest.mark.parametrize("splits", [("",), ("train/", "test/")])
def test_numbered_class_folders_are_refused_until_it_is_said_what_they_mean(tmp_path, folders, name, splits):
    root = pictures(tmp_path / "in", [split + folder for split in splits for folder in folders])
    with pytest.raises(UserError, match=rf"such as '{folders[0]}': set drop_numbers true to take '{name}' as the name"):
        ImageFolder(root).taxonomy()
    plain = ImageFolder(root, drop_numbers=True)
    assert name in plain.taxonomy().paths
    assert parted(plain)[1] == {}
    assert folders[0] in ImageFolder(root, drop_numbers=False).taxonomy().paths


def test_only_what_was_asked_for_is_part_of_what_a_set_says_of_its_source(tmp_path):
    root = pictures(tmp_path, CUB)
    assert ImageFolder(root, drop_numbers=False, leave_out=[]).describe().keys() == {
        "kind", "dataset", "splits", "ranks"
    }  # fmt: skip
    assert ImageFolder(root, drop_numbers=True).describe()["drop_numbers"] is True


def test_names_of_a_taxonomy_are_found_behind_the_numbers(tmp_path):
    root = pictures(tmp_path, CUB)
    names = [without_number(folder) for folder in CUB]
    (root / "taxonomy.yaml").write_text(f"ranks: [species]\npaths: {{{', '.join(f'{n}: [{n}]' for n in names)}}}\n")
    with pytest.raises(UserError, match="set drop_numbers true"):
        ImageFolder(root).taxonomy()
    assert len(parted(ImageFolder(root, drop_numbers=True))[0]) == 8


@pytest.mark.parametrize("folders", [["n01440764", "n01443537", "n01484850"], [str(number) for number in range(1, 12)]])
def test_numbers_without_names_are_refused(tmp_path, folders):
    root = pictures(tmp_path, folders)
    with pytest.raises(
        UserError, match=r"are numbers, such as .* write a taxonomy\.yaml with the number of each class"
    ):
        ImageFolder(root).taxonomy()
    assert len(ImageFolder(root, drop_numbers=False).taxonomy().paths) == len(folders)


@pytest.mark.parametrize(
    "folders",
    [
        ["737-700", "737-800", "747-400", "A300B4"],
        ["2012 BMW M3 Coupe", "2012 Audi A4", "2010 Audi A4"],
        ["2012_BMW_M3", "2012_Audi_A4", "2010_Audi_A4"],  # a year is the same for several
        ["audi/2012 A4", "bmw/2012 M3"],
        ["wren", "001.crow", "raven"],
    ],
)
def test_numbers_that_belong_to_a_name_are_left_alone(tmp_path, folders):
    assert ImageFolder(pictures(tmp_path, folders)).taxonomy().paths


@pytest.mark.parametrize("above", ["images", "CUB_200_2011/images", "Images", "data"])
def test_a_folder_around_the_class_folders_is_no_rank(tmp_path, above):
    root = touch(pictures(tmp_path / "in", [f"{above}/{name}" for name in ("wren", "crow", "tit")]), f"{above}/x.jpg")
    with pytest.raises(UserError, match=rf"all pictures of {root} lie in its folder {above}: give {root}/{above} as"):
        ImageFolder(root).taxonomy()
    assert set(ImageFolder(root / above).taxonomy().paths) == {"wren", "crow", "tit"}


def test_a_folder_around_the_splits_is_no_rank(tmp_path):
    root = pictures(tmp_path / "in", [f"cars/{split}/{name}" for split in ("train", "test") for name in ("a", "b")])
    with pytest.raises(UserError, match=rf"give {root}/cars as root"):
        ImageFolder(root).taxonomy()
    inner = pictures(tmp_path / "two", [f"{split}/images/{name}" for split in ("train", "test") for name in ("a", "b")])
    with pytest.raises(
        UserError, match=r"must lie in the split folders themselves, but in .* they all lie in a folder"
    ):
        ImageFolder(inner).taxonomy()


def test_one_family_above_all_is_a_rank(tmp_path):
    root = pictures(tmp_path, ["tits/blue tit", "tits/great tit"])
    assert ImageFolder(root).taxonomy().paths["blue tit"] == ("tits", "blue tit")


@pytest.mark.parametrize("beside", ["devkit/meta.mat", "annotations/wren/1.xml"])
@pytest.mark.parametrize("splits", [("",), ("train/", "test/")])
def test_metadata_beside_the_pictures_is_no_bad_picture(tmp_path, beside, splits):
    root = pictures(tmp_path / "in", [f"{split}{name}" for split in splits for name in ("wren", "crow")])
    touch(root, beside, "labels.txt")
    top = beside.split("/")[0]
    with pytest.raises(
        UserError, match=rf"but {top} does not \({beside}: it must be an image .*--source\.leave_out '\[{top}\]'"
    ):
        ImageFolder(root).taxonomy()
    good, bad = parted(ImageFolder(root, leave_out=[top]))
    assert (len(good), bad) == (4 * len(splits), {})
    with pytest.raises(UserError, match="there is no 'lists'"):
        ImageFolder(root, leave_out=["lists"]).taxonomy()


def test_pictures_beside_the_splits_can_be_left_out(tmp_path):
    root = touch(pictures(tmp_path, ["train/wren", "train/crow"]), "segmentations/1.png")
    with pytest.raises(UserError, match="move these, name them in leave_out, or set splits"):
        ImageFolder(root).taxonomy()
    assert len(parted(ImageFolder(root, leave_out=["segmentations"]))[0]) == 4


def test_splits_without_class_folders_are_no_classes(tmp_path):
    root = pictures(tmp_path, ["train", "val", "test"])
    with pytest.raises(UserError, match=r"lie in \['test', 'train', 'val'\], which are named like splits: sort them"):
        ImageFolder(root).taxonomy()
    assert len(ImageFolder(root, splits=False).taxonomy().paths) == 3


def test_a_single_class_is_refused_with_where_to_look(tmp_path):
    root = pictures(tmp_path, ["wren"])
    with pytest.raises(UserError, match="it has 'wren' alone: name the folder or the table that holds all classes"):
        make_plan(ImageFolder(root), PackOptions())
