import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from small_checkpoints import save
from toy_run import ToyData, ToyModel

from fgvr.checkpoints.format import (
    MANIFEST,
    STATE,
    newest_checkpoint,
    read_checkpoint,
)
from fgvr.errors import UserError
from fgvr.strategies.checkpoint_io import WholeCheckpointIO


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_one_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path: Path, name: str, caplog: Any) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    whole = (path / name).read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 40))
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        (path / name).write_bytes(damaged)
        caplog.clear()
        found = newest_checkpoint(tmp_path)
        assert found == tmp_path / "step-1.ckpt"
        assert str(path) in caplog.text
        assert WholeCheckpointIO().load_checkpoint(path)["global_step"] == 1
    (path / name).write_bytes(whole)
    assert newest_checkpoint(tmp_path) == path


@pytest.mark.parametrize("harm", ["missing state", "missing manifest", "cut", "empty manifest", "gone", "foreign name"])
def test_what_is_not_whole_is_passed_over_with_a_sentence(tmp_path: Path, harm: str, caplog: Any) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    if harm == "missing state":
        (path / STATE).unlink()
    elif harm == "missing manifest":
        (path / MANIFEST).unlink()
    elif harm == "cut":
        os.truncate(path / STATE, 100)
    elif harm == "empty manifest":
        (path / MANIFEST).write_text("")
    elif harm == "foreign name":
        text = (path / MANIFEST).read_text()
        (path / MANIFEST).write_text(text.replace(STATE, "../../state.pt"))  # its own hash fails first
    else:
        shutil.rmtree(path)
    assert newest_checkpoint(tmp_path) == tmp_path / "step-1.ckpt"
    assert WholeCheckpointIO().load_checkpoint(path)["global_step"] == 1
    assert f"The checkpoint {path}" in caplog.text
    assert "used instead" in caplog.text


def test_nothing_whole_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    os.truncate(path / STATE, 10)
    assert newest_checkpoint(tmp_path) is None
    with pytest.raises(UserError, match=r"has 10 bytes instead of .* No earlier checkpoint"):
        WholeCheckpointIO().load_checkpoint(path)


def test_a_later_checkpoint_never_stands_in_for_an_earlier_one(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    save(tmp_path, 2)
    os.truncate(path / STATE, 10)
    with pytest.raises(UserError, match="No earlier checkpoint"):
        WholeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("save_last", [True, "link"])
def test_lightnings_own_checkpoint_callback_works_with_it(tmp_path: Path, save_last: Any) -> None:
    def train(resume: Path | None, steps: int) -> ModelCheckpoint:
        keeper = ModelCheckpoint(
            tmp_path / "kept",
            "{step}",
            monitor="step",
            mode="max",
            save_top_k=2,
            every_n_train_steps=2,
            save_last=save_last,
        )
        trainer = Trainer(
            max_steps=steps,
            accelerator="cpu",
            callbacks=[keeper],
            plugins=[WholeCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(ToyModel(), datamodule=ToyData(), ckpt_path=resume)
        return keeper

    train(None, 5)
    assert newest_checkpoint(tmp_path / "kept") is not None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory")
        keeper = train(tmp_path / "kept/last.ckpt", 9)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert {"last.ckpt", "step=6.ckpt", "step=8.ckpt"} <= set(names)
    assert read_checkpoint(tmp_path / "kept/last.ckpt")["global_step"] == 8
    assert Path(keeper.best_model_path).name == "step=8.ckpt"
