import json
import math
from pathlib import Path

from rich.console import Console

from fgvr.callbacks.final_metrics import print_figures, write_figures


def test_the_file_is_flat_and_has_no_nan(tmp_path: Path) -> None:
    write_figures(tmp_path / "m.json", {"seen/exact": 0.5, "unseen/exact": math.nan}, step=7, seconds=None)
    read = json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda name: name)
    assert read == {"seen/exact": 0.5, "unseen/exact": None, "step": 7, "seconds": None, "fgvr": read["fgvr"]}


def test_the_table_has_a_column_per_cohort() -> None:
    console = Console(width=60, record=True)
    print_figures({"seen/exact": 0.7, "unseen/exact": 0.25, "seen/n": 384.0, "loss": math.inf}, "run", console)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    assert [row for row in cells if row] == [
        ["exact", "", "0.7000", "0.2500"],
        ["n", "", "384", ""],
        ["loss", "none", "", ""],
    ]
