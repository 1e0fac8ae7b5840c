import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_policy
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from fgvr.models.hub_layout import finish_layout
from fgvr.models.saved import write_hf_folder


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_both_releases_find_what_they_look_for(tmp_path: Path, family: str):
    policy = tiny_policy(family)
    config, tokens = policy.base.config, policy.processor.tokenizer
    write_hf_folder(policy, tmp_path, "merge", torch.float32, 64)
    tokenizer, image, text = (
        json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("tokenizer_config", "preprocessor_config", "config")
    )
    # release 4
    assert "extra_special_tokens" not in tokenizer
    assert "<|image_pad|>" in tokenizer["additional_special_tokens"]
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (image["min_pixels"], image["max_pixels"]) == (784, 7056)
    assert text["text_config"]["rope_theta"] == 1e4
    assert text["text_config"]["rope_scaling"] == {"mrope_section": [4, 6, 6], "rope_type": "default"}
    # release 5, the one at hand, reads back what it had
    assert AutoConfig.from_pretrained(tmp_path).text_config.rope_parameters == config.text_config.rope_parameters
    assert AutoTokenizer.from_pretrained(tmp_path).all_special_ids == tokens.all_special_ids
    size = AutoImageProcessor.from_pretrained(tmp_path, backend="pil").size
    assert (size["shortest_edge"], size["longest_edge"]) == (784, 7056)


def test_the_base_s_own_video_processor_is_kept(tmp_path: Path):
    out, base = tmp_path / "out", tmp_path / "base"
    base.mkdir()
    (base / "video_preprocessor_config.json").write_text('{"fps": 2}')
    write_hf_folder(tiny_policy(), out, "merge", torch.float32, 64)
    assert "Qwen2VLVideoProcessor" in (out / "video_preprocessor_config.json").read_text()
    finish_layout(out, "qwen2_5_vl", base)
    assert (out / "video_preprocessor_config.json").read_text() == '{"fps": 2}'
