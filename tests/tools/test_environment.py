"""What `python -m fgvr env` tells: each package and device, and no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import fgvr
from fgvr.__main__ import main
from fgvr.tools.environment import PACKAGES, facts


def told(**variables: str) -> dict[str, str]:
    return dict(re.split(r": |=", line, maxsplit=1) for line in facts(variables))  # pyright: ignore[reportArgumentType]


def test_versions_of_what_is_here_and_what_is_not():
    found = told()
    assert found["fgvr"].startswith(f"{fgvr.__version__} (code ")
    assert found["torch"] == torch.__version__
    assert set(PACKAGES) <= set(found)
    assert all(value == "not installed" or value[0].isdigit() for name, value in found.items() if name in PACKAGES)
    assert float(found["memory"].removesuffix(" GiB")) > 0


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "FGVR_JUDGE_API_KEY", "FGVR_REDIS_URL", "SLURM_JWT_TOKEN", "TORCH_PROXY", "HF_PASSWORD"]
)
def test_what_may_be_secret_is_only_said_to_be_set(name: str):
    assert told(**{name: "hunter2"})[name] == "(set)"


def test_variables_that_matter_stand_there_and_others_do_not():
    found = told(CUDA_VISIBLE_DEVICES="0,1", OMP_NUM_THREADS="4", HOME="/home/eel", RANK="1", MY_PASSWORD="hunter2")
    assert (found["CUDA_VISIBLE_DEVICES"], found["OMP_NUM_THREADS"], found["RANK"]) == ("0,1", "4", "1")
    assert not {"HOME", "MY_PASSWORD"} & set(found)


def test_the_command_says_what_to_do_with_it(capsys: Any):
    assert main(["env"]) == 0
    said = capsys.readouterr().out
    assert f"torch: {torch.__version__}" in said
    assert said.endswith("; python -m fgvr doctor RUN tells of a run.\n")
