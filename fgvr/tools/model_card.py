"""The README.md of an exported model: what it is, what it scored, how it was checked, and the base's licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.filesize import decimal

import fgvr
from fgvr.models import LoRA
from fgvr.models.hub_layout import OLDEST
from fgvr.models.saved import Agreement, tokens_evaluated
from fgvr.tools.published import Result, model_index

UNKNOWN_LICENCE = "other"
# tokenizer and image processor by themselves: AutoProcessor, which combines them, needs torchvision
USE = """\
import transformers
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

folder = "PATH/TO/THIS/FOLDER"
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")  # upright, as it was taught
photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
model = AutoModelForImageTextToText.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder, backend="pil")([photo], return_tensors="pt")
question = {prompt!r}
chat = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": question}}]}}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
places = int(images["image_grid_thw"].prod()) // 4  # tokens of the photo: its patches, two by two
ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * places), return_tensors="pt")["input_ids"]
inputs = {{"input_ids": ids, **images}}
if not transformers.__version__.startswith("4."):  # later releases are told which tokens are the photo's
    inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
answer = model.generate(**inputs)
print({opening}tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True))"""

BY_PROCESSOR = (
    "`AutoProcessor` opens the folder where torchvision is, and so do servers that use it (tested: vLLM 0.32 and",
    "`transformers serve` 5.19); the lines below do without.",
)


@dataclass(frozen=True)
class Card:
    """What the card tells. `policy` describes the model, `size` counts the weights' bytes, `figures` are those of
    optimiser step `step`, perhaps none, `prompt` is the text of a question as the run asked it, `opening` what the chat
    template begins every reply with. `results` are those figures that the Hub lists, of the data set `benchmark` there,
    under the model's `name`; `gguf` says how llama.cpp's answers compare, "" where there is nothing for it.
    """

    policy: Mapping[str, Any]
    dataset: str
    step: int
    adapter: str
    dtype: str
    size: int
    figures: Mapping[str, Any]
    agreement: Agreement
    prompt: str
    opening: str = ""
    results: Sequence[Result] = ()
    name: str = "model"
    benchmark: str | None = None
    gguf: str = ""


def write_card(folder: Path, card: Card) -> None:
    """Writes README.md with the metadata that the Hub reads at its head."""
    folder.joinpath("README.md").write_text(f"---\n{_metadata(card)}---\n\n{_text(card)}", encoding="utf-8")


def _metadata(card: Card) -> str:
    kept = card.adapter == "keep"
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
        "metrics": sorted({one.measure for one in card.results}),
    }
    if index := model_index(card.name, card.results, card.benchmark):
        data["model-index"] = index
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
    base = f"`{origin['name']}`" + (f" at `{origin['revision']}`" if origin["revision"] else "")
    licence = origin["license"] or "not stated by the base: look it up before you use or share this model"
    trained = "all weights that were not frozen" if lora is None else _adapters(LoRA(**lora))
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
            *_results(card),
            "",
            "## Use",
            "",
            *_use(card),
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
            *_check(card),
            "",
            *(_llama_cpp(card) if card.gguf else []),
        ]
    )


def _adapters(lora: LoRA) -> str:
    kind = "DoRA" if lora.dora else "LoRA"
    scaling = " over the rank's root" if lora.rslora else ""
    on = lora.targets if isinstance(lora.targets, str) else ", ".join(lora.targets)
    full = f"; in full `{', '.join(lora.full)}`" if lora.full else ""
    return f"{kind}, rank {lora.rank}, alpha {lora.alpha:g}{scaling}, on `{on}`{full}"


def _results(card: Card) -> list[str]:
    rows = [
        f"| {key} | {value:.4f} |" if isinstance(value, float) else f"| {key} | {value} |"
        for key, value in sorted(_scores(card).items())
    ]
    return ["| figure | value |", "|---|---|", *rows] if rows else ["The run has no final figures of this step."]


def _use(card: Card) -> list[str]:
    pixels, merged = card.policy["pixels"], card.adapter == "merge"
    weights = "Weights" if merged else "Adapter weights"
    opened = [
        f"The chat template begins every reply with `{card.opening!r}`, which belongs to it: put it before what a",
        "server returns.",
    ]
    opening = f"{card.opening!r} + " if card.opening else ""
    return [
        f"{weights} in {card.dtype}, {decimal(card.size)}; transformers {OLDEST} or later opens them.",
        f"Images are resized to between {pixels['min']} and {pixels['max']} pixels, the budget it was trained with;",
        "the image processor beside this file holds it. Answers stand between `<answer>` and `</answer>`.",
        f"They were evaluated with at most {tokens_evaluated(card.policy)} tokens, as generation_config.json has it.",
        *(opened if card.opening else []),
        "With fgvr, `fgvr.load(FOLDER).predict(PHOTO)` gives names with a confidence at each rank: fgvr.json holds its",
        "taxonomy and its question.",
        *(BY_PROCESSOR if merged else ()),
        "Ask it what it was taught to be asked:",
        "",
        *(
            ["```python", USE.format(prompt=card.prompt, opening=opening), "```"]
            if merged
            else [f"> {line}" for line in card.prompt.splitlines()]
        ),
    ]


def _llama_cpp(card: Card) -> list[str]:
    return ["## llama.cpp", "", "model.gguf and mmproj.gguf are this model for llama.cpp.", card.gguf, ""]


def _check(card: Card) -> list[str]:
    agreement = card.agreement
    return [
        f"Reopened by transformers {version('transformers')} (torch {version('torch')}), weights in {card.dtype}, and",
        f"asked {agreement.samples} of the run's own questions. Largest logit difference from the weights as written:",
        f"{agreement.reopened:.2e}; of those from the run's model as trained: {agreement.written:.2e}.",
        f"{agreement.same_answers} of {agreement.samples} greedy answers are the run's.",
    ]
