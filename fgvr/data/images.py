"""From the bytes of a picture to upright RGB, refusing what cannot be trusted before it costs memory."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from fgvr.errors import SampleError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # none of these starts another program, as EPS would
MAX_PIXELS = 64_000_000
MAX_ASPECT = 200  # Qwen-VL's image processor refuses more
JPEG_QUALITY = 95
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers let out on damaged bytes: a few changed bytes are enough to meet several of these.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


View = Callable[[Image.Image], Image.Image]  # what a model is given of an upright photo


def as_stored(photo: Image.Image) -> Image.Image:
    """The view of a model that takes any size."""
    return photo


@dataclass(frozen=True)
class Picture:
    """A decoded picture. `format` is that of the file; `notes` say what had to be done to make it upright RGB."""

    image: Image.Image
    format: str
    notes: tuple[str, ...] = ()


def open_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Upright RGB from JPEG, PNG, WebP, GIF (first frame), BMP or TIFF bytes; transparency is laid on white.

    Raises SampleError, naming `name`, for anything else: no image, cut short, too many pixels by the header, more than
    200:1. Pillow's warnings are swallowed by filters of the whole process, so call it from one thread at a time.
    """
    return inspect_image(data, name, max_pixels).image


def inspect_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """As `open_image`, and says what had to be done."""
    if not data:
        raise SampleError(f"{name} must be an image, but it is empty (zero bytes)")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            source = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.UnidentifiedImageError as error:
            raise SampleError(f"{name} must be a {_listed()} image, but its bytes are not one") from error
        except Image.DecompressionBombError as error:
            raise SampleError(
                f"{name} must have at most {max_pixels:,} pixels, but its header claims far more"
            ) from error
        except DAMAGE as error:
            raise SampleError(
                f"{name} must be a readable image, but its header is damaged ({_brief(error)})"
            ) from error
        _check_size(source.size, name, max_pixels)
        try:
            picture = _decode(source, data, name)
        except SampleError:
            raise
        except DAMAGE as error:
            raise SampleError(f"{name} must be a whole image, but it does not decode ({_brief(error)})") from error
    complaints = any(not issubclass(warning.category, Image.DecompressionBombWarning) for warning in caught)
    return Picture(picture.image, picture.format, (*picture.notes, "decoder warning") if complaints else picture.notes)


def upright_rgb(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture that somebody has opened already, as `open_image` would have given it; errors as there."""
    _check_size(image.size, name, max_pixels)
    try:
        image.load()
        return _upright(image, name)[0]
    except SampleError:
        raise
    except DAMAGE as error:
        raise SampleError(f"{name} must be a whole image, but it does not decode ({_brief(error)})") from error


def stored_form(data: bytes, picture: Picture) -> tuple[str, bytes]:
    """The extension and bytes to keep: as they came if upright RGB, else JPEG for a JPEG and PNG for the rest."""
    changed = [note for note in picture.notes if note != "decoder warning"]
    if not changed and picture.format in ("JPEG", "PNG", "WEBP"):
        return {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[picture.format], data
    stream = io.BytesIO()
    if picture.format == "JPEG":
        picture.image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return "jpg", stream.getvalue()
    picture.image.save(stream, "PNG")
    return "png", stream.getvalue()


def _decode(source: Image.Image, data: bytes, name: str) -> Picture:
    kind = "JPEG" if source.format == "MPO" else str(source.format)  # a phone's JPEG with a second picture behind it
    notes: list[str] = []
    if source.format != "MPO" and getattr(source, "is_animated", False):
        notes.append("first page of several" if kind == "TIFF" else "first frame of an animation")
    source.load()
    if kind == "PNG" and not _reached_last_row(source):
        _check_png_rows(data, name)
    image, changed = _upright(source, name)
    return Picture(image, kind, (*notes, *changed))


def _upright(source: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    notes: list[str] = []
    try:
        turn = UPRIGHT.get(source.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        turn = None
        notes.append("unreadable EXIF")
    image, converted = _to_rgb(source, name)
    notes.extend(converted)
    if turn is not None:
        image = image.transpose(turn)
        notes.append("turned upright")
    image.info = {}  # nothing of the old file (ICC profile, comment, EXIF) goes into a re-encoded one
    return image, notes


def _to_rgb(source: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    mode = source.mode
    if mode in ("I", "F"):
        raise SampleError(
            f"{name} must have 8 or 16 bits per channel, but it holds 32-bit values without a stated range"
        )
    if mode.startswith("I;16"):
        wide = source.convert("I").point(lambda value: value * (1 / 257))
        return wide.convert("L").convert("RGB"), ["converted from 16-bit grey to RGB"]
    if source.has_transparency_data:
        layer = source.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB"), ["transparency laid on white"]
    if mode == "RGB":
        return Image.Image.copy(source), []
    return source.convert("RGB"), [f"converted from {mode} to RGB"]


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise SampleError(
            f"{name} must have at most {max_pixels:,} pixels, but its header says {width} x {height}: make it smaller"
        )
    if min(size) < 1 or max(size) > MAX_ASPECT * min(size):
        raise SampleError(f"{name} must be no more than {MAX_ASPECT}:1 in shape, but it is {width} x {height}: crop it")


def _reached_last_row(png: Image.Image) -> bool:
    """True when a decoded PNG is surely whole: rows that were missing would be zero, and the last one is not."""
    width, height = png.size
    last = png.crop((0, height - 1, width, height))
    return not png.info.get("interlace") and last.getbbox(alpha_only=False) is not None


def _check_png_rows(data: bytes, name: str) -> None:
    """Pillow fills missing rows of a PNG with zeros and says nothing, so the bytes of its rows are counted."""
    wanted, found, inflate, place = 0, 0, zlib.decompressobj(), 8
    while place + 8 <= len(data) and not inflate.eof:
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IHDR":
            wanted = _png_bytes(body)
        elif kind == b"IDAT":
            while body and found < wanted and not inflate.eof:
                found += len(inflate.decompress(body, 1 << 20))
                body = inflate.unconsumed_tail
        elif kind == b"IEND":
            break
    if found < wanted:
        raise SampleError(f"{name} must be a whole image, but rows are missing ({found} of {wanted} bytes)")


def _png_bytes(header: bytes) -> int:
    """Bytes of the filtered rows that a PNG of this header must hold; one filter byte to a row."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total + (height // 2) * (1 + (width * bits + 7) // 8)


def _listed() -> str:
    return ", ".join(FORMATS[:-1]) + " or " + FORMATS[-1]


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
