from pathlib import Path

import pytest

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in

CONFIG = """
model: {{class_path: toy_run.ToyModel}}
data: {{class_path: toy_run.ToyData}}
trainer:
  accelerator: cpu
  max_epochs: 3
  callbacks:
  - class_path: lightning.pytorch.callbacks.EarlyStopping
    init_args: {{monitor: {figure}, mode: max, patience: 9}}
run: {{dir: {folder}/run, allow_changed: [code]}}
"""


def fit(folder: Path, figure: str, *options: str) -> int:
    (folder / "toy.yaml").write_text(CONFIG.format(folder=folder, figure=figure))
    return main(["fit", "--config", str(folder / "toy.yaml"), *options])


def test_a_run_that_is_resumed_at_an_epochs_end_waits_for_the_next_figure(tmp_path: Path) -> None:
    assert fit(tmp_path, "seen/exact", "--trainer.max_epochs", "1") == 0
    assert checkpoints_in(tmp_path / "run/checkpoints")[-1].stem == "step-00000007"
    assert fit(tmp_path, "seen/exact", "--run.allow_changed", "[config,code]") == 0
    assert checkpoints_in(tmp_path / "run/checkpoints")[-1].stem == "step-00000021"


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path")  # another one, to lightning
def test_a_figure_that_no_validation_gives_is_an_error_still(tmp_path: Path) -> None:
    assert fit(tmp_path, "seen/exact", "--trainer.max_epochs", "1") == 0
    with pytest.raises(RuntimeError, match="seen/exct"):
        fit(tmp_path, "seen/exct", "--run.allow_changed", "[config,code]")
