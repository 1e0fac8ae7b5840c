"""Exports for llama.cpp: what is looked for, and what is said of it. Real programs stand in for those of llama.cpp."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from conftest import photo, tiny_backbone, tiny_policy
from exported import CHAT, noisy

from fgvr.errors import UserError
from fgvr.models import PixelBudget, Processor
from fgvr.models.saved import folder_replies, write_hf_folder
from fgvr.tools.export import converter_for
from fgvr.tools.gguf import ASKER, MODEL, PROJECTOR, budget, compared, convert, described, find_converter


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all there is on the PATH, beside the shell's own programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def program(folder: Path, name: str, lines: str) -> str:
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_without_a_converter_the_sentence_names_it(path: Path):
    with pytest.raises(UserError, match=r"none of convert_hf_to_gguf\.py, .* is on the PATH: get llama\.cpp"):
        find_converter()
    with pytest.raises(UserError, match="adapter is keep"):
        converter_for("keep")
    own = program(path, "convert_hf_to_gguf.py", "true")
    assert converter_for("merge") == own


def test_both_parts_are_converted_in_the_precision_that_was_written(path: Path, tmp_path: Path):
    lines = f'echo "$@" >> {tmp_path}/asked; touch "$3"'
    convert(tmp_path, program(path, "convert_hf_to_gguf.py", lines), "bfloat16")
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"{tmp_path} --outfile {tmp_path / MODEL} --outtype bf16",
        f"{tmp_path} --outfile {tmp_path / PROJECTOR} --outtype bf16 --mmproj",
    ]


def test_a_converter_that_refuses_is_quoted(path: Path, tmp_path: Path):
    refusing = program(
        path, "convert_hf_to_gguf.py", "echo loading; echo 'BPE pre-tokenizer was not known' >&2; exit 1"
    )
    with pytest.raises(UserError, match=r"and said: BPE pre-tokenizer was not known\. Leave gguf out"):
        convert(tmp_path, refusing, "float32")
    with pytest.raises(UserError, match="ended with 0 and said: nothing"):
        convert(tmp_path, program(path, "quiet", "true"), "float32")


def test_answers_are_compared_where_llama_cpp_can_be_asked(path: Path, tmp_path: Path):
    folder = tmp_path / "out"
    write_hf_folder(noisy(tiny_policy()), folder, "merge", torch.float32, 16)
    questions = [(CHAT, [photo(56, 56, seed=seed)]) for seed in range(2)]
    assert compared(folder, questions, 16) == f"Not compared: {ASKER} is not on the PATH."
    assert len(folder_replies(folder, questions)) == 2
    program(path, ASKER, 'test -f "${13}" && echo "<answer>Azure Finch</answer>"')
    assert "that are this folder's: 0 of 2 (whole replies: 0); of photos" in compared(folder, questions, 16)
    program(path, ASKER, "echo no vision >&2; exit 3")
    with pytest.raises(UserError, match="ended with 3 and said: no vision"):
        compared(folder, questions, 16)


def test_what_differs_is_asked_again_about_the_photo_as_the_model_sees_it(path: Path, tmp_path: Path):
    folder = tmp_path / "out"
    write_hf_folder(noisy(tiny_policy()), folder, "merge", torch.float32, 4)
    pictures = [photo(56, 56, seed=1), photo(80, 60, seed=2)]  # the second is stretched, to 84 x 56
    own = folder_replies(folder, [(CHAT, [picture]) for picture in pictures])
    assert own[0] != own[1]
    (tmp_path / "own").write_text(own[1])
    Processor.from_folder(folder, None).view(pictures[1]).save(tmp_path / "seen.png")
    right = f'cmp -s "${{13}}" {tmp_path}/seen.png && cat {tmp_path}/own || echo no'
    version = 'test "$1" = --version && echo "version: 7 (abc)" >&2 && exit'
    program(path, ASKER, f'echo "$@" >> {tmp_path}/asked; {version}; {right}')
    said = described(folder, [(CHAT, [picture]) for picture in pictures], 4)
    assert f"({ASKER}, 7 (abc)) that are this folder's: 0 of 2 (whole replies: 0); of photos" in said
    assert "does it: 0 of 2 (whole replies: 1)." in said
    assert "--image-min-tokens 1 --image-max-tokens 9 --jinja --temp 0 --image PHOTO -p QUESTION\n```" in said
    assert "multiples of 28 pixels" in said
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len([line for line in asked if line != "--version"]) == 3
    assert f"-m {folder / MODEL} --mmproj {folder / PROJECTOR} --image-min-tokens 1 --image-max-tokens 9" in asked[0]
    assert "-p What is it? --no-escape -n 4 -c " in asked[0]


@pytest.mark.parametrize(
    ("family", "pixels", "tokens"),
    [
        ("qwen2_5_vl", (56 * 56, 28 * 28 * 1280), ("4", "1280")),  # 28 x 28 pixels are a token
        ("qwen2_5_vl", (785, 1600), ("2", "2")),  # 785 / 784 up, 1600 / 784 down
        ("qwen2_5_vl", (1, 100), ("1", "1")),  # one token is the least that an image is made of
        ("qwen3_vl", (2048, 4096), ("2", "4")),  # 32 x 32
    ],
)
def test_the_pixel_budget_in_tokens(family: str, pixels: tuple[int, int], tokens: tuple[str, str]):
    processor = tiny_backbone(family).processor(PixelBudget(*pixels))
    assert budget(processor) == ["--image-min-tokens", tokens[0], "--image-max-tokens", tokens[1]]
