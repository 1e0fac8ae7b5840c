from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from toy_birds import PATHS, classes
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from fgvr.errors import UserError
from fgvr.models.text_tower import TextTower
from fgvr.similarity import FolderNames

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = (
    "[PAD]",
    "[EOS]",
    "[UNK]",
    "a",
    "photo",
    "of",
    "red",
    "blue",
    "ash",
    "tall",
    "barred",
    "plain",
    "finch",
    "wren",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random CLIP of a few thousand weights that knows some words, in the hub's layout."""
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(WORDS), "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
    vision = {**SMALL, "image_size": 28, "patch_size": 14}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 1)])
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    return tmp_path


def test_names_are_compared_as_the_text_side_reads_them(folder: Path):
    ranking = FolderNames(folder).nearest(classes(), 3)
    features = torch.nn.functional.normalize(TextTower(folder)([f"a photo of a {name}." for name in PATHS]), dim=-1)
    scores = features @ features.T
    names = list(PATHS)
    for name, row in ranking.items():
        assert len(row) == 3
        assert name not in dict(row)
        assert [score for _, score in row] == sorted((score for _, score in row), reverse=True)
        for other, score in row:
            assert score == pytest.approx(float(scores[names.index(name), names.index(other)]), abs=1e-5)
    assert ranking == FolderNames(folder).nearest(classes(), 3)


def test_the_prompt_is_part_of_the_measure(folder: Path):
    assert FolderNames(folder).describe() != FolderNames(folder, "{}").describe()
    with pytest.raises(UserError, match=r"must have one \{\}"):
        FolderNames(folder, "a bird")


def test_a_folder_without_such_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="there is no folder"):
        FolderNames(tmp_path / "none").nearest(classes(), 1)
