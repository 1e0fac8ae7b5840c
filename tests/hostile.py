"""Pictures and files that must not be believed, each made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def photo(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A small picture without symmetry, different for every seed."""
    width, height = size
    red = Image.linear_gradient("L").resize(size)
    green = red.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90).resize(size)
    image = Image.merge("RGB", (red, green, Image.new("L", size, (seed * 37) % 256)))
    image.paste((255, seed % 256, 0), (0, 0, width // 3, height // 3))
    return image


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def jpeg(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    return encoded(photo(seed, size), "JPEG", quality=90)


def noise(form: str) -> bytes:
    return encoded(Image.effect_noise((80, 60), 90).convert("RGB"), form)


def truncated_jpeg() -> bytes:
    data = jpeg(1, (200, 200))
    return data[: len(data) // 2]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG whose header says `height` but whose data ends, properly, after `rows` rows of grey."""
    return _png(width, height, 0, (b"\0" + b"\x80" * (3 * width)) * rows, before, after)


def interlaced_png(width: int, height: int, passes: int = 7) -> bytes:
    """An Adam7 PNG that ends, properly, after some of its seven passes."""
    data = b""
    steps = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    for left, across, top, down in steps[:passes]:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        data += (b"\0" + b"\x80" * (3 * columns)) * rows if columns else b""
    return _png(width, height, 1, data)


def _png(width: int, height: int, interlaced: int, data: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced))
    body = before + chunk(b"IDAT", zlib.compress(data)) + after
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def huge_png_header() -> bytes:
    return png(40_000, 40_000, 1)


def large_png_header() -> bytes:
    """Large enough to be refused, not large enough for Pillow to do more than warn."""
    return png(13_000, 13_000, 1)


def png_missing_rows() -> bytes:
    return png(30, 40, 25)


def text_bomb(after: bool) -> bytes:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 50_000_000, 9))
    return png(20, 20, 20, after=bomb) if after else png(20, 20, 20, before=bomb)


def animated(form: str) -> bytes:
    frames = [photo(seed) for seed in (3, 90, 200)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def turned(orientation: int, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(5, (48, 32)), form, exif=exif, quality=95)


def corrupt_exif_jpeg() -> bytes:
    whole = turned(6)
    place = whole.index(b"Exif\0\0") + 6
    return whole[: place + 8] + b"\xff\xff" * 2 + whole[place + 12 :]


def write_folder(root: Path, classes: int, pictures: int, splits: tuple[str, ...] = ("",)) -> Path:
    """root/[split/]class/N.jpg, every picture different."""
    number = 0
    for split in splits:
        for label in range(classes):
            folder = root / split / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            for picture in range(pictures):
                (folder / f"{picture}.jpg").write_bytes(jpeg(number, (24 + number % 9, 16 + number // 9)))
                number += 1
    return root


def palette_with_alpha() -> bytes:
    image = photo(7).quantize(16)
    return encoded(image, "PNG", transparency=bytes(range(0, 256, 16)))


def half_transparent() -> bytes:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    return encoded(image, "PNG")


def grey16() -> bytes:
    image = Image.new("I;16", (16, 16))
    image.putdata([257 * value for value in range(256)])
    return encoded(image, "PNG")


def mpo() -> bytes:
    return encoded(photo(1), "MPO", save_all=True, append_images=[photo(2)])


# What must be refused: a generator and words that the sentence must hold.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "zero bytes": (lambda: b"", "empty"),
    "text": (lambda: b"<!doctype html><title>404</title>", "its bytes are not one"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "its bytes are not one"),
    "truncated jpeg": (truncated_jpeg, "does not decode"),
    "jpeg magic only": (lambda: b"\xff\xd8\xff\xe0", "image"),
    "truncated png": (lambda: noise("PNG")[:4000], "image"),
    "truncated webp": (lambda: noise("WEBP")[:400], "image"),
    "png rows missing": (png_missing_rows, "rows are missing"),
    "interlaced png rows missing": (lambda: interlaced_png(33, 18, 6), "rows are missing"),
    "40,000 x 40,000": (huge_png_header, "pixels"),
    "13,000 x 13,000": (large_png_header, "13000 x 13000"),
    "text bomb before the pixels": (lambda: text_bomb(after=False), "image"),
    "text bomb after the pixels": (lambda: text_bomb(after=True), "image"),
    "strip": (lambda: encoded(Image.new("RGB", (2000, 1)), "PNG"), "200:1"),
    "tall strip": (lambda: jpeg(0, (1, 2000)), "200:1"),
    "32-bit float": (lambda: encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "32-bit"),
}
