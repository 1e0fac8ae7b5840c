"""An export for a real llama.cpp: its converter takes both parts, and its program gives the folder's own replies.

Skipped where they are missing: convert_hf_to_gguf.py (with sentencepiece for the python3 on the PATH) and
llama-mtmd-cli on the PATH, and the package dashscope for Qwen's vocabulary, which that converter asks for.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photo
from exported import CHAT, noisy
from qwen_vocabulary import qwen_tokenizer, vocabulary_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

from fgvr.models import PixelBudget, Policy, PolicyConfig, Pretrained
from fgvr.models.saved import folder_replies, write_hf_folder
from fgvr.tools.gguf import ASKER, CONVERTERS, MODEL, PROJECTOR, compared, convert, find_converter

THERE = any(map(shutil.which, CONVERTERS)) and shutil.which(ASKER) and vocabulary_file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not THERE, reason="needs llama.cpp's converter and llama-mtmd-cli on the PATH, and dashscope"),
]
TOKENS = 12


def test_converted_files_answer_as_the_folder_does(tmp_path: Path) -> None:
    backbone = Pretrained(str(pretrained(tmp_path / "base")))
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 112 * 112))
    policy = noisy(Policy(config, backbone.processor(config.pixels)))
    folder = tmp_path / "out"
    folder.mkdir()
    write_hf_folder(policy, folder, "merge", torch.float32, TOKENS)
    convert(folder, find_converter(), "float32")
    assert (folder / MODEL).read_bytes()[:4] == (folder / PROJECTOR).read_bytes()[:4] == b"GGUF"
    sizes = [(84, 84), (56, 112), (28, 56), (112, 84)]  # whole tokens: others llama.cpp pads rather than stretches
    questions = [(CHAT, [photo(*size, seed=number)]) for number, size in enumerate(sizes)]
    said = compared(folder, questions, TOKENS)
    assert re.search(r"llama-mtmd-cli, \S+.* of 4 \(whole replies: 4\); .* of 4 \(whole replies: 4\)\.", said), said
    assert len(set(folder_replies(folder, questions))) > 1


def pretrained(folder: Path) -> Path:
    """A Qwen2.5-VL of random weights with Qwen's tokenizer. The converter wants four blocks of the tower or more."""
    file = vocabulary_file()
    assert file is not None
    tokenizer = qwen_tokenizer(file)
    ids = tokenizer.get_vocab()
    ends = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "bos_token_id": None}
    text: dict[str, Any] = {"vocab_size": 151936, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}}
    vision: dict[str, Any] = {
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 128,
    }
    vision |= {"fullatt_block_indexes": [1, 3], "window_size": 112}
    named = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    shared: dict[str, Any] = {f"{name}_token_id": ids[f"<|{token}|>"] for name, token in named.items()}
    config = Qwen2_5_VLConfig(text_config=text | ends, vision_config=vision, tie_word_embeddings=True, **shared)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14).save_pretrained(folder)
    return folder
