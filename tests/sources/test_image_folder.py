import ctypes
import os
import platform
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import jpeg

from fgvr.errors import UserError
from fgvr.sources.base import Record
from fgvr.sources.image_folder import CSV, ImageFolder, Refusal, Source


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg())
    return root


def parted(source: Source) -> tuple[dict[str, Record], dict[str, str]]:
    found = list(source.records())
    good = {one.name: one for one in found if isinstance(one, Record)}
    return good, {one.sample: one.reason for one in found if isinstance(one, Refusal)}


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


def test_uneven_depth_leaves_the_last_folder_as_the_class(tmp_path):
    source = ImageFolder(touch(tmp_path, "a/b/wren/1.jpg", "crow/1.jpg"))
    good, _ = parted(source)
    assert {record.path for record in good.values()} == {("wren",), ("crow",)}


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
    assert set(bad) == {"wren/film.mp4", "wren/page.html", "loose.jpg", "bad\nname/1.jpg"}
    assert "suffix is '.mp4'" in bad["wren/film.mp4"]
    assert "class folder" in bad["loose.jpg"]
    assert "control characters" in bad["bad\nname/1.jpg"]


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


def listed(tmp_path: Path, text: str | bytes, **options) -> CSV:
    file = tmp_path / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CSV(file, **options)


def test_rows_with_ranks_split_and_cohort(tmp_path):
    rows = ["file,family,label,split,cohort", "a.jpg,tits,great tit,Train,seen", 'b.jpg,crows,"raven, common",,unseen']
    text = "\ufeff" + "\r\n".join(rows) + "\r\n"
    source = listed(touch(tmp_path, "a.jpg", "b.jpg"), text)
    good, bad = parted(source)
    assert bad == {}
    assert good["a.jpg"].path == ("tits", "great tit")
    assert (good["a.jpg"].split, good["a.jpg"].cohort) == ("train", "seen")
    assert (good["b.jpg"].split, good["b.jpg"].label) == (None, "raven, common")
    assert source.taxonomy().ranks == ("family", "class")


def test_a_last_rank_that_repeats_the_label_is_the_label(tmp_path):
    source = listed(tmp_path, "file,label,family,species\na.jpg,raven,crows,raven\n")
    assert source.taxonomy().paths == {"raven": ("crows", "raven")}
    assert source.taxonomy().ranks == ("family", "species")


def test_chosen_ranks_leave_the_other_columns_to_the_sample(tmp_path):
    source = listed(tmp_path, "file,label,family,response\na.jpg,raven,crows,a raven\n", ranks=["family"])
    good, _ = parted(source)
    assert good["a.jpg"].extra == {"response": "a raven"}
    with pytest.raises(UserError, match=r"\['genus'\] are not among"):
        listed(tmp_path, "file,label\na,b\n", ranks=["genus"]).taxonomy()


def test_labels_stay_strings(tmp_path):
    labels = ["None", "NA", "nan", "no", "1e5", "007", "=cmd()", "true"]
    source = listed(tmp_path, "file,label\n" + "".join(f"{n}.jpg,{label}\n" for n, label in enumerate(labels)))
    assert [record.label for record in parted(source)[0].values()] == labels


def test_bad_rows_are_refused_by_line(tmp_path):
    text = (
        "file,label,family,split\n"
        "good.jpg,wren,wrens,train\n"
        "../x.jpg,wren,wrens,train\n"
        "/etc/passwd,wren,wrens,train\n"
        "c.jpg,,wrens,train\n"
        "d.jpg,wren\n"
        "e.jpg,wren,crows,train\n"
        'f.jpg,"a\nb",wrens,train\n'
        "g.jpg,wren,wrens,dev\n"
        ",wren,wrens,train\n"
    )
    good, bad = parted(listed(tmp_path, text))
    assert list(good) == ["good.jpg"]
    assert "climbs out" in bad["../x.jpg"]
    assert "climbs out" in bad["/etc/passwd"]
    assert bad["c.jpg"].startswith("list.csv line 5: a label must have 1 to 200")
    assert bad["list.csv line 6"] == "it must have 4 fields, but it has 2"
    assert "'wren' stands under ['crows'] here and under ['wrens'] before" in bad["e.jpg"]
    assert bad["f.jpg"].startswith("list.csv line 9: a label must hold no control characters")
    assert "got 'dev'" in bad["g.jpg"]
    assert "it is empty" in bad["list.csv line 11"]


def test_a_link_cannot_climb_out_through_a_row(tmp_path):
    touch(tmp_path, "secret.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link.jpg").symlink_to(tmp_path / "secret.jpg")
    _, bad = parted(listed(tmp_path, "file,label\nlink.jpg,wren\n", root=tmp_path / "root"))
    assert "climbs out" in bad["link.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "line 1 must name the columns"),
        (b"file,label\n", "0 rows"),
        (b"path,class\na,b\n", "line 1 must name the columns"),
        (b"file;label\na;b\n", "line 1 must name the columns"),
        (b"file,label,label\na,b,c\n", "each once"),
        (b'file,label\na.jpg,wren\nb.jpg,"crow\nc.jpg,kite\nd.jpg,rook\n', "line 5 must be proper csv"),
        (b'file,label\na.jpg,"wr"en\n', "line 2 must be proper csv"),
        (b"file,label\na.jpg,M\xf6we\n", "must be UTF-8 text"),
        (b"file,label\na.jpg," + b"x" * 140_000 + b"\n", "line 2 must be proper csv"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        list(listed(tmp_path, text).records())


def test_old_line_ends_and_missing_files(tmp_path):
    good, bad = parted(listed(tmp_path, "file,label\ra.jpg,wren\rb.jpg,crow\r"))
    assert (set(good), bad) == ({"a.jpg", "b.jpg"}, {})
    with pytest.raises(ValueError, match=r"a\.jpg must be a file"):
        good["a.jpg"].load()
    with pytest.raises(UserError, match="is not a file"):
        CSV(tmp_path / "none.csv").taxonomy()
