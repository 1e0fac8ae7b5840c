"""The house look: colours, fonts, and text that stays on its line."""

from __future__ import annotations

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PAPER, CARD, FRAME, INK, FAINT = "#f3f1ec", "#ffffff", "#e3dfd6", "#23262b", "#767b84"
COLOURS = {
    "unjudged": "#4f5a75",
    "parse_failures": "#6d4a8d",
    "wrong": "#c23b30",
    "abstain": "#858b93",
    "generic": "#cf8a1c",
    "less_specific": "#8f9a26",
    "specific": "#2c8a4b",
    "more_specific": "#1c7f8c",
}
GAP, PHOTO, CAPTION = 12, 216, 82


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str, width: float
) -> None:
    """The text on one line of at most `width` pixels, its upper left corner at `place`."""
    line, face = fitted(draw, text, size, width)
    draw.text(place, line, colour, face)


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, width: float) -> tuple[str, Font]:
    """The text on one line, cut with an ellipsis where it would be too wide, and its font."""
    line, face = one_line(text)[:200], font(size)
    if draw.textlength(line, face) > width:
        while line and draw.textlength(f"{line}…", face) > width:
            line = line[:-1]
        line = f"{line.rstrip()}…"
    return line, face


def one_line(text: str) -> str:
    """Without line breaks, control characters and marks that turn the direction of writing."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def font(size: int) -> Font:
    """The one typeface, in points."""
    return ImageFont.load_default(size)
