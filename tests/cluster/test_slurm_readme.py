from __future__ import annotations

import re
import subprocess
from pathlib import Path

SLURM = Path(__file__).parents[2] / "slurm"
SCRIPT, README = SLURM / "train_with_judge.sbatch", SLURM / "README.md"


def test_the_readme_names_every_variable_code_and_line_to_edit() -> None:
    script, readme = SCRIPT.read_text(), README.read_text()
    for name in set(re.findall(r"JUDGE_[A-Z]+", script)):
        assert name in readme, f"slurm/README.md says nothing of {name}"
    for code in set(re.findall(r"stop (\d+)", script)):
        assert f"| {code} |" in readme, f"slurm/README.md does not say when the exit code is {code}"
    for option in set(re.findall(r"--[a-z-]+", "".join(re.findall(r"^#+SBATCH .*\n", script, re.MULTILINE)))):
        if option not in ("--job-name", "--output", "--open-mode"):
            assert option in readme, f"slurm/README.md does not explain {option}"


def test_the_script_is_well_formed() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True).stderr == ""
