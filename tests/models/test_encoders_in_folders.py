from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photo, tiny_policy
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ViTConfig, ViTImageProcessorPil, ViTModel

from fgvr.errors import UserError
from fgvr.models.image_encoder import image_encoder
from fgvr.models.text_encoder import own_text_encoder, text_encoder

SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = ("[PAD]", "[UNK]", "red", "finch", "wren")


def test_any_encoder_of_images_serves(tmp_path: Path):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, image_size=28, patch_size=14)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    encode = image_encoder(tmp_path)
    both = encode([photo(60, 40), photo(30, 50, seed=1)])
    assert both.shape == (2, 16)
    torch.testing.assert_close(encode([photo(60, 40)]), both[:1])


def test_any_encoder_of_texts_serves_and_padding_is_not_read(tmp_path: Path):
    torch.manual_seed(0)
    BertModel(BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=8)).save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    encode = text_encoder(tmp_path)
    both = encode(["wren", "red red finch"])
    torch.testing.assert_close(encode(["wren"]), both[:1])
    assert encode(["red " * 20]).isfinite().all()  # what is too long is cut
    assert encode([""]).isfinite().all()  # an answer of nothing


def test_the_policy_s_own_embeddings_are_a_mean_over_tokens():
    policy = tiny_policy()
    encode = own_text_encoder(policy)
    ids = policy.processor.tokenizer.encode("Jade Owl", add_special_tokens=False)
    expected = policy.base.get_input_embeddings().weight[ids].float().mean(0)
    torch.testing.assert_close(encode(["Jade Owl"])[0], expected.detach())
    assert encode(["", "x"]).isfinite().all()


@pytest.mark.parametrize("opened", [image_encoder, text_encoder])
def test_a_folder_that_is_none_is_said(tmp_path: Path, opened):
    with pytest.raises(UserError, match="there is no folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="encoder"):
        opened(tmp_path)
