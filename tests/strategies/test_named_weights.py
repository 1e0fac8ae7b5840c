import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from toy_run import ToyData, ToyModel

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in
from fgvr.strategies.named_weights import with_named_weights

CONFIG = """
model: {{class_path: toy_run.ToyModel, init_args: {{lr: 0.1}}}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_steps: 9, val_check_interval: 4}}
run: {{dir: {folder}, allow_changed: [code]}}
"""
# what Lightning takes for a job of SLURM; srun is not asked for
SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fgvr", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment.detect()


def run(folder: Path, verb: str = "fit", *options: str) -> dict[str, Any]:
    """The figures that a command ends with, without the seconds and the digest, which is of the seconds too."""
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(CONFIG.format(folder=folder))
    assert main([verb, "--config", str(config), *options]) == 0
    file = folder / f"{'final' if verb == 'fit' else verb}_metrics.json"
    return {key: value for key, value in json.loads(file.read_text()).items() if key not in ("seconds", "digest")}


def test_a_stale_checkpoint_of_lightnings_requeueing_is_never_taken(tmp_path: Path, slurm: None) -> None:
    expected = run(tmp_path / "straight")
    untrained = run(tmp_path / "straight", "validate", "--ckpt_path", "none")
    other = tmp_path / "run"
    stale = checkpoints_in(tmp_path / "straight/checkpoints")[-1]
    shutil.copytree(stale, other / "hpc_ckpt_1.ckpt")
    assert run(other, "validate", "--ckpt_path", "none") == untrained
    assert run(other, "fit", "--trainer.max_steps", "5") != expected  # it began at the beginning
    (other / "hpc_ckpt_1.ckpt/state.pt").write_bytes(b"")  # whoever opened it would say so
    assert run(other, "fit", "--run.allow_changed", "[code,config]") == expected
    assert run(other, "validate")["seen/exact"] == expected["seen/exact"]
    assert run(other, "test")["seen/exact"] == expected["seen/exact"]


class Requeue(Callback):
    """Sends its own process what SLURM sends a job before its time is up, when nothing is meant to answer."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)  # bypassed where Lightning means to requeue
        assert trainer.received_sigterm


@pytest.mark.parametrize("plugins", [[], [SLURMEnvironment()]], ids=["found", "given"])
def test_lightning_does_not_requeue_the_job(tmp_path: Path, slurm: None, plugins: list[Any]) -> None:
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, callbacks=[Requeue()], plugins=plugins, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, max_steps=2,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        with_named_weights(trainer).fit(ToyModel(), datamodule=ToyData())
    assert list(tmp_path.iterdir()) == []


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run/hpc_ckpt_1.ckpt").touch()
    last = checkpoints_in(tmp_path / "run/checkpoints")[-1]
    assert run(tmp_path / "run", "validate", "--ckpt_path", str(last)) == run(tmp_path / "run", "validate")
