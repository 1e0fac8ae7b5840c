import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hostile import jpeg, truncated_jpeg
from parquet_rows import COLUMNS, IMAGE, QUESTION, photos, row, written
from sourced import parted

from fgvr.errors import SampleError, UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import SourceGone, TripletParquet


def test_a_row_is_an_anchor_its_positive_and_its_negative(tmp_path: Path):
    rows = [row(number, label) for number, label in enumerate(["Robin", "Wren"] * 4)]
    source = TripletParquet(written(tmp_path / "train-00000-of-00001.parquet", rows), dataset="stage 2")
    pack(source, tmp_path / "out", PackOptions(val=0.3, test=0.3))
    whole = ShardSet(tmp_path / "out", "train", ("seen",))  # all of them, whatever val and test are
    examples = sorted(map(whole.read, range(len(whole))), key=lambda one: one.uid)
    assert len(examples) == 8
    for number, example in enumerate(examples):
        assert example.positive is not None
        assert example.negative is not None
        assert (example.label, example.dataset) == (rows[number]["answer"], "stage 2")
        assert example.images == (jpeg(3 * number),)
        assert example.positive.images == (jpeg(3 * number + 1),)
        assert example.negative.images == (jpeg(3 * number + 2),)
        assert (example.positive.label, example.negative.label) == (example.label, "")
        assert example.extra == {"question": QUESTION}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_missing_is_named(tmp_path: Path, column: str):
    file = written(tmp_path / "a.parquet", [row(0, "Robin"), row(1, "Wren")], leave_out=column)
    with pytest.raises(UserError, match=rf"must have the columns .*, but it lacks {column}; it has "):
        list(TripletParquet(file).records())


def test_rows_that_cannot_be_used_are_refused_and_partners_may_be_missing(tmp_path: Path):
    rows = [
        row(0, "Robin", image_noisy=None),
        row(1, "Wren", image_aug=[]),
        row(2, "Robin", images=photos(1, 2)),
        row(3, "Robin", images=[]),
        row(4, "Robin", problem="Which bird?"),
        row(5, "Robin", problem=None),
        row(6, "  "),
        row(7, "Wren", answer=None),
        row(8, " Wren ", image_aug=photos(1, 2)),
    ]
    good, bad = parted(TripletParquet(written(tmp_path / "a.parquet", rows)))
    assert {name: sorted(one.partners) for name, one in good.items()} == {
        "a/000000": ["neg"],
        "a/000001": ["pos"],
        "a/000008": ["neg", "pos"],
    }
    assert good["a/000008"].label == "Wren"
    assert good["a/000008"].negative is not None
    assert good["a/000008"].negative.load() == (jpeg(1), jpeg(2))
    assert bad == {
        "a/000002": "images must hold one photo, but it holds 2",
        "a/000003": "images must hold one photo, but it holds 0",
        "a/000004": "problem must have one <image>, but it is 'Which bird?'",
        "a/000005": "problem must have one <image>, but it is None",
        "a/000006": "a label must have 1 to 200 characters, but it has 0",
        "a/000007": "a label must have 1 to 200 characters, but it has 0",
    }


def test_photos_may_stand_without_a_list_and_must_bring_their_bytes(tmp_path: Path):
    rows = [row(0, "Robin", images=photos(0)[0]), row(1, "Wren", images={"bytes": None, "path": "a.jpg"})]
    good, _ = parted(TripletParquet(written(tmp_path / "a.parquet", rows, images=IMAGE)))
    assert good["a/000000"].load() == jpeg(0)
    with pytest.raises(SampleError, match="a/000001 must hold the bytes of its photo under images"):
        good["a/000001"].load()


def test_a_partner_without_a_picture_refuses_its_row(tmp_path: Path):
    broken = [{"bytes": truncated_jpeg(), "path": None}]
    rows = [row(0, "Robin", image_aug=broken), row(1, "Wren"), row(2, "Robin")]
    manifest = pack(TripletParquet(written(tmp_path / "a.parquet", rows)), tmp_path / "out", max_bad_share=0.5)
    (refusal,) = manifest.refused
    assert refusal.sample == "a/000000"
    assert "its negative cannot be used: a/000000/image_aug must be a whole image" in refusal.reason


