from __future__ import annotations

from PIL import ImageColor

from fgvr.options.sweep import Cell
from fgvr.pictures.recall import GAP, LINES, MARGIN, PANEL, PLOT, recall_curves


def test_a_curve_for_each_number_of_replies_and_a_panel_for_each_cohort():
    cells = [Cell(k, m, 0.5 + m / 10, 0.4, 0.9, 0.3, 2.0, 9.0) for k in (1, 20) for m in (1, 2, 3)]
    page = recall_curves({"seen": cells, "unseen": cells[:3]})
    assert page.width == 2 * (PANEL + GAP) + GAP
    seen, unseen = (page.crop((n * (PANEL + GAP), 0, (n + 1) * (PANEL + GAP), page.height)) for n in (0, 1))
    for colour, there in zip(LINES[:2], ((True, True), (True, False)), strict=True):
        found = tuple(ImageColor.getrgb(colour) in {c for _, c in part.getcolors(1 << 20)} for part in (seen, unseen))  # pyright: ignore[reportOptionalIterable]
        assert found == there


def test_a_point_stands_at_its_recall():
    page = recall_curves({"seen": [Cell(4, 2, 0.25, 0.2, 0.3, 0.1, 2.0, 9.0)]})
    floor, height = GAP + 40 + PLOT - 20, PLOT - 40
    assert page.getpixel((GAP + MARGIN, round(floor - height / 4))) == ImageColor.getrgb(LINES[0])
