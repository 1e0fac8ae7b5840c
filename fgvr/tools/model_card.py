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
# tokenizer and image processor by themselves: AutoProcessor, which combines them, needs torchvision
USE = """\
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

folder, photo = "PATH/TO/THIS/FOLDER", Image.open("photo.jpg").convert("RGB")
model = AutoModelForImageTextToText.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder, backend="pil")([photo], return_tensors="pt")
question = {prompt!r}
chat = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": question}}]}}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
places = int(images["image_grid_thw"].prod()) // 4  # tokens of the photo: its patches, two by two
ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * places), return_tensors="pt")["input_ids"]
marks = (ids == model.config.image_token_id).int()
answer = model.generate(input_ids=ids, mm_token_type_ids=marks, **images)
print(tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True))"""


@dataclass(frozen=True)
class Card:
    """What the card tells. `policy` describes the model, `figures` are those of optimiser step `step`, perhaps none,
    `prompt` the text of a question as the run asked it.
    """

    policy: Mapping[str, Any]
    dataset: str
    step: int
    adapter: str
    dtype: str
    figures: Mapping[str, Any]
    agreement: Agreement
    prompt: str


def write_card(folder: Path, card: Card) -> None:
    """Writes README.md with the metadata that the Hub reads at its head."""
    folder.joinpath("README.md").write_text(f"---\n{_metadata(card)}---\n\n{_text(card)}", encoding="utf-8")


def _metadata(card: Card) -> str:
    kept = card.adapter == "keep"
    scores = _scores(card)
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


def _scores(card: Card) -> dict[str, float]:
    """The figures that say how good the answers are, without the accounts of the data and the run."""
    return {
        name: value
        for name, value in card.figures.items()
        if "/" in name and not name.startswith("data/") and isinstance(value, int | float)
    }


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
        for key, value in sorted(_scores(card).items())
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
            "Ask it what it was taught to be asked:",
            "",
            *(
                ["```python", USE.format(prompt=card.prompt), "```"]
                if card.adapter == "merge"
                else [f"> {card.prompt}"]
            ),
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
