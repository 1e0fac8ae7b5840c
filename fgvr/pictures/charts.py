"""A validation as pictures: verdicts, accuracy by length, what sampling more answers gives, what is confused."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import cycle

from PIL import Image, ImageDraw, ImageOps

from fgvr.metrics import VERDICT_FIGURES
from fgvr.metrics.confusions import Confusion
from fgvr.metrics.lengths import Stretch
from fgvr.pictures.drawing import CAPTION, CARD, COLOURS, FAINT, FRAME, GAP, INK, PAPER, PHOTO, font, write

ARROW = 44  # between the two photos of a confusion, in pixels
CURVES = {"correctness": COLOURS["specific"], "specificity": COLOURS["generic"], "harmonic_mean": INK}
LINES = (*CURVES.values(), COLOURS["more_specific"], COLOURS["wrong"], COLOURS["parse_failures"], COLOURS["unjudged"])
PANEL, PLOT, MARGIN = 420, 220, 44  # a cohort's curves: width, height of the plot, room for its axis


def verdict_bars(figures: Mapping[str, Mapping[str, float]], width: int = 640) -> Image.Image:
    """One stacked bar per cohort: the shares of VERDICT_FIGURES, worst on the left. RGB."""
    head, bar, legend = 24, 30, 58
    page = Image.new("RGB", (width + 2 * GAP, len(figures) * (head + bar + GAP) + legend + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, (cohort, values) in enumerate(figures.items()):
        top, left = GAP + index * (head + bar + GAP), float(GAP)
        write(draw, (GAP, top), f"{cohort}, n = {values['n']:.0f}", 15, INK, width)
        draw.rectangle((GAP, top + head, GAP + width, top + head + bar), FRAME)
        for name in VERDICT_FIGURES:
            right = left + values[name] * width
            if right - left >= 1:
                draw.rectangle((round(left), top + head, round(right), top + head + bar), COLOURS[name])
            if right - left >= 40:
                draw.text(
                    ((left + right) / 2, top + head + bar / 2), f"{values[name]:.0%}", CARD, font(13), anchor="mm"
                )
            left = right
    top = page.height - legend
    for index, name in enumerate(VERDICT_FIGURES):
        row, column = divmod(index, 4)
        left, middle = GAP + column * width // 4, top + 10 + 24 * row
        draw.rectangle((left, middle - 6, left + 12, middle + 6), COLOURS[name])
        draw.text((left + 20, middle), name.replace("_", " "), INK, font(13), anchor="lm")
    return page


def best_of_curves(figures: Mapping[str, Mapping[str, float]]) -> Image.Image:
    """Per cohort how correctness, specificity and harmonic mean grow with the number of answers one may choose of. RGB.

    Takes the figures `best_of/K/NAME`; the vertical axis goes from 0 to 1.
    """
    page = Image.new("RGB", (len(figures) * (PANEL + GAP) + GAP, PLOT + 100 + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, (cohort, values) in enumerate(figures.items()):
        left, top = GAP + index * (PANEL + GAP), GAP
        draw.rounded_rectangle((left, top, left + PANEL - 1, page.height - GAP - 1), 8, CARD, FRAME)
        write(draw, (left + GAP, top + 8), f"{cohort}: the best of so many answers", 15, INK, PANEL - 2 * GAP)
        _draw_curves(draw, values, left + MARGIN, top + 40)
        for number, (name, colour) in enumerate(CURVES.items()):
            x, y = left + GAP + number * (PANEL - GAP) // 3, page.height - GAP - 16
            draw.rectangle((x, y - 6, x + 12, y + 6), colour)
            draw.text((x + 18, y), name.replace("_", " "), INK, font(13), anchor="lm")
    return page


def _draw_curves(draw: ImageDraw.ImageDraw, values: Mapping[str, float], left: int, top: int) -> None:
    """The axes, and a line per figure with a dot at each number of answers."""
    width, floor, height = PANEL - MARGIN - 2 * GAP, top + PLOT - 20, PLOT - 40
    ks = sorted({int(found[1]) for name in values if (found := re.fullmatch(r"best_of/(\d+)/correctness", name))})
    at = [left + width * place / max(1, len(ks) - 1) for place in range(len(ks))]
    _draw_shares(draw, left, floor, width, height)
    for k, x in zip(ks, at, strict=True):
        draw.text((x, floor + 14), str(k), FAINT, font(12), anchor="mm")
    for name, colour in CURVES.items():
        line = [(x, floor - values[f"best_of/{k}/{name}"] * height) for k, x in zip(ks, at, strict=True)]
        draw.line(line, colour, 2)
        for x, y in line:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)


def length_curves(
    curves: Mapping[str, Sequence[Stretch]], title: str = "exact, by the length of the reply"
) -> Image.Image:
    """A line per name: the share of exact answers against the mean length in tokens, with intervals. RGB.

    The vertical axis goes from 0 to 1, the other from 0 to a round number above the longest.
    """
    page = Image.new("RGB", (2 * PANEL, PLOT + 72 + 24 * len(curves)), PAPER)
    draw = ImageDraw.Draw(page)
    draw.rounded_rectangle((GAP, GAP, page.width - GAP - 1, page.height - GAP - 1), 8, CARD, FRAME)
    write(draw, (2 * GAP, GAP + 8), title, 15, INK, page.width - 4 * GAP)
    end = _round_above(max((one.tokens for line in curves.values() for one in line), default=0))
    left, top, width = GAP + MARGIN, GAP + 32, page.width - 2 * GAP - 2 * MARGIN
    floor, height = top + PLOT - 20, PLOT - 40
    _draw_shares(draw, left, floor, width, height)
    for part in range(5):
        draw.text((left + width * part / 4, floor + 14), f"{end * part / 4:g}", FAINT, font(12), anchor="mm")
    draw.text((left + width, floor + 30), "tokens", FAINT, font(12), anchor="rm")
    for number, (name, line) in enumerate(curves.items()):
        colour, y = LINES[number % len(LINES)], top + PLOT + 24 + 24 * number
        at = [(left + width * one.tokens / end, floor - height * one.exact) for one in line]
        draw.line(at, colour, 2)
        for (x, middle), one in zip(at, line, strict=True):
            draw.line((x, floor - height * one.low, x, floor - height * one.high), colour, 1)
            draw.ellipse((x - 3, middle - 3, x + 3, middle + 3), colour)
        draw.rectangle((left, y - 6, left + 12, y + 6), colour)
        told = f"{name}, n = {sum(one.n for one in line)}"
        write(draw, (left + 18, y - 8), told, 13, INK, width - 18)
    return page


def _round_above(tokens: float) -> int:
    """The least of 4, 8, 20, 40, 80, 200, ... that is not below: its quarters are whole numbers."""
    end = 4
    for factor in cycle((2, 2.5, 2)):
        if end >= tokens:
            return end
        end = round(end * factor)
    raise AssertionError


def _draw_shares(draw: ImageDraw.ImageDraw, left: float, floor: float, width: float, height: float) -> None:
    """Lines across at each quarter, and what they are."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((left, floor - share * height, left + width, floor - share * height), FRAME)
        draw.text((left - 6, floor - share * height), f"{share:.2f}", FAINT, font(11), anchor="rm")


