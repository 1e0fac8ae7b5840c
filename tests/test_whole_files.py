import json
import os

import pytest

from fgvr.errors import UserError
from fgvr.whole_files import refuse_no_folder, sealed, sealed_line, unsealed, unsealed_line, write_whole

FIGURES = {"seen/exact": 0.6875, "unseen/exact": None, "step": 300, "names": ["Möwe", "Tit"], "of": {"e": 1e-7}}


def flips(data: bytes) -> list[bytes]:
    """The data with one bit changed, for every bit of it."""
    changed = []
    for bit in range(8 * len(data)):
        one = bytearray(data)
        one[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(one))
    return changed


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "manifest.json"
    write_whole(file, b"old")
    with pytest.raises(TypeError):
        write_whole(file, None)  # pyright: ignore[reportArgumentType]
    assert file.read_bytes() == b"old"
    write_whole(file, json.dumps({}).encode())
    assert file.read_bytes() == b"{}"
    assert os.listdir(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("indent", [None, 1])
def test_every_flipped_bit_of_a_sealed_object_is_noticed(indent):
    data = sealed(FIGURES, indent)
    assert unsealed(data) == (FIGURES, True)
    assert json.loads(data).keys() == {*FIGURES, "digest"}
    for changed in flips(data):
        with pytest.raises(ValueError):  # noqa: PT011  (of what kind depends on the bit)
            unsealed(changed)


def test_every_flipped_bit_of_a_sealed_line_is_noticed():
    line = sealed_line(FIGURES)
    assert unsealed_line(line) == FIGURES
    assert line.count(b"\n") == 1
    for changed in [*flips(line), line[:-1], line[:-9], b"", b"\n", b"[]\n"]:
        with pytest.raises(ValueError):  # noqa: PT011
            unsealed_line(changed)


def test_what_older_versions_wrote_is_read_and_nothing_vouches_for_it():
    assert unsealed(json.dumps(FIGURES).encode()) == (FIGURES, False)
    assert unsealed_line(json.dumps(FIGURES).encode() + b"\n") == FIGURES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Expecting value"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "it holds list, not an object"),
        (b'{"a":1,"digest":"sha256:00"}', "does not have the digest that it states"),
        (b'{"a":NaN,"digest":1}', "not JSON compliant"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_is_no_sealed_object_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        unsealed(data)


def test_where_no_folder_can_be_is_said_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "in" / "it", tmp_path / "loop", type(tmp_path)("file")):
        with pytest.raises(UserError, match=r"out must be a folder .* is not one: choose another"):
            refuse_no_folder(out)
    refuse_no_folder(tmp_path)
    refuse_no_folder(type(tmp_path)("new/inner"))
    with pytest.raises(UserError, match=r"out must not begin with ~, which a shell alone reads, got ~/new: write /"):
        refuse_no_folder(type(tmp_path)("~/new"))
    with pytest.raises(UserError, match=r"got ~nobody-is-called-so/new: write \./~nobody-is-called-so/new if it is to"):
        refuse_no_folder(type(tmp_path)("~nobody-is-called-so/new"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UserError, match=r"--out must be a folder .* may not be: choose another"):
        refuse_no_folder(tmp_path / "new", "--out")
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]
