import re
from dataclasses import fields
from inspect import signature

import pytest
from hostile import png, turned, write_folder
from jsonargparse import ArgumentParser, auto_cli
from sourced import touch
from toy_triplets import EVEN, write_photos

from fgvr.__main__ import main
from fgvr.errors import UserError, unseen
from fgvr.shards.manifest import load_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import CSV, ImageFolder
from fgvr.tools.shards import shards


@pytest.mark.parametrize("source", ["fgvr.sources.image_folder.ImageFolder", "ImageFolder"])
def test_packs_from_the_command_line(tmp_path, capsys, source):
    root, out = write_folder(tmp_path / "birds", 4, 10), tmp_path / "out"
    (root / "class 0/turned.jpg").write_bytes(turned(6))
    (root / "class 0/film.mp4").write_bytes(b"x")
    (root / "class 1/film.mp4").write_bytes(b"x")
    line = [
        "--source",
        source,
        "--source.root",
        str(root),
        "--out",
        str(out),
        "--unseen",
        "1",
        "--max_bad_share",
        "0.1",
    ]
    auto_cli(shards, args=line, as_positional=False)
    manifest = load_manifest(out)
    printed = capsys.readouterr().out
    assert manifest.options["unseen"] == 1
    assert isinstance(manifest.options["unseen"], int)
    assert "packing pictures: 41 of 41" in printed
    assert re.search(r"train\b.*\b\d+\b", printed)
    assert "seen (3 classes)" in printed
    assert "unseen (1 class)" in printed
    assert re.search(r"\b1 .*turned upright", printed)
    assert re.search(r"\b2 .*it must be an image file, but its suffix is '\.mp4'", printed)
    assert "class 0/film.mp4: it must be an image file, but its suffix is '.mp4'\n" in printed
    assert f"all 2 are named in {out / 'manifest.json'}\n" in printed
    assert f"41 pictures of 4 classes in {len(manifest.shards)} shards, 2 refused" in printed


def test_the_options_are_those_of_pack(tmp_path):
    flat, packs = signature(shards).parameters, signature(pack).parameters
    for option in fields(PackOptions):
        assert (flat[option.name].annotation, flat[option.name].default) == (option.type, option.default)
    for name in ("source", "out", "triplets", "max_bad_share", "overwrite"):
        assert (flat[name].annotation, flat[name].default) == (packs[name].annotation, packs[name].default)
    own = {"source", "out", "triplets", "max_bad_share", "overwrite", "within", "backbone", "respell"}
    assert {*flat} == {option.name for option in fields(PackOptions)} | own
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(shards, as_positional=False)
    (tmp_path / "list.csv").write_text("file,label\na.jpg,b\n")
    line = ["--source", "CSV", "--source.file", str(tmp_path / "list.csv"), "--out", "x", "--unseen", "0.25"]
    options = parser.instantiate(parser.parse_args([*line, "--class_split", "seen-unseen", "--k_shot", "4"]))
    assert isinstance(options.source, CSV)
    assert (options.unseen, options.k_shot, options.max_bad_share) == (0.25, 4, 0.001)


def test_ranks_and_names_are_printed_before_anything_is_packed(tmp_path, capsys):
    root = touch(tmp_path / "in", *(f"{n}.jpg" for n in range(16)))
    families = {"blue tit": "tits", "great tit": "tits", "raven": "crows", "rook": "crows"}
    rows = [f"{n}.jpg,{label},{families[label]},Ann" for n, label in enumerate(list(families) * 4)]
    (root / "list.csv").write_text("\n".join(["file,label,family,photographer", *rows]))
    shards(CSV(root / "list.csv"), tmp_path / "out")
    printed = capsys.readouterr().out
    overview, packing = printed.split("pictures: 2 of 16")[0], printed.index("pictures: 2 of 16")
    assert "list: 16 pictures of 4 classes to pack; ranks, coarse to fine: family > class\n" in overview
    assert "names such as tits > blue tit; tits > great tit; crows > raven; crows > rook\n" in overview
    assert "that go into the samples and are no ranks: photographer; name those that are ranks" in overview
    assert packing < printed.index("The shard set is")


HOSTILE = "\x1b[2J\x07\x9b31m\u202egpj"


