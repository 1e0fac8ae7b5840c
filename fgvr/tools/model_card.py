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
    """What the card tells. `policy` describes the model, `figures` are those of optimiser step `step`, perhaps none."""

    policy: Mapping[str, Any]
    dataset: str
    step: int
    adapter: str
    dtype: str
    figures: Mapping[str, Any]
    agreement: Agreement


def write_card(folder: Path, card: Card) -> None:
    """Writes README.md with the metadata that the Hub reads at its head."""
    folder.joinpath("README.md").write_text(f"---\n{_metadata(card)}---\n\n{_text(card)}", encoding="utf-8")


def _metadata(card: Card) -> str:
    kept = card.adapter == "keep"
    scores = {name: value for name, value in card.figures.items() if "/" in name and isinstance(value, int | float)}
    origin = card.policy["origin"]
    data: dict[str, Any] = {
        "license": origin["license"] or UNKNOWN_LICENCE,
        "library_name": "peft" if kept else "transformers",
        "pipeline_tag": "image-text-to-text",
    }
    if origin["path"] and origin["path"] == origin["name"]:  # a hub id; a folder of this machine is nobody's base model
        data |= {"base_model": origin["name"], "base_model_relation": "adapter" if kept else "finetune"}
    data |= {
        "datasets": [card.dataset],
        "language": ["en"],
        "tags": ["fine-grained-visual-recognition", "fgvr"],
        "metrics": sorted(scores),
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _text(card: Card) -> str:
    origin, lora = card.policy["origin"], card.policy["lora"]
    name, revision, pixels = origin["name"], origin["revision"], card.policy["pixels"]
    base = f"`{name}`" + (f" at `{revision}`" if revision else "")
    licence = origin["license"] or "not stated by the base: look it up before you use or share this model"
    trained = "all weights that were not frozen"
    if lora is not None:
        trained = f"LoRA, rank {lora['rank']}, alpha {lora['alpha']:g}"
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
            f"Fine-tuned from {base} on `{card.dataset}`, {card.step} optimiser steps ({trained}),",
            f"with fgvr {fgvr.__version__}.",
            "It names what a photo shows, as finely as it was taught to.",
            "",
            "## Results",
            "",
            *(["| figure | value |", "|---|---|", *rows] if rows else ["The run has no final figures of this step."]),
            "",
            "## Use",
            "",
            f"Images are resized to between {pixels['min']} and {pixels['max']} pixels, the budget it was trained "
            f"with;",
            "the image processor beside this file holds it. Answers stand between `<answer>` and `</answer>`.",
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
            f"Reopened by transformers {version('transformers')} (torch {version('torch')}), weights in "
            f"{card.dtype}, and",
            f"asked {agreement.samples} of the run's own questions. Largest logit difference from the weights as "
            f"written:",
            f"{agreement.reopened:.2e}; of those from the run's model as trained: {agreement.written:.2e}.",
            f"{agreement.same_answers} of {agreement.samples} greedy answers are the run's.",
            "",
        ]
    )
