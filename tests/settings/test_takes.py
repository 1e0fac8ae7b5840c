"""What a setting takes, in words; values that are not of its type, as typed and as written in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from fgvr.__main__ import main
from fgvr.datamodules import ShardSource
from fgvr.judges.base import Judge
from fgvr.models import PolicyConfig
from fgvr.modules.base import Optimizer
from fgvr.settings.takes import misfits, takes

PHOTOS = str(Path(__file__).parents[2] / "configs" / "photos.yaml")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (bool | int, "a whole number or true/false"),
        (int | float | None, "a number"),
        (list[Path] | None, "a list of paths, such as [data/photos]"),
        (list[ShardSource], "a list of mappings, such as [{path: data/photos}]"),
        (tuple[float, float], "a list of numbers, such as [0.5, 0.5]"),
        (Literal["max", "min"], "one of max, min"),
        (list[Literal["a", "b"]], "a list of a or b, such as [a]"),
        (Path | str, "a path or text"),
    ],
)
def test_a_type_in_words(hint: Any, words: str):
    assert takes(hint) == words


def test_a_class_is_named_by_those_there_are():
    assert "TaxonomyJudge" in takes(Judge)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, float),
        ("${trainer.max_steps}", int),
        ("1e-3", float),
        ("7", int),
        (3, str),
        (None, int | None),
        (["a", Path("b")], list[Path]),
        ([0.9, 0.99], tuple[float, float]),
        ({"lr": 1, "betas": [0.9, 0.95]}, Optimizer),
        ([{"path": "a", "source": {"class_path": "fgvr.sources.CSV", "init_args": {"file": "x"}}}], list[ShardSource]),
        ({"backbone": "TinyQwen", "anything": 3}, PolicyConfig),
        ("anything", None),
        (object(), Any),
    ],
)
def test_what_fits_is_not_spoken_of(value: Any, hint: Any):
    assert list(misfits(value, hint, "here")) == []


TYPED = {
    "--data.init_args.val [{path: data/photos_b}]": "val must be a list of paths, such as [data/photos], got [{",
    "--data.init_args.val data/photos": "must be a list of paths, such as [data/photos], got data/photos.",
    "--data.init_args.train data/photos": "must be a list of mappings, such as [{path: data/photos}], got data/photos.",
    "--data.init_args.train [data/photos]": "train[0] must be a mapping such as {path: data/photos}, got data/photos.",
    "--data.init_args.train [{pth: data/photos}]": "there is no setting data.init_args.train[0].pth; the nearest is",
    "--data.init_args.train [{path: a, examples: few}]": "train[0].examples must be a whole number, got few.",
    "--trainer.precision fp8": "trainer.precision must be 32-true or bf16-mixed, got fp8: choose bf16-mixed for speed",
    "--trainer.limit_val_batches half": "trainer.limit_val_batches must be a number, got half.",
    "--seed_everything abc": "seed_everything must be a whole number or true/false, got abc.",
    "--run.allow_changed everything": "must be a list of config or data or code, such as [config], got everything.",
    "--model.policy.pixels 784": "model.policy.pixels must be a mapping such as {min: 1}, got 784.",
    "--data.eval_examples many": "data.eval_examples must be a whole number, got many.",
}


@pytest.mark.parametrize("line", TYPED)
def test_a_value_of_another_type_as_typed(capsys: Any, line: str):
    key, _, value = line.partition(" ")
    assert main(["fit", "--config", PHOTOS, key, value]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"fgvr: {key}: ")
    assert TYPED[line] in said


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("data: {init_args: {val: [{path: x}]}}", "val must be a list of paths, such as [data/photos], got [{'path':"),
        (
            "data: {class_path: fgvr.datamodules.SFTData, init_args: {train: x}}",
            "data.init_args.train must be a list of",
        ),
        (
            "data: {init_args: {vall: [x]}}",
            "there is no setting data.init_args.vall; the nearest is data.init_args.val.",
        ),
        ("trainer: {precision: fp8}", "trainer.precision must be 32-true or bf16-mixed, got fp8"),
        ("seed_everything: abc", "seed_everything must be a whole number or true/false, got abc."),
    ],
)
def test_a_value_of_another_type_in_a_file(tmp_path: Path, capsys: Any, yaml: str, sentence: str):
    (tmp_path / "wrong.yaml").write_text(yaml)
    assert main(["fit", "--config", PHOTOS, "--config", str(tmp_path / "wrong.yaml")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"fgvr: {tmp_path / 'wrong.yaml'}: ")
    assert sentence in said
