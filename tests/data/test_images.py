import resource
import time
import warnings

import pytest
from hostile import (
    REFUSED,
    animated,
    corrupt_exif_jpeg,
    encoded,
    grey16,
    half_transparent,
    interlaced_png,
    jpeg,
    mpo,
    palette_with_alpha,
    photo,
    png,
    turned,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from fgvr.data.images import inspect_image, open_image, stored_form
from fgvr.errors import SampleError


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_a_sentence_that_names_the_file(case):
    make, words = REFUSED[case]
    data = make()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(SampleError, match=r"^birds/1\.jpg must .*") as error:
        open_image(data, "birds/1.jpg")
    assert words in str(error.value)
    assert time.monotonic() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_the_pixel_limit_is_read_from_the_header():
    data = jpeg(0, (50, 40))
    assert open_image(data, "x", max_pixels=2000).size == (50, 40)
    with pytest.raises(SampleError, match="50 x 40"):
        open_image(data, "x", max_pixels=1999)


def test_a_strip_of_200_to_1_is_the_last_that_passes():
    assert open_image(png(200, 1, 1), "x").size == (200, 1)
    with pytest.raises(SampleError, match="201 x 1"):
        open_image(png(201, 1, 1), "x")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (5, 5), (33, 18), (8, 9)])
def test_whole_pngs_pass_the_count_of_their_rows(width, height):
    assert open_image(png(width, height, height), "x").size == (width, height)
    assert open_image(interlaced_png(width, height), "x").size == (width, height)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_rows_are_counted_for_every_depth(mode):
    black = Image.new(mode, (37, 21))  # ends in zeros, as a picture with missing rows does
    bright = (photo(3, (37, 21)).convert("I") if mode == "I;16" else photo(3, (37, 21))).convert(mode)
    assert open_image(encoded(black, "PNG"), "x").size == (37, 21)
    assert open_image(encoded(bright, "PNG"), "x").size == (37, 21)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(form, orientation):
    turns = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90, expand=True),
        6: lambda image: image.rotate(-90, expand=True),
        7: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(-90, expand=True),
        8: lambda image: image.rotate(90, expand=True),
    }
    wanted = turns[orientation](photo(5, (48, 32)))
    got = open_image(turned(orientation, form), "x")
    assert got.size == wanted.size
    difference = ImageChops.difference(got.convert("L"), wanted.convert("L"))
    assert sum(value * count for value, count in enumerate(difference.histogram())) / (48 * 32) < 4  # of 255, lossy


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_taken_and_noted(form):
    picture = inspect_image(animated(form), "x")
    assert picture.notes[0].startswith("first ")
    red, green, blue = (band.getpixel((0, 0)) for band in picture.image.split())
    assert (red, green, blue) == (pytest.approx(255, abs=12), pytest.approx(3, abs=12), pytest.approx(0, abs=12))


def test_colour_modes_become_rgb():
    assert open_image(encoded(photo().convert("CMYK")), "x").mode == "RGB"
    assert open_image(palette_with_alpha(), "x").mode == "RGB"
    half = open_image(half_transparent(), "x")
    assert half.getpixel((2, 2)) == (0, 0, 255)
    assert half.getpixel((15, 2)) == (255, 255, 255)
    ramp = open_image(grey16(), "x")
    assert [ramp.getpixel((value % 16, value // 16)) for value in (0, 128, 255)] == [(v, v, v) for v in (0, 128, 255)]


def test_a_damaged_exif_block_does_not_cost_the_picture():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = inspect_image(corrupt_exif_jpeg(), "x")
    assert picture.notes == ("decoder warning",)
    assert stored_form(corrupt_exif_jpeg(), picture)[1] == corrupt_exif_jpeg()


@pytest.mark.parametrize("data", [jpeg(), encoded(photo(), "PNG"), encoded(photo(), "WEBP"), mpo()])
def test_upright_rgb_keeps_its_bytes(data):
    suffix, stored = stored_form(data, inspect_image(data, "x"))
    assert stored is data
    assert suffix in ("jpg", "png", "webp")


def test_what_is_changed_is_stored_as_it_was_seen():
    for data, suffix in ((turned(6), "jpg"), (turned(6, "WEBP"), "png"), (animated("GIF"), "png"), (grey16(), "png")):
        picture = inspect_image(data, "x")
        kind, stored = stored_form(data, picture)
        again = inspect_image(stored, "x")
        assert (kind, again.notes) == (suffix, ())
        worst = max(high for _, high in ImageChops.difference(again.image, picture.image).getextrema())  # pyright: ignore
        assert worst <= (12 if suffix == "jpg" else 0)
        assert b"Exif" not in stored


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_a_sample_error(data):
    whole = bytearray(
        data.draw(st.sampled_from([jpeg(), encoded(photo(), "PNG"), encoded(photo(), "WEBP"), turned(6)]))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = inspect_image(bytes(whole), "x")
    except SampleError as error:
        sentence = str(error)
    else:
        sentence = "x must "
        assert inspect_image(stored_form(bytes(whole), picture)[1], "x").image.size == picture.image.size
    assert sentence.startswith("x must ")
