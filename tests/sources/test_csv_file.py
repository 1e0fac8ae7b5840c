from pathlib import Path

import pytest
from sourced import parted, touch

from fgvr.errors import UserError
from fgvr.sources import CSV


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
