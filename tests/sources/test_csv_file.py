from pathlib import Path

import pytest
from sourced import parted, touch

from fgvr.errors import SampleError, UserError
from fgvr.sources import CSV


def listed(tmp_path: Path, text: str | bytes, **options) -> CSV:
    file = tmp_path / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CSV(file, **options)


def test_rows_with_ranks_split_and_cohort(tmp_path):
    rows = ["file,family,label,split,cohort", "a.jpg,tits,great tit,Train,seen", 'b.jpg,crows,"raven, common",,unseen']
    text = "\ufeff" + "\r\n".join(rows) + "\r\n"
    source = listed(touch(tmp_path, "a.jpg", "b.jpg"), text, ranks=["family"])
    good, bad = parted(source)
    assert bad == {}
    assert good["a.jpg"].path == ("tits", "great tit")
    assert (good["a.jpg"].split, good["a.jpg"].cohort) == ("train", "seen")
    assert (good["b.jpg"].split, good["b.jpg"].label) == (None, "raven, common")
    assert source.taxonomy().ranks == ("family", "class")


def test_a_last_rank_that_repeats_the_label_is_the_label(tmp_path):
    rows = "a.jpg,raven,crows,raven\nb.jpg,rook,crows,rook\nc.jpg,wren,wrens,wren\n"
    source = listed(tmp_path, f"file,label,family,species\n{rows}")
    assert source.taxonomy().paths["raven"] == ("crows", "raven")
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
    good, bad = parted(listed(tmp_path, text, ranks=["family"]))
    assert list(good) == ["good.jpg"]
    assert "climbs out" in bad["../x.jpg"]
    assert "climbs out" in bad["/etc/passwd"]
    assert bad["c.jpg"].startswith("list.csv line 5: a label must have 1 to 200")
    assert bad["list.csv line 6"] == "it must have 4 fields, but it has 2"
    assert "'wren' stands under ['crows'] here and under ['wrens'] elsewhere" in bad["e.jpg"]
    assert bad["f.jpg"].startswith("list.csv line 9: a label must hold no control characters")
    assert "got 'dev'" in bad["g.jpg"]
    assert "it is empty" in bad["list.csv line 11"]


SPECIES = {"blue tit": "tits", "great tit": "tits", "raven": "crows", "rook": "crows", "wren": "wrens"}


def test_only_columns_that_form_a_tree_are_ranks(tmp_path):
    lines = ["file,label,family,response,photographer"]
    for number in range(100):
        label = list(SPECIES)[number % 5]
        response = f'"<think>Seen, {number} times.</think>\n<answer>{label}</answer>"'
        photographer = ("Ann", "Bo", "Cy")[number % 3]
        lines.append(f"{number}.jpg,{label},{SPECIES[label]},{response if number % 2 else ''},{photographer}")
    source = listed(tmp_path, "\n".join(lines))
    good, bad = parted(source)
    assert (len(good), bad) == (100, {})
    assert source.taxonomy().ranks == ("family", "class")
    assert good["1.jpg"].extra == {
        "response": "<think>Seen, 1 times.</think>\n<answer>great tit</answer>",
        "photographer": "Bo",
    }
    assert "response" not in good["2.jpg"].extra  # an empty cell is no response
    (said,) = source.remarks()
    assert said.endswith("are no ranks: response, photographer; name those that are ranks, coarse to fine, with ranks")
    assert listed(tmp_path, "\n".join(lines), ranks=["family"]).remarks() == []


def test_the_path_that_most_rows_give_a_label_is_the_right_one(tmp_path):
    rows = [f"{n}.jpg,{label},{SPECIES[label]}" for n, label in enumerate(list(SPECIES) * 4)]
    rows[0] = rows[0].replace("tits", "crows")
    good, bad = parted(listed(tmp_path, "\n".join(["file,label,family", *rows])))
    assert len(good) == 19
    assert bad == {"0.jpg": "list.csv line 2: 'blue tit' stands under ['crows'] here and under ['tits'] elsewhere"}


def test_a_column_with_an_unfit_name_is_no_rank(tmp_path):
    text = "file,label,fam\x1b[2Jily\n" + "".join(f"{n}.jpg,{s},{f}\n" for n, (s, f) in enumerate(SPECIES.items()))
    assert listed(tmp_path, text).taxonomy().ranks == ("class",)
    with pytest.raises(UserError, match=r"'fam\\x1b\[2Jily' is not: rename the column"):
        listed(tmp_path, text, ranks=["fam\x1b[2Jily"]).taxonomy()


@pytest.mark.parametrize("target", ["loop.jpg", "other.jpg"])
def test_links_in_a_circle_are_no_pictures(tmp_path, target):
    (tmp_path / "loop.jpg").symlink_to(target)
    (tmp_path / "other.jpg").symlink_to("loop.jpg")
    good, bad = parted(listed(tmp_path, "file,label\nloop.jpg,wren\n"))
    assert bad == {}
    with pytest.raises(SampleError, match=r"loop\.jpg must be a file"):
        good["loop.jpg"].load()
    (tmp_path / "root").symlink_to("root")
    assert list(parted(listed(tmp_path, "file,label\na.jpg,wren\n", root=tmp_path / "root"))[0]) == ["a.jpg"]


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
