"""Evaluations to look at: photos with their answers, bars of verdicts, tables. A model's text is not trusted here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from fgvr.data.images import open_image
from fgvr.judges.base import Judged
from fgvr.metrics import VERDICT_FIGURES
from fgvr.types import Verdict

PAPER, CARD, FRAME, INK, FAINT = "#f3f1ec", "#ffffff", "#e3dfd6", "#23262b", "#767b84"
COLOURS = {
    "parse_failures": "#6d4a8d",
    "wrong": "#c23b30",
    "abstain": "#858b93",
    "generic": "#cf8a1c",
    "less_specific": "#8f9a26",
    "specific": "#2c8a4b",
    "more_specific": "#1c7f8c",
}
GAP, PHOTO, CAPTION = 12, 216, 82


def answer_grid(judged: Sequence[Judged], columns: int = 4) -> Image.Image:
    """One card per answer: the photo, its label, the answer and the verdict in its colour. RGB, 228 pixels a column."""
    columns = max(1, min(columns, len(judged)))
    rows = -(-len(judged) // columns)
    size = (columns * (PHOTO + GAP) + GAP, rows * (PHOTO + CAPTION + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    for index, entry in enumerate(judged):
        row, column = divmod(index, columns)
        _draw_card(page, entry, GAP + column * (PHOTO + GAP), GAP + row * (PHOTO + CAPTION + GAP))
    return page


def _draw_card(page: Image.Image, entry: Judged, left: int, top: int) -> None:
    draw = ImageDraw.Draw(page)
    verdict = entry.judgement.verdict.name.lower() if entry.judgement else "parse_failures"
    colour = COLOURS[verdict]
    draw.rounded_rectangle((left, top, left + PHOTO - 1, top + PHOTO + CAPTION - 1), 8, CARD, FRAME)
    photo = open_image(entry.example.images[0], entry.example.uid)
    photo = ImageOps.contain(photo, (PHOTO - 12, PHOTO - 12), Image.Resampling.LANCZOS)
    page.paste(photo, (left + (PHOTO - photo.width) // 2, top + (PHOTO - photo.height) // 2))
    text, middle = left + 10, top + PHOTO
    said = entry.answer.text if entry.answer else entry.completion
    _write(draw, (text, middle), entry.example.label, 15, INK, PHOTO - 20)
    _write(draw, (text, middle + 22), said or "(nothing)", 15, colour, PHOTO - 20)
    name = "no answer" if entry.judgement is None else str(entry.judgement.verdict)
    width = draw.textlength(name, _font(12))
    draw.rounded_rectangle((text, middle + 50, text + width + 16, middle + 70), 10, colour)
    draw.text((text + 8, middle + 60), name, CARD, _font(12), anchor="lm")


def verdict_bars(figures: Mapping[str, Mapping[str, float]], width: int = 640) -> Image.Image:
    """One stacked bar per cohort: the shares of the verdicts and of replies that did not parse, worst on the left."""
    head, bar, legend = 24, 30, 58
    page = Image.new("RGB", (width + 2 * GAP, len(figures) * (head + bar + GAP) + legend + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, (cohort, values) in enumerate(figures.items()):
        top, left = GAP + index * (head + bar + GAP), float(GAP)
        _write(draw, (GAP, top), f"{cohort}, n = {values['n']:.0f}", 15, INK, width)
        draw.rectangle((GAP, top + head, GAP + width, top + head + bar), FRAME)
        for name in VERDICT_FIGURES:
            right = left + values[name] * width
            if right - left >= 1:
                draw.rectangle((round(left), top + head, round(right), top + head + bar), COLOURS[name])
            if right - left >= 40:
                draw.text(
                    ((left + right) / 2, top + head + bar / 2), f"{values[name]:.0%}", CARD, _font(13), anchor="mm"
                )
            left = right
    top = page.height - legend
    for index, name in enumerate(VERDICT_FIGURES):
        row, column = divmod(index, 4)
        left, middle = GAP + column * width // 4, top + 10 + 24 * row
        draw.rectangle((left, middle - 6, left + 12, middle + 6), COLOURS[name])
        draw.text((left + 20, middle), name.replace("_", " "), INK, _font(13), anchor="lm")
    return page


def class_table(classes: Mapping[str, Mapping[str, int]], most: int = 200) -> str:
    """A markdown table of the classes, least often exact first; past `most` classes it says how many are left out."""
    worst_first = sorted(classes.items(), key=lambda item: (item[1]["exact"] / item[1]["n"], item[0]))
    lines = ["| class | n | exact | correct | no answer |", "|---|---|---|---|---|"]
    for label, row in worst_first[:most]:
        counts = " | ".join(str(row[name]) for name in ("n", "exact", "correct", "parse_failures"))
        lines.append(f"| {escaped(label)} | {counts} |")
    left_out = len(classes) - most
    return "\n".join(lines) + (f"\n\n{left_out} more classes are in per_class.csv." if left_out > 0 else "")


def confusion_table(rows: Sequence[Mapping[str, str | None]], most: int = 20) -> str:
    """A markdown table of the commonest answers that were not exactly right; rows have label, answer and verdict."""
    right = (str(Verdict.SPECIFIC), str(Verdict.MORE_SPECIFIC))
    counted = Counter((row["label"], row["answer"], row["verdict"]) for row in rows if row["verdict"] not in right)
    lines = ["| class | answer | verdict | times |", "|---|---|---|---|"]
    commonest = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))[:most]
    for (label, answer, verdict), times in commonest:
        lines.append(f"| {escaped(label or '')} | {escaped(answer or '')} | {verdict or 'no answer'} | {times} |")
    return "\n".join(lines)


def escaped(text: str, longest: int = 80) -> str:
    """Untrusted text on one line that markdown and HTML show as it is: every mark is written as an entity."""
    line = _one_line(text)
    cut = line if len(line) <= longest else line[: longest - 1] + "…"
    return re.sub(r"[^\w ]|_", lambda mark: f"&#{ord(mark[0])};", cut)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str, width: float
) -> None:
    line, font = _one_line(text)[:200], _font(size)
    if draw.textlength(line, font) > width:
        while line and draw.textlength(f"{line}…", font) > width:
            line = line[:-1]
        line = f"{line.rstrip()}…"
    draw.text(place, line, colour, font)


def _one_line(text: str) -> str:
    """Without line breaks, control characters and marks that turn the direction of writing."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
