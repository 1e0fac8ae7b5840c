"""The README.md of an exported model: what it is, what it scored, how it was checked, and the base's licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import fgvr
from fgvr.models.saved import Agreement

UNKNOWN_LICENCE = "other"


@dataclass(frozen=True)
class Card:
    """What the card tells. `figures` are the run's final metrics, `step` its optimiser step."""

    origin: Mapping[str, str]
    dataset: str
    step: int
    adapter: str
    dtype: str
    pixels: Mapping[str, int]
    lora: Mapping[str, Any] | None
    figures: Mapping[str, Any]
    agreement: Agreement


def write_card(folder: Path, card: Card) -> None:
    """Writes README.md with the metadata that the Hub reads at its head."""
    folder.joinpath("README.md").write_text(f"---\n{_metadata(card)}---\n\n{_text(card)}", encoding="utf-8")


def _metadata(card: Card) -> str:
    kept = card.adapter == "keep"
    scores = {name: value for name, value in card.figures.items() if "/" in name and isinstance(value, int | float)}
    data: dict[str, Any] = {
        "license": card.origin.get("license") or UNKNOWN_LICENCE,
        "library_name": "peft" if kept else "transformers",
        "pipeline_tag": "image-text-to-text",
        "base_model": card.origin.get("name", ""),
        "base_model_relation": "adapter" if kept else "finetune",
        "datasets": [card.dataset],
        "language": ["en"],
        "tags": ["fine-grained-visual-recognition", "fgvr"],
        "metrics": sorted(scores),
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _text(card: Card) -> str:
    name, revision = card.origin.get("name", "an unnamed base"), card.origin.get("revision")
    base = f"`{name}`" + (f" at `{revision}`" if revision else "")
    licence = card.origin.get("license") or "not stated by the base: look it up before you use or share this model"
    lora = (
        "all weights that were not frozen"
        if card.lora is None
        else f"LoRA, rank {card.lora['rank']}, alpha {card.lora['alpha']:g}"
    )
    rows = [
        f"| {key} | {value:.4f} |" if isinstance(value, float) else f"| {key} | {value} |"
        for key, value in sorted(card.figures.items())
        if value is not None and not isinstance(value, str)
    ]
    agreement = card.agreement
    return "\n".join(
        [
            "# A fine-grained recogniser",
            "",
            f"Fine-tuned from {base} on `{card.dataset}`, {card.step} optimiser steps ({lora}), with fgvr "
            f"{fgvr.__version__}.",
            "It names what a photo shows, as finely as it was taught to.",
            "",
            "## Results",
            "",
            *(["| figure | value |", "|---|---|", *rows] if rows else ["This run has no final figures yet."]),
            "",
            "## Use",
            "",
            f"Images are resized to between {card.pixels['min']} and {card.pixels['max']} pixels, the budget it "
            f"was trained with; the",
            "image processor beside this file holds it. Answers stand between `<answer>` and `</answer>`.",
            "",
            "## Limits",
            "",
            f"It knows the classes of `{card.dataset}`; of anything else it may name something similar, and be wrong.",
            "",
            "## Licence",
            "",
            f"The licence of the base model: {licence}.",
            "",
            "## Check",
            "",
            f"Reopened by transformers {version('transformers')} (torch {version('torch')}) and compared with the "
            f"run's model on "
            f"{agreement.samples} photos, weights in {card.dtype}:",
            f"largest logit difference {agreement.logits:.2e}, {agreement.same_answers} of {agreement.samples} "
            f"greedy answers the same.",
            "",
        ]
    )
