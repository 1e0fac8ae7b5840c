import pytest
import torch
from conftest import prompt, tiny_policy

from fgvr.kernels.positions import mrope_positions


def test_by_hand():
    # a b [2 x 1 image] c: text 0 1, image from 2 (rows 2 3, column 2), text goes on at 2 + max(2, 1) = 4
    positions = mrope_positions(torch.tensor([5, 6, 9, 9, 7]), 9, [(1, 4, 2)], merge=2)
    assert positions.tolist() == [[0, 1, 2, 2, 4], [0, 1, 2, 3, 4], [0, 1, 2, 2, 4]]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_equals_the_model_s_own_index(family, images):
    policy = tiny_policy(family)
    encoded = prompt(policy, images=images, width=112)
    marks = (encoded.input_ids == policy.processor.image_token).int()
    theirs, _ = policy.base.model.get_rope_index(encoded.input_ids[None], marks[None], encoded.images.grid_thw)
    assert torch.equal(encoded.positions, theirs[:, 0])


def test_missing_and_surplus_placeholders_are_refused():
    with pytest.raises(ValueError, match="as many placeholders"):
        mrope_positions(torch.tensor([5, 9, 7]), 9, [(1, 4, 2)], merge=2)
    with pytest.raises(ValueError, match="needs an image"):
        mrope_positions(torch.tensor([5, 9, 9, 7, 9]), 9, [(1, 4, 2)], merge=2)
