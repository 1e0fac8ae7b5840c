"""What is measured, one line of json each, written as soon as it is known: a check that is cut short keeps the rest.

From a shell: python figures.py FILE STAGE WHAT FOUND, and python figures.py FILE STAGE --run FOLDER for what a run of
fgvr came to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FROM_RUNS = ("seen/exact", "seen/genus", "unseen/exact", "seen/parse_failures")


class Figures:
    """Appends to a file what one stage found."""

    def __init__(self, file: Path, stage: str) -> None:
        self.file, self.stage = file, stage

    def add(self, what: str, found: str) -> None:
        print(f"{self.stage} | {what} | {found}", flush=True)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"stage": self.stage, "what": what, "found": found}) + "\n")

    def add_run(self, folder: Path) -> None:
        """The last figures of a run, beside those it began with where it has any."""
        began, ended = (_metrics(folder / name) for name in ("start_metrics.json", "final_metrics.json"))
        for name in FROM_RUNS:
            if name in ended:
                before = f"{began[name]:.3f} to " if name in began else ""
                self.add(f"{name}, step {ended['step']:.0f}", f"{before}{ended[name]:.3f}")
        if "seconds" in ended:
            self.add("training and validation", f"{ended['seconds']:.0f} s")


def _metrics(file: Path) -> dict[str, float]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def main(file: str, stage: str, what: str, found: str) -> None:
    figures = Figures(Path(file), stage)
    if what == "--run":
        figures.add_run(Path(found))
    else:
        figures.add(what, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
