"""All that a check has found as one Markdown table, with the machine and the versions that it ran on.

From a shell: python report.py FIGURES FOLDER writes FOLDER/DATE-DEVICE.md; as few imports as can be, for it must work
where something else does not.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("torch", "triton", "transformers", "lightning", "peft", "jaxtyping", "flash-attn")


def device() -> str:
    """The GPU with its memory and driver as nvidia-smi tells them, else the processor."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"no GPU, {platform.machine()} with {os.cpu_count()} processors"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def table(figures: Path, machine: str) -> str:
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{one} {version(one)}" for one in PACKAGES)])
    lines = [
        f"# GPU check of {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"{machine}; {os.cpu_count()} processors. {versions}.",
        "",
        "| stage | what | found |",
        "|---|---|---|",
    ]
    found = [json.loads(line) for line in figures.read_text(encoding="utf-8").splitlines()]
    for stage in dict.fromkeys(row["stage"] for row in found):  # stages run side by side
        of_stage = [f"{row['what']} | {row['found'].replace('|', '/')} |" for row in found if row["stage"] == stage]
        lines += [f"| {'' if number else stage} | {cells}" for number, cells in enumerate(of_stage)]
    return "\n".join([*lines, ""])


def write(figures: Path, folder: Path) -> None:
    machine = device()
    name = re.sub(r"\W+", "-", machine.split(",")[0].lower()).strip("-")
    file = folder / f"{datetime.now(UTC):%Y-%m-%d}-{name}.md"
    file.write_text(table(figures, machine), encoding="utf-8")
    print(f"The table is in {file}.")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
