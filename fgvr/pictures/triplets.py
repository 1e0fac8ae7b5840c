"""Triplets to look at: anchor, positive and negative side by side, and which class stands against which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageOps

from fgvr.data.images import View, as_stored, open_image
from fgvr.pictures.drawing import CARD, COLOURS, FAINT, FRAME, GAP, INK, PAPER, PHOTO, write
from fgvr.pictures.tables import Cell, Table, shortened
from fgvr.similarity import Ranking
from fgvr.types import Example, Partner

CAPTION = 52  # pixels below a photo
COLUMNS = (("anchor", INK), ("positive", COLOURS["specific"]), ("negative", COLOURS["wrong"]))


def triplet_card(examples: Sequence[Example], view: View = as_stored) -> Image.Image:
    """A row per example, its photo, positive and negative with label and uid; what it does without is left blank. RGB.

    `view` is what the model is given of a photo.
    """
    row = PHOTO + CAPTION + GAP
    page = Image.new("RGB", (len(COLUMNS) * (PHOTO + GAP) + GAP, max(1, len(examples)) * row + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for number, example in enumerate(examples):
        own = Partner(example.images, example.uid, example.label)
        for column, ((name, colour), shown) in enumerate(
            zip(COLUMNS, (own, example.positive, example.negative), strict=True)
        ):
            left, top = GAP + column * (PHOTO + GAP), GAP + number * row
            draw.rounded_rectangle((left, top, left + PHOTO - 1, top + PHOTO + CAPTION - 1), 8, CARD, FRAME)
            if shown is None:
                write(draw, (left + 10, top + PHOTO + 6), f"no {name}", 15, FAINT, PHOTO - 20)
                continue
            photo = ImageOps.contain(view(open_image(shown.images[0], shown.uid)), (PHOTO - 12, PHOTO - 12))
            page.paste(photo, (left + (PHOTO - photo.width) // 2, top + (PHOTO - photo.height) // 2))
            write(draw, (left + 10, top + PHOTO + 4), shown.label or f"{name}, class unknown", 15, colour, PHOTO - 20)
            write(draw, (left + 10, top + PHOTO + 28), shown.uid, 12, FAINT, PHOTO - 20)
    return page


def rivals_table(rankings: Mapping[str, Ranking], sources: Mapping[str, Mapping[str, str]], most: int = 500) -> Table:
    """Each class with the classes that its negatives come from, best first; one without any has an empty name.

    `sources` names the measure of each class: scores of two measures cannot be compared.
    """
    rows: list[tuple[Cell, ...]] = []
    for dataset, ranking in sorted(rankings.items()):
        for label, rivals in sorted(ranking.items()):
            for other, score in rivals or (("", None),):
                measure = sources[dataset][label] if rivals else ""
                rows.append((shortened(dataset), shortened(label), shortened(other), score, measure))
    left_out = len(rows) - most
    note = f"{left_out} more pairs are in the run's folder, under triplets." if left_out > 0 else ""
    return Table(("dataset", "class", "negative", "score", "measure"), tuple(rows[:most]), note=note)
