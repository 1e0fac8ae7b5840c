"""Photos in whatever form they come: files, folders, pictures that are open, arrays; each as one upright RGB photo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgvr.data.images import open_image, upright_rgb
from fgvr.errors import SampleError, UserError, shown
from fgvr.sources.base import read_picture
from fgvr.sources.photos import Photos, find_photos

KINDS = "paths, PIL images, numpy arrays or bytes"
Photo = str | Path | Image.Image | NDArray[Any] | bytes | BinaryIO


@dataclass(frozen=True)
class Given:
    """A photo that was given under a name. `load` opens it, and raises SampleError where it cannot be used."""

    name: str
    load: Callable[[], Image.Image]


@dataclass(frozen=True)
class Several:
    """What was given, in its order; `single` is one photo that was given by itself."""

    photos: Sequence[Given]
    single: bool

    def __len__(self) -> int:
        return len(self.photos)

    def __iter__(self) -> Iterator[Given]:
        return iter(self.photos)


def all_given(photos: Photo | Iterable[Photo]) -> Several:
    """A file, a folder (all photos below it), a picture, an array, a file's bytes, or several of these.

    An array holds one photo [height, width], [height, width, 3 or 4], or several [number, height, width, 3], as uint8.
    Raises UserError when there is nothing, and for what is no photo at all; a file that cannot be read is told of when
    it is loaded.
    """
    if isinstance(photos, str) and not photos:
        raise UserError("photos must be the path of a photo or a folder, got an empty text: give . for this folder")
    if isinstance(photos, Mapping):
        raise UserError(f"photos must be {KINDS}, got a mapping: give list(photos.values())")
    if isinstance(photos, str | Path):
        if Path(photos).is_file():
            return Several([_one(photos, 0)], single=True)
        found = find_photos(Path(photos), "photos")
        return Several([Given(name, partial(_of_folder, found, n)) for n, name in enumerate(found.names)], single=False)
    if isinstance(photos, np.ndarray) and photos.ndim == 4 and len(photos):
        return Several([_of_array(one, f"photo {n}") for n, one in enumerate(photos)], single=False)
    if isinstance(photos, Image.Image | np.ndarray) or _holds_a_file(photos):
        return Several([_one(photos, 0)], single=True)
    if not isinstance(photos, Iterable):
        raise UserError(f"photos must be {KINDS}, got {type(photos).__name__}")
    several = [given for number, photo in enumerate(photos) for given in _each_of(photo, number)]
    if not several:
        raise UserError("photos must hold at least one, got an empty list")
    return Several(several, single=False)


def content_of(photo: Image.Image) -> str:
    """What an upright RGB photo is known by, whatever it came from and is called."""
    return hashlib.sha256(repr(photo.size).encode() + photo.tobytes()).hexdigest()


def _each_of(photo: Any, number: int) -> Iterator[Given]:
    """One of several, or all that a folder among them holds."""
    if isinstance(photo, str | Path) and Path(photo).is_dir():
        for given in all_given(photo):
            yield Given(f"{shown(Path(photo).as_posix())}/{given.name}", given.load)
    else:
        yield _one(photo, number)


def _holds_a_file(photo: Any) -> bool:
    """Bytes, or a file that is open for reading them."""
    return isinstance(photo, bytes | bytearray | memoryview) or callable(getattr(photo, "read", None))


def _one(photo: Any, number: int) -> Given:
    if isinstance(photo, str | Path):
        return Given(shown(str(photo)), partial(_of_file, Path(photo)))
    if isinstance(photo, Image.Image):
        name = shown(str(getattr(photo, "filename", "") or f"photo {number}"))
        return Given(name, partial(upright_rgb, photo, name))
    if isinstance(photo, np.ndarray):
        return _of_array(photo, f"photo {number}")
    if _holds_a_file(photo):
        data = _bytes_of(photo, number)
        if isinstance(data, bytes):
            return Given(f"photo {number}", partial(open_image, data, f"photo {number}"))
        raise UserError(
            f"a file of a photo must be opened for bytes, as open(path, 'rb'), but number {number} is of text"
        )
    raise UserError(f"photos must be {KINDS}, but number {number} is {type(photo).__name__}")


def _bytes_of(photo: Any, number: int) -> Any:
    try:
        return photo.read() if hasattr(photo, "read") else bytes(photo)
    except UnicodeDecodeError:  # a photo read as text
        return ""
    except ValueError as error:  # of a closed one
        raise UserError(f"a file of a photo must be open for reading, but number {number} is not ({error})") from error


def _of_folder(found: Photos, number: int) -> Image.Image:
    example = found.read(number)
    return open_image(example.images[0], example.uid)


def _of_file(path: Path) -> Image.Image:
    name = shown(str(path))
    return open_image(read_picture(path, name), name)


def _of_array(array: NDArray[Any], name: str) -> Given:
    if array.dtype != np.uint8:
        raise UserError(
            f"an array must hold uint8 from 0 to 255, but that of {name} holds {array.dtype}: of values from 0 to 1, "
            "give (255 * array).round().astype('uint8'), of whole numbers up to 255 array.astype('uint8')"
        )
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise UserError(
            f"an array must be [height, width], or [height, width, 3 or 4] with the colours last, but that of {name} "
            f"is {list(array.shape)}: of one with the colours first, give array.transpose(1, 2, 0)"
        )
    return Given(name, partial(_from_array, array, name))


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    try:
        return upright_rgb(Image.fromarray(np.ascontiguousarray(array)), name)
    except (ValueError, TypeError) as error:
        raise SampleError(f"{name} must be an array that is a picture, but it is not ({error})") from error