@pytest.mark.parametrize("bad_share", [0.9, 0.001])
def test_refused_names_reach_the_terminal_without_what_it_would_obey(tmp_path, bad_share, capfd):
    root = write_folder(tmp_path / "birds", 2, 4)
    (root / f"class 0/empty{HOSTILE}.jpg").write_bytes(b"")
    (root / f"class 0/film{HOSTILE}.mp4").write_bytes(b"x")
    (root / f"class{HOSTILE}").mkdir()
    (root / f"class{HOSTILE}/1.jpg").write_bytes(png(9, 9, 9))
    (root / f"empty{HOSTILE}").mkdir()
    (root / "class 1/a\nb.jpg").write_bytes(b"")
    line = ["shards", "--source", "ImageFolder", "--source.root", str(root), "--out", str(tmp_path / "out")]
    line += ["--max_bad_share", str(bad_share)]
    assert main(line) == (0 if bad_share == 0.9 else 2)
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said
    assert not [letter for letter in said if unseen(letter) and letter != "\n"]
    for name in ("class 0/empty", "class 0/film", "class", "class 1/a", "empty"):
        assert f"{name}\\x1b[2J\\x07\\x9b31m\\u202egpj" in said or f"{name}\\nb.jpg" in said


def test_links_in_a_circle_are_refused_by_name(tmp_path, capsys):
    root = write_folder(tmp_path / "birds", 2, 4)
    (root / "class 0/self.jpg").symlink_to("self.jpg")
    (root / "class 1/a.jpg").symlink_to("../class 1/b.jpg")
    (root / "class 1/b.jpg").symlink_to("a.jpg")
    shards(ImageFolder(root), tmp_path / "out", max_bad_share=0.5)
    printed = capsys.readouterr().out
    for name in ("class 0/self.jpg", "class 1/a.jpg", "class 1/b.jpg"):
        assert f"{name}: it must be a regular file, but its link leads nowhere (Too many levels of" in printed
    (tmp_path / "loop").symlink_to("loop")
    for out in (tmp_path / "loop", tmp_path / "loop/out"):
        with pytest.raises(UserError, match="out must be a folder that can be written"):
            shards(ImageFolder(root), out)


def test_a_refused_set_ends_in_one_sentence(tmp_path, capsys):
    root = write_folder(tmp_path / "birds", 2, 4)
    (root / "class 0/0.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 8 were \(class 0/0\.jpg: .*--max_bad_share 0\.125"):
        shards(ImageFolder(root), tmp_path / "out")
    assert "The shard set is" not in capsys.readouterr().out


def test_ten_refused_pictures_are_named_and_like_ones_share_a_whole_example(tmp_path, capsys):
    root = write_folder(tmp_path / "birds", 2, 20)
    for number in range(12):
        (root / f"class 0/strip{number:02}.png").write_bytes(png(900 + number, 1, 1))
    shards(ImageFolder(root), tmp_path / "out", max_bad_share=0.5)
    printed = capsys.readouterr().out
    reason = "must be no more than 200:1 in shape, but it is 900 x 1: crop it"
    assert reason in re.sub(r"[\s│┃]+", " ", printed.partition("such as")[2].partition("class 0/")[0])
    assert f"class 0/strip00.png: {reason}\n" in printed
    assert len(re.findall(r"class 0/strip\d+\.png: ", printed)) == 10
    assert f"all 12 are named in {tmp_path / 'out/manifest.json'}\n" in printed


def test_a_second_run_says_that_all_is_there(tmp_path, capsys):
    source = ImageFolder(write_folder(tmp_path / "birds", 2, 4))
    shards(source, tmp_path / "out")
    capsys.readouterr()
    shards(source, tmp_path / "out")
    assert "holds this shard set already, whole: nothing to do" in capsys.readouterr().out.replace("\n", "")


def test_triplets_are_frozen_from_the_command_line(tmp_path, capsys):
    root, out = write_photos(tmp_path / "birds", EVEN), tmp_path / "out"
    line = ["--source", "ImageFolder", "--source.root", str(root), "--out", str(out), "--triplets", "Siblings"]
    auto_cli(shards, args=line, as_positional=False)
    printed = capsys.readouterr().out
    assert re.search(r"30 +│ with a positive", printed)
    assert re.search(r"30 +│ with a negative", printed)
    assert all(len(entry.partners) == 2 for entry in ShardSet(out, "train", ("seen",)).entries())
