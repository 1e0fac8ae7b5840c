import pytest
from conftest import tiny_policy

from fgvr.models.blank import blank_prompt


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_its_image_has_one_token_and_the_tower_one_feature(family: str):
    policy = tiny_policy(family)
    prompt = blank_prompt(policy.processor)
    assert int((prompt.input_ids == policy.processor.image_token).sum()) == 1
    assert prompt.positions.tolist() == [[0, 1, 2]] * 3
    assert len(policy.image_features(prompt.images).tokens) == 1
