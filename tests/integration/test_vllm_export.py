"""An exported folder served by a real vLLM on a CPU: photos by the chat interface, and the run's own greedy answers."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photo, tiny_backbone
from exported import CHAT, noisy
from vllm_server import serving

from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.saved import write_hf_folder

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
TOKENS = 12


def test_photos_get_the_answers_of_the_run(tmp_path: Path) -> None:
    backbone = tiny_backbone(hidden=128, heads=4, vision_hidden=128)  # heads of 32, the least that vLLM computes with
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84))
    policy = noisy(Policy(config, backbone.processor(config.pixels)))
    pictures = [photo(120, 64 + 10 * number, seed=number) for number in range(6)]
    ours = policy.answers([policy.processor.encode_prompt(CHAT, [picture]) for picture in pictures], TOKENS)
    never = [int(token) for token in policy.processor.generation_config(TOKENS).suppress_tokens or ()]
    model = tmp_path / "model"
    model.mkdir()
    write_hf_folder(policy, model, "merge", torch.float32, TOKENS)
    theirs: list[list[int]] = []
    with serving(model, tmp_path) as address:
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / f"{number}.png")
            theirs.append(asked(address, tmp_path / f"{number}.png", never))
    assert theirs == ours
    assert len({tuple(answer) for answer in ours}) > 1


def asked(address: str, picture: Path, never: list[int]) -> list[int]:
    """The ids of the reply; vLLM does not take the ids that are never to be said from the folder."""
    url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": CHAT[0]["content"][1]["text"]},
    ]
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": content}], "temperature": 0}
    body |= {"max_tokens": TOKENS, "return_token_ids": True, "logit_bias": {str(token): -100 for token in never}}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]["token_ids"]
