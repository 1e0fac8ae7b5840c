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
    assert cells(console) == [
        ["exact", "", "0.7000", "0.2500"],
        ["n", "", "384", ""],
        ["loss", "none", "", ""],
    ]


def test_the_table_begins_with_what_matters_and_leaves_out_what_says_nothing() -> None:
    console = Console(width=60, record=True)
    figures = {"seen/unread": 0.0, "seen/none": math.nan, "seen/n": 8.0, "seen/genus": 0.5, "seen/family": 1.0}
    print_figures(figures | {"seen/exact": 0.0, "data/seen/quarantined": 3.0}, "run", console)
    assert cells(console) == [["exact", "0.0000"], ["family", "1.0000"], ["genus", "0.5000"], ["n", "8"]]


def cells(console: Console) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    return [row for row in rows if row]
