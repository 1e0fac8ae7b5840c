"""A tiny random Qwen-VL with a tokenizer of its own, for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

from fgvr.errors import UserError, refuse_below
from fgvr.models.backbone import Attention, Backbone, Family
from fgvr.models.processor import VISION_TOKENS, PixelBudget, Processor
from fgvr.whole_files import unsealed

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION_TOKENS]
CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class TinyQwen(Backbone):
    """A small random Qwen-VL with a tokenizer trained on given names: enough to learn the Aviary on a CPU.

    `vocabulary` is a file of text to train the tokenizer on: a shard set's manifest.json (its names are taken) or plain
    lines. `phrases` are further texts it should spell in few tokens, such as the task's question; it learns `tokens` in
    all. `family` is the architecture; `hidden`, `layers` and `heads` size its language model, `vision_hidden` and
    `vision_layers` its tower. `seed` fixes the weights. Raises UserError for sizes below 1, or that do not
    divide.
    """

    reloadable = False
    learned = False

    def __init__(
        self,
        vocabulary: str | Sequence[str],
        family: Family = "qwen2_5_vl",
        hidden: int = 128,
        layers: int = 3,
        heads: int = 4,
        vision_hidden: int = 128,
        vision_layers: int = 3,
        tokens: int = 1024,
        phrases: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        refuse_below(1, "backbone", hidden=hidden, layers=layers, heads=heads, tokens=tokens)
        refuse_below(1, "backbone", vision_hidden=vision_hidden, vision_layers=vision_layers)
        for name, size in (("hidden", hidden), ("vision_hidden", vision_hidden)):
            if size % (heads * 16):
                raise UserError(f"{name} must be a multiple of 16 x heads = {16 * heads}, got {size}")
        self.vocabulary, self.family, self.seed, self.tokens = vocabulary, family, seed, tokens
        self.phrases = list(phrases)
        self.hidden, self.layers, self.heads = hidden, layers, heads
        self.vision_hidden, self.vision_layers = vision_hidden, vision_layers

    def config(self) -> PretrainedConfig:
        return self._config(self._tokenizer())

    def build(self, attention: Attention) -> PreTrainedModel:
        config = self.config()
        config._attn_implementation = attention
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation=attention)

    def processor(self, pixels: PixelBudget | None) -> Processor:
        patch = 14 if self.family == "qwen2_5_vl" else 16
        settings: dict[str, Any] = {"patch_size": patch}
        if self.family == "qwen3_vl":
            settings |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        return Processor(self._tokenizer(), Qwen2VLImageProcessorPil(**settings), pixels or PixelBudget())

    def origin(self) -> dict[str, str]:
        name, nowhere = f"tiny random {self.family}", {"path": "", "revision": "", "digest": ""}
        return {"name": name, **nowhere, "license": "apache-2.0", "dtype": "float32"}

    def _texts(self) -> list[str]:
        if not isinstance(self.vocabulary, str):
            return list(self.vocabulary)
        path = Path(self.vocabulary)
        if not path.is_file():
            raise UserError(
                f"vocabulary must be a file of names, such as a shard set's manifest.json, got {self.vocabulary!r}"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"vocabulary must be UTF-8 text, but byte {error.start} of {path} is not: mend it"
            ) from error
        if path.suffix != ".json":
            return text.splitlines()
        return names_in_manifest(text)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.BpeTrainer(
            vocab_size=self.tokens,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=SPECIAL_TOKENS,
            show_progress=False,
        )
        tokenizer.train_from_iterator([*self._texts(), *self.phrases * 50], trainer)
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=SPECIAL_TOKENS[1:2] + SPECIAL_TOKENS[3:],
            padding_side="left",
            chat_template=CHAT_TEMPLATE,
            model_max_length=4096,
        )

    def _config(self, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
        ids = tokenizer.get_vocab()
        head = self.hidden // self.heads
        text: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": self.hidden,
            "intermediate_size": 3 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": max(1, self.heads // 2),
            "max_position_embeddings": 4096,
            # half of a head's width in rotary pairs, shared between time, height and width as in the large models
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        }
        vision: dict[str, Any] = {
            "depth": self.vision_layers,
            "hidden_size": self.vision_hidden,
            "intermediate_size": 3 * self.vision_hidden,
            "num_heads": self.heads,
            "out_hidden_size": self.hidden,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        }
        shared: dict[str, Any] = {
            f"{name}_token_id": ids[f"<|{token}|>"] for name, token in (("image", "image_pad"), ("video", "video_pad"))
        }
        shared |= {"vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"]}
        if self.family == "qwen3_vl":
            text |= {"head_dim": head}
            vision |= {
                "patch_size": 16,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": list(range(self.vision_layers - 1)),
            }
            return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **shared)
        vision |= {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [self.vision_layers - 1]}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **shared)


def names_in_manifest(text: str) -> list[str]:
    """The names of a manifest's taxonomy, as training text for a tokenizer. Raises UserError when it holds none."""
    try:
        taxonomy = unsealed(text.encode())[0]["taxonomy"]
        names = sorted({name for path in taxonomy["paths"].values() for name in path})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"a manifest used as vocabulary must be json with a taxonomy, but it cannot be read: {error}"
        ) from error
    if not names:
        raise UserError("a manifest used as vocabulary must hold a taxonomy with names, but this one holds none")
    return [form for name in names for form in (name, f"<answer>{name}</answer>")]
