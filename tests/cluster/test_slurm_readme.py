from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("script", sorted([*SLURM.glob("*.sbatch"), *SLURM.glob("*.sh")]), ids=lambda path: path.name)
def test_a_script_passes_shellcheck(script: Path) -> None:
    """It is of the test extra, so that it stands beside this python."""
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert shellcheck is not None, "install the test extra: pip install -e '.[test]'"
    done = subprocess.run([shellcheck, "-x", script.relative_to(SLURM.parent)], cwd=SLURM.parent, capture_output=True)
    assert done.stdout.decode() == ""