def test_a_question_that_spells_a_control_token_is_refused(tmp_path: Path):
    rows = [row(0, "Robin", problem="<image><|im_end|>"), row(1, "Wren"), row(2, "Robin")]
    manifest = pack(TripletParquet(written(tmp_path / "a.parquet", rows)), tmp_path / "out", max_bad_share=0.5)
    (refusal,) = manifest.refused
    assert "its question must not spell a control token" in refusal.reason


def test_a_taxonomy_gives_the_labels_their_paths(tmp_path: Path):
    (tmp_path / "taxonomy.yaml").write_text(
        "ranks: [family, species]\npaths: {Robin: [Thrush, Robin], Wren: [Wrens, Wren]}\n"
    )
    file = written(tmp_path / "a.parquet", [row(0, "robin"), row(1, "Emu")])
    good, bad = parted(TripletParquet(file, tmp_path / "taxonomy.yaml"))
    assert good["a/000000"].path == ("Thrush", "Robin")
    assert bad == {"a/000001": "its label 'Emu' is not a class of the taxonomy"}


def test_what_is_no_parquet_or_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SourceGone, match="is not a file: give its path"):
        list(TripletParquet(tmp_path / "none.parquet").records())
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="must be a parquet file, but it cannot be read as one"):
        list(TripletParquet(tmp_path / "a.parquet").records())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow, which is not there: pip install 'fgvr\[parquet\]'"):
        list(TripletParquet(tmp_path / "a.parquet").records())


@pytest.mark.parametrize(("kind", "held"), [
    (pa.list_(pa.binary()), [b"x"]),
    (pa.list_(pa.string()), ["a.jpg"]),
    (pa.binary(), b"x"),
])  # fmt: skip
@pytest.mark.parametrize("column", ["images", "image_noisy", "image_aug"])
def test_a_column_of_photos_that_holds_something_else_is_named_with_its_type(
    tmp_path: Path, column: str, kind: pa.DataType, held: object
):
    file = written(tmp_path / "a.parquet", [row(0, "Robin", **{column: held})], **{column: kind})
    with pytest.raises(UserError, match=f"or lists of them under {column}, but its type is "):
        list(TripletParquet(file).records())


def test_a_column_in_which_no_row_has_a_photo_may_have_no_type(tmp_path: Path):
    rows = [row(number, "Robin", image_noisy=None) for number in range(2)]
    good, bad = parted(TripletParquet(written(tmp_path / "a.parquet", rows, image_noisy=pa.null())))
    assert ([one.positive for one in good.values()], bad) == ([None, None], {})
    assert all(one.negative for one in good.values())


def test_labels_may_be_numbers_and_nought_is_one(tmp_path: Path):
    rows = [{**row(number, ""), "answer": number} for number in range(2)]
    good, bad = parted(TripletParquet(written(tmp_path / "a.parquet", rows, answer=pa.int64())))
    assert ([one.label for one in good.values()], bad) == (["0", "1"], {})


def test_a_negative_has_the_class_under_which_the_file_shows_it(tmp_path: Path):
    rows = [
        row(0, "Robin", image_aug=photos(1)),  # its own positive
        row(1, "Wren", image_aug=photos(0)),  # another row's photo
        row(2, "Robin", image_aug=photos(1)),  # the positive of a row of its class
        row(3, "Wren"),
    ]
    source = TripletParquet(written(tmp_path / "a.parquet", rows))
    good, _ = parted(source)
    assert [one.negative and one.negative.label for one in good.values()] == ["Robin", "Robin", "Robin", ""]
    manifest = pack(source, tmp_path / "out", max_bad_share=1.0)
    assert sorted(one.sample for one in manifest.refused) == ["a/000000", "a/000002"]
    assert all("its negative must be of another class" in one.reason for one in manifest.refused)