def confusion_grid(confusions: Sequence[Confusion], columns: int = 2) -> Image.Image:
    """A card per confusion: a photo that was mistaken, what it was taken for, the names and how often. RGB."""
    columns = max(1, min(columns, len(confusions)))
    rows = -(-len(confusions) // columns)
    card = 2 * PHOTO + ARROW
    page = Image.new("RGB", (columns * (card + GAP) + GAP, rows * (PHOTO + CAPTION + GAP) + GAP), PAPER)
    for index, confusion in enumerate(confusions):
        row, column = divmod(index, columns)
        _draw_confusion(page, confusion, GAP + column * (card + GAP), GAP + row * (PHOTO + CAPTION + GAP))
    return page


def _draw_confusion(page: Image.Image, confusion: Confusion, left: int, top: int) -> None:
    draw, wrong, second = ImageDraw.Draw(page), COLOURS["wrong"], left + PHOTO + ARROW
    draw.rounded_rectangle((left, top, second + PHOTO - 1, top + PHOTO + CAPTION - 1), 8, CARD, FRAME)
    _draw_small(page, confusion.mistaken.photo, left, top)
    middle, text = top + PHOTO // 2, top + PHOTO
    tip = second - 2
    draw.line((left + PHOTO, middle, tip - 8, middle), wrong, 3)
    draw.polygon(((tip - 12, middle - 8), (tip - 12, middle + 8), (tip, middle)), wrong)
    write(draw, (left + 10, text), confusion.label, 15, INK, PHOTO - 20)
    write(draw, (second + 10, text), confusion.taken_for, 15, wrong, PHOTO - 20)
    if confusion.other is None:
        draw.text((second + PHOTO // 2, middle), "no photo of it", FAINT, font(13), anchor="mm")
    else:
        _draw_small(page, confusion.other.photo, second, top)
        if confusion.other.label != confusion.taken_for:
            write(draw, (second + 10, text + 22), f"shown: {confusion.other.label}", 12, FAINT, PHOTO - 20)
    said = f"{confusion.times} of {confusion.asked} photos"
    width = draw.textlength(said, font(12))
    draw.rounded_rectangle((left + 10, text + 50, left + width + 26, text + 70), 10, wrong)
    draw.text((left + 18, text + 60), said, CARD, font(12), anchor="lm")


def _draw_small(page: Image.Image, data: bytes, left: int, top: int) -> None:
    """A photo that was made small here, in its place on the card."""
    with Image.open(io.BytesIO(data)) as small:
        photo = ImageOps.contain(small.convert("RGB"), (PHOTO - 12, PHOTO - 12), Image.Resampling.LANCZOS)
    page.paste(photo, (left + (PHOTO - photo.width) // 2, top + (PHOTO - photo.height) // 2))
