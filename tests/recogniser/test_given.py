from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hostile import encoded, photo, truncated_jpeg
from PIL import Image

from fgvr.errors import SampleError, UserError
from fgvr.recogniser.given import all_given, content_of

TURNED = 6  # EXIF: to be turned by 270 degrees


def only(photos: object) -> Image.Image:
    several = all_given(photos)  # pyright: ignore[reportArgumentType]
    assert several.single
    assert len(several) == 1
    return several.photos[0].load()


def test_one_photo_is_the_same_however_it_is_given(tmp_path: Path):
    picture = photo(3, (50, 40))
    (tmp_path / "a.png").write_bytes(encoded(picture, "PNG"))
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(tmp_path / "a.png"), np.asarray(picture)]
    assert len({content_of(only(form)) for form in forms} | {content_of(picture)}) == 1
    alone, one_of_several = all_given(tmp_path / "a.png"), all_given([tmp_path / "a.png"])
    assert [given.name for given in alone] == [given.name for given in one_of_several] == [str(tmp_path / "a.png")]


def test_a_picture_that_is_open_is_turned_upright_and_laid_on_white_as_a_file_is(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = TURNED
    (tmp_path / "turned.jpg").write_bytes(encoded(photo(1, (50, 40)), "JPEG", exif=exif))
    clear = photo(2).convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    for name in ("turned.jpg", "clear.png"):
        file, opened = only(tmp_path / name), only(Image.open(tmp_path / name))
        assert file.tobytes() == opened.tobytes()
        assert opened.mode == "RGB"
    assert only(tmp_path / "turned.jpg").size == (40, 50)
    assert only(np.asarray(clear)).tobytes() == only(tmp_path / "clear.png").tobytes()
    assert only(np.full((8, 9), 200, np.uint8)).getpixel((0, 0)) == (200, 200, 200)


def test_folders_lists_and_arrays_of_several(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "sub/a.PNG"):
        (tmp_path / name).write_bytes(encoded(photo(1), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(truncated_jpeg())
    (tmp_path / "film.mov").write_bytes(b"0")
    found = all_given(tmp_path)
    assert not found.single
    assert [given.name for given in found] == ["b.jpg", "broken.jpg", "film.mov", "sub/a.PNG"]
    for number in (1, 2):
        with pytest.raises(SampleError):
            found.photos[number].load()
    several = all_given([str(tmp_path / "b.jpg"), photo(2), np.asarray(photo(3)), tmp_path / "nowhere.jpg"])
    assert [given.name for given in several][1:3] == ["photo 1", "photo 2"]
    with pytest.raises(SampleError, match=r"nowhere\.jpg must be a file"):
        several.photos[3].load()
    batch = all_given(np.stack([np.asarray(photo(seed)) for seed in range(3)]))
    assert [given.name for given in batch] == ["photo 0", "photo 1", "photo 2"]
    assert len(all_given(given for given in [photo(1)])) == 1  # pyright: ignore[reportArgumentType]
    with_folder = all_given([photo(2), tmp_path / "sub", tmp_path / "b.jpg"])
    assert [given.name for given in with_folder] == ["photo 0", f"{tmp_path}/sub/a.PNG", str(tmp_path / "b.jpg")]
    assert with_folder.photos[1].load().tobytes() == with_folder.photos[2].load().tobytes()
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none holds none"):
        all_given([photo(2), tmp_path / "none"])


def test_the_bytes_of_a_file_are_a_photo_too(tmp_path: Path):
    data = encoded(photo(3, (50, 40)), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as file:
        forms = [data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        assert {content_of(only(form)) for form in forms} == {content_of(photo(3, (50, 40)))}
    assert [given.name for given in all_given([photo(1), data])] == ["photo 0", "photo 1"]
    with pytest.raises(SampleError, match="its bytes are not one"):
        only(b"no photo")


def closed(file: io.BytesIO) -> io.BytesIO:
    file.close()
    return file


@pytest.mark.parametrize(
    ("photos", "says"),
    [
        (np.zeros((8, 8, 3)), r"must hold uint8 .* \(255 \* array\)"),
        (np.zeros((3, 8, 8), np.uint8), r"colours first, give array\.transpose"),
        (np.zeros((0, 8, 3), np.uint8), r"is \[0, 8, 3\]"),
        ([], "got an empty list"),
        (7, "paths, PIL images, numpy arrays or bytes, got int"),
        (io.StringIO("text"), "must be opened for bytes"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff"), encoding="utf-8"), "must be opened for bytes"),
        (closed(io.BytesIO(b"0")), r"must be open for reading, but number 0 is not \(I/O operation on closed file"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"is \[0, 8, 8, 3\]"),
        (np.zeros((8, 8), np.int64), r"of whole numbers up to 255 array\.astype"),
        ({"a": "a.jpg"}, r"got a mapping: give list\(photos\.values\(\)\)"),
        ("", "got an empty text: give . for this folder"),
        ([7], "number 0 is int"),
        ("/nowhere/at/all", "photos must be a folder of photos or one photo"),
    ],
)
def test_refusals_are_sentences(photos: object, says: str):
    with pytest.raises(UserError, match=says):
        all_given(photos)  # pyright: ignore[reportArgumentType]


def test_a_picture_of_a_shape_that_no_model_takes_is_told_of_when_it_is_loaded():
    with pytest.raises(SampleError, match="no more than 200:1"):
        only(Image.new("RGB", (1, 900)))
