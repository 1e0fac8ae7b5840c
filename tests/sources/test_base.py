import os
import sys

import pytest

from fgvr.errors import SampleError
from fgvr.sources.base import MAX_BYTES, clean, known_label, printable, read_picture, stamp_of, unfit
from fgvr.taxonomy.tree import Taxonomy


@pytest.mark.parametrize(
    "label", ["None", "1e5", "=cmd()", "Süßwasser-Möwe", "红隼", "O'Connor & Co. (2012)", "x" * 200]
)
def test_names_that_are_labels(label):
    assert unfit(label) is None


@pytest.mark.parametrize("label", ["", "a\nb", "a\x00b", "\u202egnp", "x" * 201, "a\u2028b", "\udcff"])
def test_names_that_are_not(label):
    assert "a label must" in (unfit(label) or "")


def test_a_picture_is_read_with_its_size_as_stamp(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert read_picture(tmp_path / "a", "a") == b"123"
    assert stamp_of(tmp_path / "a") == "3"
    assert stamp_of(tmp_path / "none") == "missing"


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    for name in ("pipe", "sparse", "missing", "nul\0"):
        with pytest.raises(SampleError, match=r"^birds/1 must be a"):
            read_picture(tmp_path / name, "birds/1")


def test_labels_are_found_by_spelling_and_synonym_but_not_above_the_leaves():
    taxonomy = Taxonomy({"Blue Tit": ("tits", "Blue Tit")}, ("family", "species"), "bird", {"Blue Tit": ("Cyanistes",)})
    assert [known_label(taxonomy, name) for name in ("blue_tit", "Cyanistes", "tits", "bird", "crow")] == [
        "Blue Tit",
        "Blue Tit",
        None,
        None,
        None,
    ]


def test_spellings_of_one_name_become_one():
    assert clean(" Mo\u0308we ") == "Möwe"
    assert printable(os.fsdecode(b"a\xff.jpg")) == "a\\xff.jpg"
