"""A photo as the patches that a Qwen-VL tower reads: what transformers' image processor does, without its detours.

Shape legend: S patches, K grey values of one (3 x side x side).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

Grey = UInt8[np.ndarray, "height width 3"]


def resized(image: Image.Image, settings: Any, least: int, most: int) -> Grey:
    """An RGB image within `least` to `most` pixels, each side a multiple of a merged patch's, by the settings' filter.

    Raises ValueError for a shape beyond 200 : 1.
    """
    if type(settings) is not Qwen2VLImageProcessorPil or not isinstance(settings.resample, int):
        return resized_by_library(image, settings, least, most)
    factor = settings.patch_size * settings.merge_size
    height, width = smart_resize(image.height, image.width, factor=factor, min_pixels=least, max_pixels=most)
    return np.asarray(image.resize((width, height), resample=settings.resample))


def resized_by_library(image: Image.Image, settings: Any, least: int, most: int) -> Grey:
    """The slow twin: through arrays with the colours first and back, each looked at for its range."""
    size = SizeDict(shortest_edge=least, longest_edge=most)
    factor = settings.patch_size * settings.merge_size
    colours = np.asarray(image).transpose(2, 0, 1)
    found = settings.resize(colours, size=size, resample=settings.resample, factor=factor)
    return found.astype(np.uint8).transpose(1, 2, 0)


def patches_of(photo: Grey, side: int, merge: int) -> UInt8[np.ndarray, "S K"]:
    """The patches, those that are merged into one token side by side; a still image's frame once, not repeated."""
    height, width = photo.shape[0] // side, photo.shape[1] // side
    blocks = photo.reshape(height // merge, merge, side, width // merge, merge, side, 3)
    return blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(height * width, 3 * side * side)


def patches_by_library(photo: Grey, settings: Any) -> UInt8[np.ndarray, "S K"]:
    """The slow twin: by way of float32."""
    colours = photo.transpose(2, 0, 1)
    patches, _, _ = settings.patchify(colours, settings.patch_size, settings.merge_size, temporal_patch_size=1)
    return patches.astype(np.uint8)
