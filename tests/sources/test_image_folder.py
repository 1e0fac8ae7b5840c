import ctypes
import os
import platform
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import jpeg
from sourced import parted, touch

from fgvr.errors import UserError
from fgvr.sources import ImageFolder, Refusal, Source
from fgvr.sources.base import Record


def without_root_rights(source: Source) -> list[Record | Refusal]:
    """The records as a user finds them who may not read everything; the rights are dropped for one thread only."""

    def run() -> list[Record | Refusal]:
        libc = ctypes.CDLL(None, use_errno=True)
        header, rights = struct.pack("Ii", 0x20080522, 0), bytearray(24)
        buffer = (ctypes.c_char * 24).from_buffer(rights)
        assert libc.capget(header, buffer) == 0
        effective = struct.unpack_from("I", rights)[0]
        struct.pack_into("I", rights, 0, effective & ~0b110)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        assert libc.capset(header, buffer) == 0
        return list(source.records())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.mark.skipif(platform.system() != "Linux", reason="drops rights as Linux has them")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_folder_that_cannot_be_read_is_no_single_bad_picture(tmp_path, mode):
    root = touch(tmp_path / "birds", "crow/1.jpg", "wren/1.jpg")
    assert len(without_root_rights(ImageFolder(root))) == 2
    (root / "wren").chmod(mode)
    with pytest.raises(UserError, match=r"birds/wren: the folder must be readable, but Permission denied: change its"):
        without_root_rights(ImageFolder(root))
    (root / "wren").chmod(0o700)


def test_class_folders_with_any_suffix(tmp_path):
    root = touch(tmp_path / "birds", "wren/1.JPG", "wren/2.jpeg", "crow/a.PnG", "crow/b.webp", "crow/c.tif")
    source = ImageFolder(root)
    good, bad = parted(source)
    assert [record.label for record in good.values()] == ["crow", "crow", "crow", "wren", "wren"]
    assert list(good) == sorted(good)
    assert (source.dataset, source.taxonomy().ranks, bad) == ("birds", ("class",), {})
    assert good["wren/1.JPG"].load() == jpeg()
    assert all(record.split is None and record.path == (record.label,) for record in good.values())


def test_split_folders_in_any_case(tmp_path):
    root = touch(tmp_path, "Train/wren/1.jpg", "VALID/wren/2.jpg", "test/wren/3.jpg", "validation/wren/4.jpg")
    good, _ = parted(ImageFolder(root))
    assert {name: record.split for name, record in good.items()} == {
        "Train/wren/1.jpg": "train",
        "VALID/wren/2.jpg": "val",
        "test/wren/3.jpg": "test",
        "validation/wren/4.jpg": "val",
    }


def test_folders_between_are_ranks(tmp_path):
    root = touch(tmp_path, "train/tits/parus/great tit/1.jpg", "train/crows/corvus/raven/1.jpg")
    source = ImageFolder(root, ranks=["family", "genus", "species"])
    good, _ = parted(source)
    assert good["train/crows/corvus/raven/1.jpg"].path == ("crows", "corvus", "raven")
    assert source.taxonomy().ranks == ("family", "genus", "species")
    assert ImageFolder(root).taxonomy().ranks == ("level 1", "level 2", "class")
    with pytest.raises(UserError, match="ranks must name the 3 folder levels"):
        ImageFolder(root, ranks=["family"]).taxonomy()


def test_uneven_depth_leaves_the_last_folder_as_the_class_and_says_so(tmp_path):
    source = ImageFolder(touch(tmp_path, "a/b/wren/1.jpg", "crow/1.jpg"))
    good, bad = parted(source)
    assert {record.path for record in good.values()} == {("wren",), ("crow",)}
    assert bad == {}
    (said,) = source.remarks()
    assert "(1 under 1, 1 under 3), so the last folder alone is the class and there are no ranks above it" in said


TREE = [f"train/{family}/{family} {n}/{p}.jpg" for family in ("tits", "crows") for n in range(2) for p in range(6)]


@pytest.mark.parametrize("stray", ["train/wren/1.jpg", "train/tits/1.jpg", "train/tits/blue/tits 0/1.jpg"])
def test_one_stray_picture_is_refused_by_name_and_leaves_the_ranks_alone(tmp_path, stray):
    source = ImageFolder(touch(tmp_path / "in", *TREE, stray), ranks=["family", "species"])
    good, bad = parted(source)
    assert len(good) == len(TREE)
    depth = stray.count("/") - 1
    assert bad == {stray: f"it must lie under 2 folders as nearly all do, but it lies under {depth}: move it"}
    assert source.taxonomy() == ImageFolder(touch(tmp_path / "twin", *TREE), ranks=["family", "species"]).taxonomy()
    assert ImageFolder(tmp_path / "in").taxonomy().ranks == ("level 1", "class")
    assert source.remarks() == []


def test_one_stray_picture_deeper_than_flat_classes_is_no_class(tmp_path):
    root = touch(
        tmp_path, *(f"{label}/{number}.jpg" for label in ("wren", "crow") for number in range(6)), "wren/x/1.jpg"
    )
    good, bad = parted(ImageFolder(root))
    assert {record.label for record in good.values()} == {"wren", "crow"}
    assert list(bad) == ["wren/x/1.jpg"]


def test_named_ranks_say_how_deep_the_classes_lie(tmp_path):
    root = touch(tmp_path, "tits/blue tit/1.jpg", "crows/raven/1.jpg", "wren/1.jpg")
    source = ImageFolder(root, ranks=["family", "species"])
    assert list(parted(source)[1]) == ["wren/1.jpg"]
    assert source.taxonomy().paths["raven"] == ("crows", "raven")


