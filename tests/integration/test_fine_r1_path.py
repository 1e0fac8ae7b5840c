"""Fine-R1's path as docs/fine_r1.md types it: photos, thoughts, both stages and the audit, in small."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from rl_run import ROOT, learn_sft

from fgvr.__main__ import main

PAGE = ROOT / "docs" / "fine_r1.md"
FEW = "--data.eval_examples 4 --data.workers 0 --model.max_new_tokens 24 --trainer.enable_progress_bar false"
SMALL = (  # what makes each line after the first end soon
    "",
    f"{FEW} --trainer.max_steps 3 --trainer.val_check_interval 3",
    f"{FEW} --trainer.max_steps 2 --trainer.val_check_interval 99 --data.batch_size 2 --model.sampling.group_size 4 "
    "--model.sampling.positives 2 --model.sampling.max_new_tokens 24 "
    # after three steps there is no well-formed thought yet, and no group in which some are right
    "--model.max_start_failures 1 --model.group_filter null",
    f'{FEW} --data.train [{{"path":"data/aviary"}}]',
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_five_commands_lead_from_photos_to_an_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [one for one in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) if "fgvr cot" in one]
    # the quickstart's stand-in is the supervised run that the tests of a session share
    base, thoughts, first, second, audit = block.replace("\\\n", " ").strip().splitlines()
    assert base == "python -m fgvr fit --config configs/quickstart.yaml"
    learn_sft(tmp_path)
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    shutil.move(tmp_path / "aviary", tmp_path / "data/aviary")
    shutil.move(tmp_path / "sft", tmp_path / "runs/quickstart")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    for line, small in zip((thoughts, first, second, audit), SMALL, strict=True):
        assert main([*shlex.split(line)[3:], *small.split()]) == 0, line

    told = json.loads(Path("data/aviary_cot/manifest.json").read_text())
    assert told["photos"] == told["accepted"] == 3 * 40
    rows = [json.loads(row) for row in Path("runs/fine_r1_sft/answers.jsonl").read_text().splitlines()]
    figures = json.loads(Path("runs/fine_r1_sft/final_metrics.json").read_text())
    lengths = [row["length"] for row in rows if row["cohort"] == "seen"]
    assert figures["seen/length"] == pytest.approx(sum(lengths) / len(lengths))
    assert [*Path("runs/fine_r1_sft/pictures/lengths").glob("*.png")]
    settings = Path("runs/tapo_after_stage_1/config.yaml").read_text()
    assert {Path(run).name for run in re.findall(r"\brun: (\S+)", settings)} == {"fine_r1_sft"}
    assert json.loads(Path("runs/tapo_after_stage_1/final_metrics.json").read_text())["step"] == 2
    assert "Audit of the closed-world protocol" in Path("runs/eval_fine_r1/audit.md").read_text()
