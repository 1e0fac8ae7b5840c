from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from conftest import example, photo, tiny_policy
from exported import noisy, run_alone
from PIL import Image
from templates import THINKS, processor_that_opens

import fgvr
from fgvr.data.collate import PromptCollate
from fgvr.data.images import ORIENTATION, open_image
from fgvr.models import LoRA, Policy
from fgvr.models.saved import Agreement, policy_card, write_hf_folder
from fgvr.tools.model_card import Card, write_card
from fgvr.types import ReadRecord

QUESTION = "What is it?\nGive the name between <answer> and </answer>."
TEXT = """\
# A fine-grained recogniser

Fine-tuned from `tiny random qwen2_5_vl` on `birds`, 3 optimiser steps (all weights that were not frozen),
with fgvr VERSION.
It names what a photo shows, as finely as it was taught to.

## Results

| figure | value |
|---|---|
| seen/exact | 0.5000 |

## Use

Weights in float32, 924.5 kB; transformers 4.57 or later opens them.
Images are resized to between 784 and 7056 pixels, the budget it was trained with;
the image processor beside this file holds it. Answers stand between `<answer>` and `</answer>`.
They were evaluated with at most 64 tokens, as generation_config.json has it.
With fgvr, `fgvr.load(FOLDER).predict(PHOTO)` gives names with a confidence at each rank: fgvr.json holds its
taxonomy and its question.
`AutoProcessor` opens the folder where torchvision is, and so do servers that use it (tested: vLLM 0.32 and
`transformers serve` 5.19); the lines below do without.
Ask it what it was taught to be asked:

```python
import transformers
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

folder = "PATH/TO/THIS/FOLDER"
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")  # upright, as it was taught
photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
model = AutoModelForImageTextToText.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder, backend="pil")([photo], return_tensors="pt")
question = 'What is it?\\nGive the name between <answer> and </answer>.'
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
places = int(images["image_grid_thw"].prod()) // 4  # tokens of the photo: its patches, two by two
ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * places), return_tensors="pt")["input_ids"]
inputs = {"input_ids": ids, **images}
if not transformers.__version__.startswith("4."):  # later releases are told which tokens are the photo's
    inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
answer = model.generate(**inputs)
print(tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True))
```

## Limits

It knows the classes of `birds`; of anything else it may name something similar, and be wrong.

## Licence

The licence of the base model: apache-2.0.

## Check

Reopened by transformers VERSION (torch VERSION), weights in float32, and
asked 8 of the run's own questions. Largest logit difference from the weights as written:
0.00e+00; of those from the run's model as trained: 1.00e-06.
8 of 8 greedy answers are the run's.
"""


def written(folder: Path, policy: Policy, adapter: str = "merge", **options: Any) -> tuple[dict[str, Any], str]:
    """A card's metadata and text."""
    figures = {"seen/exact": 0.5, "step": 3, "data/seen/read": 40}
    agreement = Agreement(reopened=0.0, written=1e-6, same_answers=8, samples=8)
    card = Card(
        policy_card(policy, 64), "birds", 3, adapter, "float32", 924_512, figures, agreement, QUESTION, **options
    )
    write_card(folder, card)
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text.removeprefix("\n")


def test_the_whole_text(tmp_path: Path):
    policy = tiny_policy()
    metadata, text = written(tmp_path, policy)
    for of_some_package in (fgvr.__version__, torch.__version__, transformers.__version__):
        text = text.replace(of_some_package, "VERSION")
    assert text == TEXT
    assert metadata == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "datasets": ["birds"],
        "language": ["en"],
        "tags": ["fine-grained-visual-recognition", "fgvr"],
        "metrics": [],
    }


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (LoRA(4, 8.0, ("q_proj", "v_proj")), "(LoRA, rank 4, alpha 8, on `q_proj, v_proj`)"),
        (LoRA(4, 8.0, "all-linear", rslora=True), "(LoRA, rank 4, alpha 8 over the rank's root, on `all-linear`)"),
        (LoRA(4, 8.0, r".*\.1\..*_proj", dora=True), r"(DoRA, rank 4, alpha 8, on `.*\.1\..*_proj`)"),
    ],
)
def test_adapters_are_described(tmp_path: Path, lora: LoRA, said: str):
    metadata, text = written(tmp_path, tiny_policy(lora=lora), "keep")
    assert said in text
    assert "Adapter weights in float32, 924.5 kB; transformers 4.57 or later opens them." in text
    assert "> What is it?\n> Give the name between <answer> and </answer>.\n" in text
    assert "```" not in text
    assert metadata["library_name"] == "peft"


def turned(picture: Image.Image, orientation: int) -> bytes:
    exif, stream = Image.Exif(), BytesIO()
    exif[ORIENTATION] = orientation
    picture.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def see_through() -> Image.Image:
    picture = photo(90, 70).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


PHOTOS = {
    "plain.png": saved(photo(90, 70), "PNG"),
    **{f"turned{number}.jpg": turned(photo(90, 70), number) for number in range(1, 9)},
    "see_through.png": saved(see_through(), "PNG"),
    "grey.png": saved(photo(90, 70).convert("L"), "PNG"),
    "palette.gif": saved(photo(90, 70).convert("P"), "GIF", transparency=3),
    "print.jpg": saved(photo(90, 70).convert("CMYK"), "JPEG"),
}
READ = """
import sys, torch
lines, *files = sys.argv[1:]
for file in files:
    names = {}
    exec(lines.partition("question = ")[0].replace("photo.jpg", file), names)
    torch.save(names["images"]["pixel_values"], file + ".pixels")
"""


def lines_of(text: str, folder: Path) -> str:
    return text.split("```python\n")[1].split("```")[0].replace("PATH/TO/THIS/FOLDER", str(folder))


def test_the_card_s_lines_see_photos_as_training_does(tmp_path: Path):
    processor = tiny_policy().processor
    write_hf_folder(tiny_policy(), tmp_path, "merge", torch.float32, 64)
    lines = lines_of(written(tmp_path, tiny_policy())[1], tmp_path)
    for name, data in PHOTOS.items():
        (tmp_path / name).write_bytes(data)
    run_alone(READ, lines, *(tmp_path / name for name in PHOTOS))
    for name, data in PHOTOS.items():
        theirs = torch.load(tmp_path / f"{name}.pixels", weights_only=True)
        ours = processor.pixel_values(processor.encode_images([open_image(data, name)])[0])
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("opening", ["", THINKS])
def test_the_card_s_lines_give_the_policy_s_reply(tmp_path: Path, opening: str):
    policy = noisy(tiny_policy())
    policy.processor = processor_that_opens(opening)
    data = turned(photo(90, 70), 6)
    (tmp_path / "photo.jpg").write_bytes(data)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    prompt = policy.processor.encode_prompt(chat, [open_image(data, "photo")])
    collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
    (ids,) = policy.generate(collate([(example("u"), prompt)], ReadRecord(0, 0, (0,), ("u",))), 64)
    _, text = written(tmp_path, policy, opening=opening)
    assert ("The chat template begins every reply with `'<think>\\n'`, which belongs to it" in text) == bool(opening)
    write_hf_folder(policy, tmp_path, "merge", torch.float32, 64)
    said = run_alone(lines_of(text, tmp_path) + "\nimport sys; assert 'fgvr' not in sys.modules", cwd=tmp_path)
    assert said == policy.processor.decode(ids) + "\n"
