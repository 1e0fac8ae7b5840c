"""Exported folders under the oldest transformers that the card promises: the run's logits, by the card's own lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from conftest import photo, tiny_policy
from exported import noisy, own_logits, run_alone, strangers_logits

from fgvr.models.hub_layout import OLDEST
from fgvr.models.saved import Agreement, policy_card, write_hf_folder
from fgvr.tools.model_card import Card, write_card

pytestmark = [pytest.mark.transformers4, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter beside that release."""
    folder = os.environ.get("FGVR_TRANSFORMERS_4_ENV")
    assert folder, "name an environment made by .ci/make-transformers-4-env in FGVR_TRANSFORMERS_4_ENV"
    found = str(Path(folder) / "bin" / "python")
    assert run_alone("import transformers; print(transformers.__version__)", python=found).startswith(f"{OLDEST}.")
    return found


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_it_gives_the_run_s_logits(tmp_path: Path, python: str, family: str):
    policy, picture = noisy(tiny_policy(family)), photo(120, 64, seed=9)
    ours = own_logits(policy, picture)
    write_hf_folder(policy, tmp_path, "merge", torch.float32, 64)
    picture.save(tmp_path / "a.png")
    theirs = strangers_logits(tmp_path, tmp_path / "a.png", python)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_card_s_own_lines_ask_the_model(tmp_path: Path, python: str, dtype: str):
    policy = noisy(tiny_policy())
    card = policy_card(policy, 64)
    write_hf_folder(policy, tmp_path, "merge", getattr(torch, dtype), 64)
    write_card(tmp_path, Card(card, "birds", 3, "merge", dtype, 0, {}, Agreement(0.0, 0.0, 8, 8), "What is it?"))
    photo(90, 70).save(tmp_path / "photo.jpg")
    text = (tmp_path / "README.md").read_text()
    lines = text.split("```python\n")[1].split("```")[0].replace("PATH/TO/THIS/FOLDER", str(tmp_path))
    theirs, ours = run_alone(lines, cwd=tmp_path, python=python), run_alone(lines, cwd=tmp_path)
    assert theirs.strip()
    if dtype == "float32":  # release 4 opens in float32 what it is not told to open otherwise
        assert theirs == ours