def test_empty_class_folders_are_named(tmp_path):
    root = touch(tmp_path, "wren/1.jpg", "crow/1.jpg")
    for number in range(7):
        (root / f"empty {number}").mkdir()
    (said,) = ImageFolder(root).remarks()
    assert said.endswith("empty 0, empty 1, empty 2, empty 3, empty 4 and 2 more")
    assert set(ImageFolder(root).taxonomy().paths) == {"wren", "crow"}


def test_one_class_name_in_two_places_is_refused(tmp_path):
    with pytest.raises(UserError, match="'2012' lies under audi/2012 and bmw/2012"):
        ImageFolder(touch(tmp_path, "audi/2012/1.jpg", "bmw/2012/1.jpg")).taxonomy()


def test_a_class_may_be_called_like_a_split(tmp_path):
    good, _ = parted(ImageFolder(touch(tmp_path / "a", "train/1.jpg", "bus/1.jpg")))
    assert {record.label for record in good.values()} == {"train", "bus"}
    root = touch(tmp_path / "b", "train/steam/1.jpg", "bus/red/1.jpg")
    with pytest.raises(UserError, match=r"\['train'\] are named like splits and \['bus'\] are not"):
        list(ImageFolder(root).records())
    assert len(parted(ImageFolder(root, splits=False))[0]) == 2
    good, bad = parted(ImageFolder(root, splits=True))
    assert list(good) == ["train/steam/1.jpg"]
    assert "must lie in one of the split folders" in bad["bus/red/1.jpg"]


def test_other_files_are_passed_over_or_refused(tmp_path):
    root = touch(tmp_path, "wren/1.jpg", "README.md", "wren/notes.txt", ".DS_Store", ".git/x.jpg", "wren/Thumbs.db")
    touch(root, "wren/film.mp4", "wren/page.html", "loose.jpg", "bad\nname/1.jpg")
    good, bad = parted(ImageFolder(root))
    assert list(good) == ["wren/1.jpg"]
    assert set(bad) == {"wren/film.mp4", "wren/page.html", "loose.jpg", "bad\\nname/1.jpg"}
    assert "suffix is '.mp4'" in bad["wren/film.mp4"]
    assert "class folder" in bad["loose.jpg"]
    assert "control characters" in bad["bad\\nname/1.jpg"]


def test_links_and_pipes_are_not_followed_out(tmp_path):
    touch(tmp_path, "secret/key.jpg")
    root = touch(tmp_path / "root", "wren/1.jpg")
    (root / "wren/2.jpg").symlink_to(root / "wren/1.jpg")
    (root / "wren/out.jpg").symlink_to(tmp_path / "secret/key.jpg")
    (root / "wren/gone.jpg").symlink_to(root / "nothing")
    (root / "all").symlink_to(tmp_path / "secret")
    (root / "wren/loop").symlink_to(root)
    os.mkfifo(root / "wren/pipe.jpg")
    good, bad = parted(ImageFolder(root))
    assert list(good) == ["wren/1.jpg", "wren/2.jpg"]
    assert "climbs out" in bad["wren/out.jpg"]
    assert "climbs out" in bad["all"]
    assert "not followed" in bad["wren/loop"]
    assert "regular file" in bad["wren/gone.jpg"]
    assert "regular file" in bad["wren/pipe.jpg"]


def test_names_that_are_not_utf8_are_shown_with_escapes(tmp_path):
    folder = os.fsencode(touch(tmp_path, "wren/1.jpg") / "wren")
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(jpeg())
    good, _ = parted(ImageFolder(tmp_path))
    assert good["wren/\\xff.jpg"].load() == jpeg()
    os.mkdir(folder + b"\xe9")
    Path(os.fsdecode(folder + b"\xe9/1.jpg")).write_bytes(jpeg())
    assert parted(ImageFolder(tmp_path))[1] == {
        "wren\\xe9/1.jpg": "a label must hold no control characters, but it is 'wren\\udce9'"
    }


def test_control_characters_stay_out_of_names_and_ranks(tmp_path):
    root = touch(tmp_path, "tits\x1b[31m/blue tit/1.jpg", "crows/raven/2\x1b[2J.jpg", "crows/rook/1.jpg")
    good, bad = parted(ImageFolder(root))
    assert list(good) == ["crows/raven/2\\x1b[2J.jpg", "crows/rook/1.jpg"]
    assert good["crows/raven/2\\x1b[2J.jpg"].load() == jpeg()
    assert bad == {"tits\\x1b[31m/blue tit/1.jpg": "a label must hold no control characters, but it is 'tits\\x1b[31m'"}


def test_a_root_that_is_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop is not a folder"):
        ImageFolder(tmp_path / "loop").taxonomy()


def test_a_taxonomy_file_gives_paths_and_spellings(tmp_path):
    root = touch(tmp_path, "great_tit/1.jpg", "crow/1.jpg")
    (root / "taxonomy.yaml").write_text(
        "root: bird\nranks: [family, species]\npaths: {Great Tit: [tits, Great Tit]}\nsynonyms: {}\n"
    )
    good, bad = parted(ImageFolder(root))
    assert good["great_tit/1.jpg"].path == ("tits", "Great Tit")
    assert bad == {"crow/1.jpg": "its folder 'crow' is not a class of the taxonomy"}


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds none"):
        list(ImageFolder(tmp_path).records())
    with pytest.raises(UserError, match="is not a folder"):
        ImageFolder(tmp_path / "nowhere").taxonomy()
