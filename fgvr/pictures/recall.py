"""Recall over the number of options as curves, one for each number of replies, with their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from fgvr.options.sweep import Cell
from fgvr.pictures.drawing import CARD, COLOURS, FAINT, FRAME, GAP, INK, PAPER, font, write

PANEL, PLOT, MARGIN, LEGEND = 420, 240, 44, 26  # a cohort's curves: width, height of the plot, room for axis and legend
LINES = tuple(COLOURS[name] for name in ("wrong", "generic", "less_specific", "specific", "more_specific", "unjudged"))


def recall_curves(cells: Mapping[str, Sequence[Cell]]) -> Image.Image:
    """A panel for each cohort: recall over m, a line and its interval for each K, and the axis from 0 to 1. RGB."""
    page = Image.new("RGB", (len(cells) * (PANEL + GAP) + GAP, PLOT + 110 + GAP), PAPER)
    for index, (cohort, own) in enumerate(cells.items()):
        _draw_panel(page, cohort, own, GAP + index * (PANEL + GAP), GAP)
    return page


def _draw_panel(page: Image.Image, cohort: str, cells: Sequence[Cell], left: int, top: int) -> None:
    draw = ImageDraw.Draw(page, "RGBA")
    draw.rounded_rectangle((left, top, left + PANEL - 1, page.height - GAP - 1), 8, CARD, FRAME)
    write(draw, (left + GAP, top + 8), f"{cohort}: the right name among m of K replies", 15, INK, PANEL - 2 * GAP)
    ms, ks = sorted({cell.m for cell in cells}), sorted({cell.k for cell in cells})
    width, floor, height = PANEL - MARGIN - 2 * GAP, top + 40 + PLOT - 20, PLOT - 40
    at = {m: left + MARGIN + width * place / max(1, len(ms) - 1) for place, m in enumerate(ms)}
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((left + MARGIN, floor - share * height, left + MARGIN + width, floor - share * height), FRAME)
        draw.text((left + MARGIN - 6, floor - share * height), f"{share:.2f}", FAINT, font(11), anchor="rm")
    for m, x in at.items():
        draw.text((x, floor + 14), str(m), FAINT, font(12), anchor="mm")
    for number, k in enumerate(ks):
        colour = LINES[number % len(LINES)]
        own = sorted((cell for cell in cells if cell.k == k), key=lambda cell: cell.m)
        ends = [(at[cell.m], floor - cell.high * height) for cell in own]
        ends += [(at[cell.m], floor - cell.low * height) for cell in reversed(own)]
        if len(own) > 1:
            draw.polygon(ends, f"{colour}30")
            draw.line([(at[cell.m], floor - cell.recall * height) for cell in own], colour, 2)
        for cell in own:
            x, y = at[cell.m], floor - cell.recall * height
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        x, y = left + GAP + number * (PANEL - 2 * GAP) // len(ks), page.height - GAP - LEGEND // 2
        draw.rectangle((x, y - 6, x + 12, y + 6), colour)
        draw.text((x + 18, y), f"K={k}", INK, font(12), anchor="lm")
