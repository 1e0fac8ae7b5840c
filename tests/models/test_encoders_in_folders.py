from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photo, tiny_policy
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    BertConfig,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from fgvr.errors import UserError
from fgvr.models.image_encoder import image_encoder
from fgvr.models.text_encoder import own_embeddings, own_text_encoder, pooled, text_encoder

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


def write_bert(folder: Path, kind: Callable[..., PretrainedConfig] = BertConfig) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocab_size": len(WORDS), "max_position_embeddings": 8, "pad_token_id": 0}
    AutoModel.from_config(kind(**SMALL, **settings)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)


def as_sentence_transformers(folder: Path, pooling: dict[str, Any], *others: str) -> None:
    """The files beside a model that tell how sentence-transformers has saved it."""
    kinds = ["Transformer", "Pooling", *others]
    paths = ["", "1_Pooling", *(f"{n}_{kind}" for n, kind in enumerate(others, 2))]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))


def test_any_encoder_of_texts_serves_and_padding_is_not_read(tmp_path: Path):
    write_bert(tmp_path)
    encode = text_encoder(tmp_path)
    both = encode(["wren", "red red finch"])
    torch.testing.assert_close(encode(["wren"]), both[:1])
    assert encode(["red " * 20]).isfinite().all()  # what is too long is cut
    assert encode([""]).isfinite().all()  # an answer of nothing


@pytest.mark.parametrize(("kind", "places"), [(BertConfig, 8), (RobertaConfig, 7), (MPNetConfig, 6)])
def test_a_text_is_cut_where_the_model_s_places_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Callable[..., PretrainedConfig], places: int
):
    """Of 8 positions RoBERTa counts from behind that of the padding, 0 here: 8 - 1; MPNet's is always 1: 8 - 2."""
    write_bert(tmp_path, kind)
    encode = text_encoder(tmp_path)
    assert encode(["red " * places]).isfinite().all()
    assert not caplog.records
    for _ in range(2):  # said once
        torch.testing.assert_close(encode(["red " * 20 + "wren"]), encode(["red " * places]))
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path} reads {places} tokens of a text: one has 21 and is cut"
    ]


def test_a_text_is_cut_where_sentence_transformers_would(tmp_path: Path):
    write_bert(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 3, "do_lower_case": false}')
    encode = text_encoder(tmp_path)
    torch.testing.assert_close(encode(["red red red wren"]), encode(["red red red"]))
    (tmp_path / "sentence_bert_config.json").write_text("[")
    with pytest.raises(UserError, match=r"^text_encoder: a folder with an encoder of texts is needed"):
        text_encoder(tmp_path)


def test_tokens_are_pooled_by_hand():
    hidden = torch.tensor([[[1.0, 5.0], [3.0, 1.0], [9.0, 9.0]], [[9.0, 9.0], [2.0, 4.0], [4.0, 0.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])  # padded on the right, and on the left
    assert pooled(hidden, mask, "mean").tolist() == [[2, 3], [3, 2]]  # (1 + 3)/2, (5 + 1)/2; (2 + 4)/2, (4 + 0)/2
    assert pooled(hidden, mask, "cls").tolist() == [[1, 5], [2, 4]]
    assert pooled(hidden, mask, "lasttoken").tolist() == [[3, 1], [4, 0]]
    assert pooled(hidden, mask, "max").tolist() == [[3, 5], [4, 4]]


def test_a_folder_of_sentence_transformers_is_pooled_as_it_says(tmp_path: Path):
    write_bert(tmp_path)
    plain = text_encoder(tmp_path)(["red finch"])
    as_sentence_transformers(tmp_path, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "Normalize")
    torch.testing.assert_close(text_encoder(tmp_path)(["red finch"]), plain)
    as_sentence_transformers(tmp_path, {"pooling_mode": "cls"})
    assert not torch.allclose(text_encoder(tmp_path)(["red finch"]), plain)
    for pooling, others, words in (
        ({"pooling_mode": "mean"}, ("Dense",), "has Transformer, Pooling, Dense"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            (),
            "does by pooling_mode_mean_tokens and",
        ),
        ({}, (), "does by nothing"),
    ):
        as_sentence_transformers(tmp_path, pooling, *others)
        with pytest.raises(UserError, match=words):
            text_encoder(tmp_path)
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(UserError, match=r"^encoder: a folder with an encoder of texts is needed"):
        text_encoder(tmp_path, "encoder")


def test_a_policy_in_a_folder_compares_texts_by_its_embeddings(tmp_path: Path):
    policy = tiny_policy()
    policy.base.save_pretrained(tmp_path)
    policy.processor.save(tmp_path)
    texts = ["Jade Owl", "Azure Finch"]
    expected = own_text_encoder(policy)(texts)
    torch.testing.assert_close(text_encoder(tmp_path)(texts), expected)
    torch.testing.assert_close(own_embeddings(policy.config.backbone)(texts), expected)  # no file to read rows of


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


def test_a_tokenizer_whose_library_is_lacking_is_said(tmp_path: Path):
    write_bert(tmp_path)
    for file in tmp_path.glob("token*"):
        file.unlink()
    settings = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    with pytest.raises(UserError, match=r"^encoder: a folder with an encoder of texts is needed"):
        text_encoder(tmp_path, "encoder")


def test_a_folder_of_timm_s_says_what_it_needs(tmp_path: Path):
    """As `timm.models.save_for_hf` writes it."""
    if importlib.util.find_spec("timm") is not None:
        pytest.skip("timm is here")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "resnet10t", "num_classes": 0, "pretrained_cfg": {}})
    )
    with pytest.raises(UserError, match="pip install timm"):
        image_encoder(tmp_path)


def test_a_folder_of_timm_s_serves(tmp_path: Path):
    timm = pytest.importorskip("timm", reason="an optional encoder's library, which needs a torchvision")
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False)
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    encode = image_encoder(tmp_path)
    both = encode([photo(60, 40), photo(30, 50, seed=1)])
    assert both.shape == (2, model.num_features)
    torch.testing.assert_close(encode([photo(60, 40)]), both[:1])
