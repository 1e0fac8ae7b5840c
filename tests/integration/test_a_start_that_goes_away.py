"""Runs that need what they began with, after the run that made it is gone: resumed, moved, evaluated, begun from."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from rl_run import Kill, ends, grpo_config, sft_config, start
from toy_run import same_weights

from fgvr.__main__ import main
from fgvr.checkpoints.format import STATE, checkpoints_in, read_checkpoint

KILL = {"class_path": "rl_run.Kill", "init_args": {"step": 2, "moment": "sampled"}}
SHORT = ("--trainer.max_steps=4", "--trainer.limit_val_batches=0")
LORA = {"policy": {"lora": {"rank": 4, "alpha": 8}}}
NEEDY: dict[str, dict[str, Any]] = {
    "adapters": LORA,
    "frozen": {"policy": {"freeze": ["vision", "projector"]}},
    "reference": {"kl": {"coefficient": 0.1}},
}


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and a supervised run of a few steps."""
    folder = tmp_path_factory.mktemp("supervised")
    ends(start(sft_config(folder), folder / "sft", *SHORT))
    return folder


@pytest.fixture
def folder(supervised: Path, tmp_path: Path) -> Path:
    """The same, for one test to take apart."""
    return shutil.copytree(supervised, tmp_path / "runs")


def whole_and_killed(folder: Path, changes: dict[str, Any], begins_at: str = "sft") -> tuple[Path, dict[str, Any]]:
    """The config of a run that was killed at its second step, and the last checkpoint of one that nobody disturbed."""
    whole, config = folder / f"{begins_at}-whole", grpo_config(folder, "killed", KILL, **changes)
    config = config.rename(folder / f"after-{begins_at}.yaml")
    config.write_text(config.read_text().replace(str(folder / "sft"), str(folder / begins_at)))
    whole.mkdir()
    (whole / Kill(2, "sampled").mark).touch()
    ends(start(config, whole, *SHORT))
    ends(start(config, folder / f"{begins_at}-killed", *SHORT), -signal.SIGKILL)
    return config, read_checkpoint(checkpoints_in(whole / "checkpoints")[-1])


def goes_on(config: Path, run: Path, expected: dict[str, Any]) -> None:
    ends(start(config, run, *SHORT))
    last = checkpoints_in(run / "checkpoints")[-1]
    assert last.name == "step-00000004.ckpt"
    assert same_weights(read_checkpoint(last), expected)


@pytest.mark.slow
@pytest.mark.parametrize("variant", NEEDY)
def test_a_run_goes_on_bit_for_bit_when_the_one_it_began_from_is_gone(folder: Path, variant: str) -> None:
    config, expected = whole_and_killed(folder, NEEDY[variant])
    run = folder / "sft-killed"
    (base,) = (run / "base").iterdir()
    assert (base / STATE).samefile(checkpoints_in(folder / "sft/checkpoints")[-1] / STATE)
    shutil.rmtree(folder / "sft")
    goes_on(config, run, expected)
    assert [*(run / "base").iterdir()] == [base]


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_when_the_export_it_began_from_is_another(folder: Path) -> None:
    out = folder / "exported"
    export = ["export", "--ckpt", str(folder / "sft"), "--out", str(out), "--samples", "1"]
    assert main(export) == 0
    backbone = {"class_path": "fgvr.models.Pretrained", "init_args": {"path": str(out)}}
    config, expected = whole_and_killed(folder, {"policy": LORA["policy"] | {"backbone": backbone}})
    run = folder / "sft-killed"
    (base,) = (run / "base").iterdir()
    assert (base / "model.safetensors").samefile(out / "model.safetensors")
    assert main([*export, "--overwrite", "true", "--dtype", "bfloat16"]) == 0
    goes_on(config, run, expected)
    assert [*(run / "base").iterdir()] == [base]
    shutil.rmtree(out)
    assert main(["validate", "--config", str(config), "--run.dir", str(run)]) == 0


@pytest.mark.slow
def test_one_that_trains_every_weight_keeps_nothing_and_goes_on_all_the_same(folder: Path) -> None:
    config, expected = whole_and_killed(folder, {})
    shutil.rmtree(folder / "sft")
    goes_on(config, folder / "sft-killed", expected)
    assert not (folder / "sft-killed/base").exists()


@pytest.mark.slow
def test_the_run_may_move_be_evaluated_and_be_begun_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = whole_and_killed(folder, LORA)
    shutil.rmtree(folder / "sft")
    run = tmp_path / "elsewhere" / "rl"
    run.parent.mkdir()
    (folder / "sft-killed").rename(run)
    goes_on(config, run, expected)
    for verb in ("validate", "predict"):
        photos = () if verb == "validate" else ("--data.init_args.predict", str(_photos(folder)))
        assert main([verb, "--config", str(config), "--run.dir", str(run), *photos]) == 0, verb
    assert main(["export", "--ckpt", str(run), "--out", str(tmp_path / "out"), "--samples", "1"]) == 0

    run = run.rename(folder / "adapted")
    config, expected = whole_and_killed(folder, LORA, "adapted")
    shutil.rmtree(run)
    run = (folder / "adapted-killed").rename(tmp_path / "elsewhere" / "again")
    assert len([*(run / "base").iterdir()]) == 2  # adapters, and what these stand on
    goes_on(config, run, expected)
    assert main(["export", "--ckpt", str(run), "--out", str(tmp_path / "more"), "--samples", "1"]) == 0

    _flip(next(base for base in (run / "base").iterdir()) / STATE)
    capsys.readouterr()
    assert main(["export", "--ckpt", str(run), "--out", str(tmp_path / "never"), "--samples", "1"]) == 2
    said = capsys.readouterr().err
    assert f"The checkpoint {run / 'base'}/" in said
    assert "is damaged: state.pt does not have the hash of its manifest" in said
    assert "It is what the run began with: put a whole copy in its place" in said
    shutil.rmtree(run / "base")
    assert main(["export", "--ckpt", str(run), "--out", str(tmp_path / "never"), "--samples", "1"]) == 2
    assert f"{run} began with the weights of {folder / 'adapted'}" in capsys.readouterr().err


def _photos(folder: Path) -> Path:
    from PIL import Image

    photos = folder / "photos"
    photos.mkdir()
    Image.new("RGB", (56, 56), "red").save(photos / "one.png")
    return photos


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)
