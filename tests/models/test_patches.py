import numpy as np
import pytest
from conftest import photo, tiny_backbone
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

from fgvr.models.patches import patches_by_library, patches_of, resized, resized_by_library

SIDES = st.integers(1, 200)
SETTINGS = Qwen2VLImageProcessorPil(patch_size=14)


@given(SIDES, SIDES, st.integers(1, 9), st.integers(1, 9), st.sampled_from([14, 16]), st.integers(0, 9))
def test_patches_are_the_library_s_bit_for_bit(width, height, least, more, side, seed):
    settings = Qwen2VLImageProcessorPil(patch_size=side)
    image, budget = photo(width, height, seed=seed), ((2 * side) ** 2 * least, (2 * side) ** 2 * (least + more))
    found, whole = resized(image, settings, *budget), resized_by_library(image, settings, *budget)
    assert found.dtype == whole.dtype == np.uint8
    assert np.array_equal(found, whole)
    assert np.array_equal(patches_of(found, side, settings.merge_size), patches_by_library(whole, settings))


def test_patches_that_are_merged_stand_side_by_side():
    # 4 x 4 pixels, patches of 1 x 1, merged two by two: rows 0 and 1 of columns 0 and 1 first, then of columns 2 and 3
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4)
    photo = np.repeat(numbers[:, :, None], 3, axis=2)
    patches = patches_of(photo, side=1, merge=2)
    assert patches[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert patches.shape == (16, 3)


def test_another_processor_s_own_ways_are_kept():
    class Upside(Qwen2VLImageProcessorPil):
        def resize(self, image, size, resample, factor, **kwargs):
            return super().resize(image, size, resample, factor, **kwargs)[:, ::-1]

    image = photo(50, 40)
    plain, turned = (resized(image, kind(patch_size=14), 784, 7056) for kind in (Qwen2VLImageProcessorPil, Upside))
    assert np.array_equal(turned, plain[::-1])


@pytest.mark.parametrize("way", [resized, resized_by_library])
def test_a_shape_beyond_200_to_1_is_refused(way):
    with pytest.raises(ValueError, match="200"):
        way(Image.new("RGB", (201, 1)), SETTINGS, 784, 7056)


def test_the_processor_s_resampling_is_the_settings():
    processor = tiny_backbone().processor(None)
    processor.image_processor.resample = Image.Resampling.NEAREST
    image = photo(50, 40)
    wanted = resized_by_library(image, processor.image_processor, processor.pixels.min, processor.pixels.max)
    assert np.array_equal(np.asarray(processor.view(image)), wanted)
