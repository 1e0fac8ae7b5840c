"""Qwen2's own tokenizer without a hub: of the vocabulary that the wheel of `dashscope` carries."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from pathlib import Path

from transformers import AddedToken
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

# in the order of their ids, from 151643 on
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
SPECIAL += ["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
# as Qwen2.5-VL's own renders a user's turn, whose text is a string where llama.cpp renders it
TEMPLATE = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def vocabulary_file() -> Path | None:
    """Its 151,643 tokens with their ranks, where that package is installed."""
    found = find_spec("dashscope")
    file = Path(found.origin).parent / "resources" / "qwen.tiktoken" if found and found.origin else None
    return file if file is not None and file.is_file() else None


def qwen_tokenizer(file: Path) -> Qwen2Tokenizer:
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, file.read_bytes().splitlines())}
    letters = bytes_to_unicode()

    def spelt(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [halves(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    tokenizer = Qwen2Tokenizer(
        vocab={spelt(token): rank for token, rank in ranks.items()},
        merges=[(spelt(left), spelt(right)) for left, right in merges],  # pyright: ignore[reportArgumentType]
        chat_template=TEMPLATE,
        model_max_length=4096,
    )
    for token in SPECIAL:
        tokenizer.add_tokens(AddedToken(token, special=True, normalized=False))
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


def halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that a token is merged of: its bytes, merged by lower ranks as long as there are more."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        place = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]
