"""Answers to look at: photos with what was said of them, and groups. A model's text is not trusted here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw, ImageOps

from fgvr.data.collate import partners_of
from fgvr.data.images import View, as_stored, open_image
from fgvr.judges.base import Judged
from fgvr.pictures.drawing import (
    CAPTION,
    CARD,
    COLOURS,
    FAINT,
    FRAME,
    GAP,
    INK,
    PAPER,
    PHOTO,
    fitted,
    font,
    write,
)
from fgvr.types import Example, Partner, Role, ScoredGroup

HEAD, ROW = 58, 28  # of a group's card, in pixels
PARTNER = (PHOTO - GAP) // 2  # the photos of an example's partners below its own
SAID, NUMBER, GAUGE = 400, 78, 136  # its columns: what was said, a figure, an advantage
MOST_COMPONENTS = 4


def answer_grid(judged: Sequence[Judged], view: View = as_stored, columns: int = 4) -> Image.Image:
    """One card per answer: the photo, its label, the answer and the verdict in its colour. RGB, 228 pixels a column.

    `view` is what the model was given of a photo.
    """
    columns = max(1, min(columns, len(judged)))
    rows = -(-len(judged) // columns)
    size = (columns * (PHOTO + GAP) + GAP, rows * (PHOTO + CAPTION + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    for index, entry in enumerate(judged):
        row, column = divmod(index, columns)
        _draw_card(page, entry, view, GAP + column * (PHOTO + GAP), GAP + row * (PHOTO + CAPTION + GAP))
    return page


def _draw_card(page: Image.Image, entry: Judged, view: View, left: int, top: int) -> None:
    draw = ImageDraw.Draw(page)
    if entry.judgement is not None:
        kind, name = entry.judgement.verdict.name.lower(), str(entry.judgement.verdict)
    else:
        kind, name = ("parse_failures", "no answer") if entry.unjudged is None else ("unjudged", "no verdict")
    colour = COLOURS[kind]
    draw.rounded_rectangle((left, top, left + PHOTO - 1, top + PHOTO + CAPTION - 1), 8, CARD, FRAME)
    photo = _photo(entry.example, view, PHOTO - 12)
    page.paste(photo, (left + (PHOTO - photo.width) // 2, top + (PHOTO - photo.height) // 2))
    text, middle = left + 10, top + PHOTO
    said = entry.answer.text if entry.answer else entry.completion
    write(draw, (text, middle), entry.example.label, 15, INK, PHOTO - 20)
    write(draw, (text, middle + 22), said or "(nothing)", 15, colour, PHOTO - 20)
    width = draw.textlength(name, font(12))
    draw.rounded_rectangle((text, middle + 50, text + width + 16, middle + 70), 10, colour)
    draw.text((text + 8, middle + 60), name, CARD, font(12), anchor="lm")


def _photo(example: Example, view: View, side: int) -> Image.Image:
    return ImageOps.contain(view(open_image(example.images[0], example.uid)), (side, side), Image.Resampling.LANCZOS)


def group_card(group: ScoredGroup, view: View = as_stored) -> Image.Image:
    """A group at a glance: the photo as `view` shows it, its label, and a row per completion, the best first. RGB.

    An example's positive and negative stand below it, and completions about the positive are marked. A row has the
    answer in the colour of its reward, red to green over [0, 1] or over the group's own range where that is wider, its
    components, reward and advantage; marks say what was cut short and what held no answer.
    """
    rewards, advantages = group.rewards.tolist(), group.advantages.tolist()
    names = list(group.components)[:MOST_COMPONENTS]
    width = PHOTO + SAID + NUMBER * (len(names) + 1) + GAUGE + 5 * GAP
    partners = partners_of(group.rollout.example)
    height = max(PHOTO + 2 * GAP + 44 + (PARTNER + 58 if partners else 0), HEAD + ROW * len(rewards) + GAP) + 2 * GAP
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.rounded_rectangle((GAP, GAP, width - GAP - 1, height - GAP - 1), 8, CARD, FRAME)
    _draw_photo(page, group.rollout.example, view, 2 * GAP, 2 * GAP)
    for column, (role, partner) in enumerate(partners.items()):
        _draw_partner(page, role, partner, view, 2 * GAP + column * (PARTNER + GAP), 2 * GAP + PHOTO + 52)
    left, top = PHOTO + 3 * GAP, 2 * GAP
    _draw_heads(draw, group, names, left, top)
    present = [reward for reward in rewards if not math.isnan(reward)]
    low, high = min([0.0, *present]), max([1.0, *present])
    longest = max([1.0, *map(abs, advantages)])
    best_first = sorted(range(len(rewards)), key=lambda n: (math.isnan(rewards[n]), -rewards[n] if present else 0, n))
    for place, n in enumerate(best_first):
        colour = FAINT if math.isnan(rewards[n]) else _heat((rewards[n] - low) / (high - low))
        middle = top + HEAD + ROW * place + ROW // 2 - GAP
        draw.line((left, middle - ROW // 2, width - 2 * GAP, middle - ROW // 2), FRAME)
        _draw_said(draw, group, n, colour, left, middle)
        numbers = [float(group.components[name][n]) for name in names]
        for column, value in enumerate([*numbers, rewards[n]]):
            right = left + SAID + NUMBER * (column + 1)
            ink = colour if column == len(numbers) else INK if value else FAINT
            text = "none" if math.isnan(value) else f"{value:.2f}"
            draw.text((right, middle), text, FAINT if math.isnan(value) else ink, font(14), anchor="rm")
        _draw_gauge(draw, advantages[n], longest, width - 2 * GAP - GAUGE, middle)
    return page


def _draw_photo(page: Image.Image, example: Example, view: View, left: int, top: int) -> None:
    draw, photo = ImageDraw.Draw(page), _photo(example, view, PHOTO)
    page.paste(photo, (left + (PHOTO - photo.width) // 2, top))
    write(draw, (left, top + photo.height + 8), example.label, 15, INK, PHOTO)
    write(draw, (left, top + photo.height + 30), example.uid, 12, FAINT, PHOTO)


def _draw_partner(page: Image.Image, role: Role, partner: Partner, view: View, left: int, top: int) -> None:
    draw = ImageDraw.Draw(page)
    seen = view(open_image(partner.images[0], partner.uid))
    photo = ImageOps.contain(seen, (PARTNER, PARTNER), Image.Resampling.LANCZOS)
    page.paste(photo, (left + (PARTNER - photo.width) // 2, top))
    write(draw, (left, top + photo.height + 6), role, 12, FAINT, PARTNER)
    write(draw, (left, top + photo.height + 22), partner.label, 12, INK, PARTNER)


def _draw_heads(draw: ImageDraw.ImageDraw, group: ScoredGroup, names: Sequence[str], left: int, top: int) -> None:
    cut = sum(completion.truncated for completion in group.rollout.completions)
    present = [reward for reward in group.rewards.tolist() if not math.isnan(reward)]
    mean = f"mean reward {sum(present) / len(present):.2f}" if present else "no reward"
    facts = f"{len(group.rewards)} completions, {mean}" + (f", {cut} cut short" if cut else "")
    write(draw, (left, top), facts, 15, INK, SAID + NUMBER)
    line = top + HEAD - 2 * GAP
    draw.text((left, line), "answer", FAINT, font(12), anchor="lm")
    for column, name in enumerate([*names, "reward"]):
        text, face = fitted(draw, name, 12, NUMBER - 8)
        draw.text((left + SAID + NUMBER * (column + 1), line), text, FAINT, face, anchor="rm")
    end = left + SAID + NUMBER * (len(names) + 1) + GAUGE
    draw.text((end, line), "advantage", FAINT, font(12), anchor="rm")


def _draw_said(draw: ImageDraw.ImageDraw, group: ScoredGroup, n: int, colour: str, left: int, middle: int) -> None:
    answer, completion = group.answers[n], group.rollout.completions[n]
    marks = [("cut", COLOURS["generic"])] * completion.truncated + [("no answer", COLOURS["parse_failures"])] * (
        answer is None
    )
    marks += [("positive", FAINT)] * (group.rollout.role_of(n) == "positive")
    right = left + SAID - GAP
    for name, fill in marks:
        wide = draw.textlength(name, font(11)) + 14
        draw.rounded_rectangle((right - wide, middle - 8, right, middle + 8), 8, fill)
        draw.text((right - wide / 2, middle), name, CARD, font(11), anchor="mm")
        right -= int(wide) + 6
    text, face = fitted(draw, (answer.text if answer else completion.text) or "(nothing)", 15, right - left - 16)
    draw.ellipse((left, middle - 4, left + 8, middle + 4), colour)
    draw.text((left + 16, middle), text, colour, face, anchor="lm")


def _draw_gauge(draw: ImageDraw.ImageDraw, value: float, longest: float, left: int, middle: int) -> None:
    """A bar to the right of the axis for a positive advantage, to the left for a negative one, and the number."""
    half, axis = 30, left + 52
    end = axis + round(value / longest * half)
    draw.line((axis, middle - 9, axis, middle + 9), FRAME)
    if end != axis:
        draw.rectangle((min(axis, end), middle - 4, max(axis, end), middle + 4), _heat(float(value > 0)))
    draw.text((left + GAUGE, middle), f"{value:+.2f}" if value else "0", INK if value else FAINT, font(14), anchor="rm")


def _heat(share: float) -> str:
    """From red through amber to green as the share goes from 0 to 1."""
    red, amber, green = (ImageColor.getrgb(COLOURS[name]) for name in ("wrong", "generic", "specific"))
    place = 2 * min(max(share, 0.0), 1.0)
    ends = (red, amber, place) if place < 1 else (amber, green, place - 1)
    return "#" + bytes(round(a + (b - a) * ends[2]) for a, b in zip(*ends[:2], strict=True)).hex()
