"""Processors whose chat template begins every reply, as those of models that always, or never, think do."""

from __future__ import annotations

from collections.abc import Sequence

from conftest import tiny_backbone

from fgvr.models import PixelBudget, Processor
from fgvr.models.tiny_qwen import CHAT_TEMPLATE

THINKS, NEVER_THINKS = "<think>\n", "<think>\n\n</think>\n\n"
TURN = "<|im_start|>assistant\n"


def template_that_opens(opening: str) -> str:
    return CHAT_TEMPLATE.replace(TURN, TURN + "{{ " + repr(opening) + " }}")


def processor_that_opens(opening: str, tags_are_special: bool = False, control: Sequence[str] = ()) -> Processor:
    """`control` are special tokens besides those of the tiny model."""
    made = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    tokenizer = made.tokenizer
    tokenizer.chat_template = template_that_opens(opening)
    tags = ["<think>", "</think>", "<answer>", "</answer>"] if tags_are_special else []
    tokenizer.add_tokens([*tags, *control], special_tokens=True)
    return Processor(tokenizer, made.image_processor, made.pixels)
