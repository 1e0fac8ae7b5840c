"""Exports for llama.cpp: what is looked for, and what is said of it. Real programs stand in for those of llama.cpp."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from conftest import photo, tiny_policy
from exported import CHAT, noisy

from fgvr.errors import UserError
from fgvr.models.saved import folder_replies, write_hf_folder
from fgvr.tools.export import converter_for
from fgvr.tools.gguf import ASKER, MODEL, PROJECTOR, compared, convert, find_converter


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
    program(path, ASKER, 'test -f "$6" && echo "<answer>Azure Finch</answer>"')
    assert compared(folder, questions, 16).startswith("0 of 2 answers of llama.cpp")
    program(path, ASKER, "echo no vision >&2; exit 3")
    with pytest.raises(UserError, match="ended with 3 and said: no vision"):
        compared(folder, questions, 16)
