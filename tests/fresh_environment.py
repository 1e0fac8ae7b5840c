"""A virtual environment with what `pip install .` brings, and nothing of the tests', made without downloads.

Fgvr's own wheel is built and installed; what it needs, and what that needs in turn, is linked from the environment that
the tests run in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def needed(lines: Iterable[str]) -> dict[str, metadata.Distribution]:
    """What lines of requirements ask for, and what these need in turn."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [Requirement(line) for line in lines]
    while wanted:
        asked = wanted.pop()
        own = metadata.distribution(asked.name)
        key = f"{own.name}[{','.join(sorted(asked.extras))}]"
        if key in found:
            continue
        found[key] = own
        wanted += [one for one in map(Requirement, own.requires or []) if _holds(one, asked.extras)]
    return found


def _holds(asked: Requirement, extras: set[str]) -> bool:
    return asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def tops_of(distribution: metadata.Distribution) -> Iterator[Path]:
    """The folders and files in site-packages that are a distribution's."""
    for name in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(distribution.locate_file(name)))


def fresh_environment(folder: Path) -> Path:
    """Makes it in `folder`, and returns its python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    python = folder / "bin/python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for one in needed(own).values():
        for top in tops_of(one):
            if not (site / top.name).exists():
                (site / top.name).symlink_to(top)
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    for line in (["install", "-q", "--no-deps", str(ROOT)], ["check"]):
        done = subprocess.run([*pip, *line], capture_output=True, text=True, timeout=280, env=outside(folder))
        assert done.returncode == 0, f"pip {' '.join(line)}: {done.stdout}{done.stderr}"
    return python


def outside(folder: Path) -> dict[str, str]:
    """The variables of somebody who has activated that environment, and knows nothing of the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "FGVR"))}
    return {**kept, "VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
