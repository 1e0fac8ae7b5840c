"""An exported folder in a real `transformers serve`: photos by the chat interface, and the run's own greedy answers."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photo, tiny_backbone
from exported import CHAT, noisy
from transformers_server import serving

from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.saved import write_hf_folder

pytestmark = [pytest.mark.lmms_eval, pytest.mark.timeout(600)]
TOKENS = 12


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_photos_get_the_answers_of_the_run(tmp_path: Path, family: Any) -> None:
    backbone = tiny_backbone(family)
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84))
    policy = noisy(Policy(config, backbone.processor(config.pixels)))
    pictures = [photo(120, 64 + 10 * number, seed=number) for number in range(6)]
    ours = policy.answers([policy.processor.encode_prompt(CHAT, [picture]) for picture in pictures], TOKENS)
    model = tmp_path / "model"
    model.mkdir()
    write_hf_folder(policy, model, "merge", torch.float32, TOKENS)
    python = str(Path(os.environ["FGVR_LMMS_EVAL_ENV"]) / "bin" / "python")
    theirs: list[tuple[str, int]] = []
    with serving(python, model, tmp_path) as address:
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / f"{number}.png")
            theirs.append(asked(address, model, tmp_path / f"{number}.png"))
    decode = policy.processor.tokenizer.decode
    assert theirs == [(decode(ids, skip_special_tokens=True), len(ids)) for ids in ours]
    assert len(set(theirs)) > 1


def asked(address: str, model: Path, picture: Path) -> tuple[str, int]:
    """The reply and its number of tokens. Without `max_tokens` that server lets a reply have 1024 and more."""
    url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": CHAT[0]["content"][1]["text"]},
    ]
    body: dict[str, Any] = {"model": str(model), "messages": [{"role": "user", "content": content}], "temperature": 0}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        json.dumps(body | {"max_tokens": TOKENS}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        said = json.load(reply)
    return said["choices"][0]["message"]["content"], said["usage"]["completion_tokens"]
