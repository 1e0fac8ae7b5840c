"""Trained policies as runs and as exported folders, and strangers who open these with transformers alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from fgvr.checkpoints.format import write_checkpoint
from fgvr.models import Policy
from fgvr.models.saved import policy_card

# what a stranger runs: from the photo's pixels to logits and a greedy answer
STRANGER = """
import sys, torch, transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
folder, picture = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder, backend="pil")([Image.open(picture)], return_tensors="pt")
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
count = int(images["image_grid_thw"].prod()) // 4
ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * count), return_tensors="pt")["input_ids"]
inputs = {"input_ids": ids, **images}
if not transformers.__version__.startswith("4."):
    inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
with torch.no_grad():
    logits = model(**inputs).logits[0]
assert not any(name.split(".")[0] == "fgvr" for name in sys.modules)
torch.save(logits, picture + ".logits")
"""
CHAT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]


def noisy(policy: Policy) -> Policy:
    """Moves every trained weight a little, as training would."""
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy.eval()


def write_run(policy: Policy, shards: Path, run: Path, max_new_tokens: int = 64) -> Path:
    """A run's folder with its settings, figures and a checkpoint of step 3."""
    state = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    if policy.config.backbone.reloadable:
        kept = {f"policy.{name}" for name, _ in policy.trainable()}
        state = {name: value for name, value in state.items() if name in kept}
    checkpoint = {"state_dict": state, "fgvr_policy": policy_card(policy, max_new_tokens), "global_step": 3}
    checkpoint["epoch"] = 0
    write_checkpoint(checkpoint, run / "checkpoints" / "step=3.ckpt")
    data = {
        "train": [{"path": str(shards)}],
        "task": {"class_path": "fgvr.data.OpenWorld", "init_args": {"question": "What is it?"}},
    }
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": data}}))
    (run / "final_metrics.json").write_text(json.dumps({"seen/exact": 0.5, "step": 3, "fgvr": "0"}))
    return run


def strangers_logits(folder: Path, picture: Path, python: str = sys.executable) -> torch.Tensor:
    run_alone(STRANGER, folder, picture, python=python)
    return torch.load(f"{picture}.logits", weights_only=True)


def own_logits(policy: Policy, picture: Any) -> torch.Tensor:
    prompt = policy.processor.encode_prompt(CHAT, [picture])
    marks = (prompt.input_ids == policy.processor.image_token).int()
    images = {"pixel_values": policy.processor.pixel_values(prompt.images), "image_grid_thw": prompt.images.grid_thw}
    with torch.no_grad():
        return policy.base(input_ids=prompt.input_ids[None], mm_token_type_ids=marks[None], **images).logits[0]


def run_alone(code: str, *arguments: str | Path, python: str = sys.executable, cwd: Path | None = None) -> str:
    """What a program prints that has nothing of this repository in its path."""
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
