"""`python -m fgvr shards --audit SET`: what shard sets hold, twice or alike too, as sentences, a json and pages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError, refuse_below, shown
from fgvr.models.processor import PixelBudget
from fgvr.next_steps import after_audit
from fgvr.pictures.contact_sheets import Section, Small, page_name, small, write_index, write_sheet
from fgvr.shards.audit import (
    Copies,
    Likeness,
    Seen,
    copies_among,
    counts_of,
    likenesses_among,
    named_after_label,
    pictures_of,
    sizes_of,
    with_fingerprints,
)
from fgvr.shards.reading import ShardSet
from fgvr.tools.progress_bar import progress_bar
from fgvr.whole_files import refuse_no_folder, write_whole

SPLITS = ("train", "val", "test")
NAMED = 10  # of each kind, in what is printed; audit.json has them all
PAIRS = 200  # on the page of pairs


@dataclass(frozen=True)
class Findings:
    """What was found of all pictures; `unread` are sentences."""

    pictures: Sequence[Seen]
    copies: Sequence[Copies]
    likenesses: Sequence[Likeness]
    named: Sequence[Seen]
    unread: Sequence[str]

    @property
    def leaks(self) -> list[Copies]:
        return [one for one in self.copies if one.leaks]

    @property
    def contradictions(self) -> list[Copies]:
        return [one for one in self.copies if one.contradicts]


def audit(
    sets: Path | list[Path],
    out: Path | None = None,
    distance: int | None = 4,
    pixels: PixelBudget | None = None,
    photos: int = 12,
    workers: int | None = None,
) -> str:
    """Look for what should not be in shard sets that are used together, and write pages of their photos.

    Copies are found byte for byte, across splits and sets; what merely looks alike by a perceptual hash, among pictures
    to evaluate with and those trained on. Nothing is changed. Returns what to do next.

    Args:
        sets: the folders of shards, one or a list of those that a run reads together
        out: the folder for index.html, a contact sheet for each class, pairs.html and audit.json; audit/ in the first
            set by default
        distance: bits of 64 in which fingerprints of pictures that look alike may differ; null: do not look
        pixels: the budget that pictures are held against, that of Qwen2.5-VL by default
        photos: of each class on its sheet
        workers: processes that read pictures, one for each processor by default; 0: none but this one
    """
    folders = [sets] if isinstance(sets, Path) else list(sets)
    budget, count = pixels or PixelBudget(), os.cpu_count() or 1
    refuse_below(0, "audit", distance=distance, photos=photos, workers=workers)
    if not folders:
        raise UserError("sets must name a shard set at least, got an empty list")
    place, console = out or folders[0] / "audit", Console()
    pictures, unread = pictures_of(folders), list[str]()
    refuse_no_folder(place)
    if distance is not None:
        with progress_bar(console) as progress:
            pictures, unread = with_fingerprints(
                pictures, count if workers is None else workers, partial(progress, "looking at pictures")
            )
    likenesses = [] if distance is None else likenesses_among(pictures, distance)
    found = Findings(pictures, copies_among(pictures), likenesses, named_after_label(pictures), unread)
    place.mkdir(parents=True, exist_ok=True)
    said = [*sentences(found, distance), *told_of_sizes(pictures, budget)]
    _write_pages(place, found, said, photos)
    write_whole(place / "audit.json", (json.dumps(as_json(found, distance, budget), indent=1) + "\n").encode())
    for sentence in [*said, f"The pages are in {place / 'index.html'}, all findings in {place / 'audit.json'}."]:
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    wrong = bool(found.leaks or found.contradictions or found.likenesses or found.unread)
    return after_audit(folders, place / "index.html", wrong)


def sentences(found: Findings, distance: int | None) -> list[str]:
    """What was found, each with what to do; also where nothing was, so that a reader knows that it was looked for."""
    trained = sum(one.is_trained for one in found.pictures)
    classes = len(counts_of(found.pictures))
    said = [f"{len(found.pictures):,} pictures of {classes:,} classes, {trained:,} of them to train on."]
    leaks, others = found.leaks, [one for one in found.copies if not one.leaks and not one.contradicts]
    said.append(
        _counted(leaks, "are trained on and evaluated with, byte for byte", "keep one file of each and pack again")
    )
    said.append(_counted(found.contradictions, "stand under several labels", "keep the right one and pack again"))
    if others:
        said.append(_counted(others, "stand in a set more than once on the same side", "they weigh double"))
    if distance is not None:
        pairs = [f"{pair.evaluated} like {pair.trained} ({pair.bits} bits apart)" for pair in found.likenesses]
        said.append(
            f"{len(pairs):,} pictures to evaluate with look like one that is trained on, of at most {distance} bits' "
            f"difference{_first(pairs)}."
        )
    if found.named:
        said.append(
            f"{len(found.named):,} files are named after their class{_first(list(map(str, found.named)))}: no prompt "
            "shows the name, but see that no other tool that reads the folder goes by it."
        )
    if found.unread:
        said.append(f"{len(found.unread):,} pictures cannot be read{_first(list(found.unread))}.")
    return said


def told_of_sizes(pictures: Sequence[Seen], budget: PixelBudget) -> list[str]:
    """Sizes in pixels, and what a model's budget makes of them."""
    known = [one for one in pictures if one.width and one.height]
    if not known:
        return []
    sizes = sizes_of(known, budget.min, budget.max)
    wide, high = (f"{low:,} to {most:,}, half up to {half:,.0f}" for low, half, most in (sizes.width, sizes.height))
    return [
        f"They are {wide} pixels wide and {high} high; the budget of {budget.min:,} to {budget.max:,} pixels makes "
        f"{sizes.shrunk:.1%} of them smaller and {sizes.enlarged:.1%} larger."
    ]


def as_json(found: Findings, distance: int | None, budget: PixelBudget) -> dict[str, Any]:
    """All of it, for a script: every copy, pair and name, with the settings it was looked for with."""
    return {
        "settings": {"distance": distance, "pixels": [budget.min, budget.max]},
        "counts": {label: dict(splits) for label, splits in sorted(counts_of(found.pictures).items())},
        "copies": [
            {"places": list(map(str, one.places)), "leaks": one.leaks, "contradicts": one.contradicts}
            for one in found.copies
        ],
        "look_alike": [
            {"evaluated": str(pair.evaluated), "trained": str(pair.trained), "bits": pair.bits}
            for pair in found.likenesses
        ],
        "named_after_label": list(map(str, found.named)),
        "unread": list(found.unread),
    }


def _counted(copies: Sequence[Copies], what: str, advice: str) -> str:
    named = [" and ".join(map(str, one.places)) for one in copies]
    return f"{len(copies):,} pictures {what}{_first(named)}{f': {advice}' if copies else ''}."


def _first(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f"; and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f" ({'; '.join(names[:NAMED])}{more})"


def _write_pages(out: Path, found: Findings, said: Sequence[str], photos: int) -> None:
    """index.html, a page for each class, and pairs.html with what stands twice or looks alike."""
    opened: dict[tuple[Path, str, str], ShardSet] = {}

    def drawn(one: Seen, words: str = "") -> Small:
        key = one.folder, one.split, one.cohort
        if key not in opened:
            opened[key] = ShardSet(one.folder, one.split, (one.cohort,))
        words = words or f"{one.split}, {one.key}"
        try:
            return small(open_image(opened[key].read(one.number).images[0], str(one)), words)
        except SampleError:
            return Small("", words)

    try:
        rows = _class_pages(out, found.pictures, photos, drawn)
        tables = {"Classes": [["class", *SPLITS, "photos"], *rows]}
        pairs = _pair_sections(found, drawn)
        if pairs:
            write_sheet(out / "pairs.html", "Twice or alike", pairs, "index.html")
            tables = {
                "Pairs": [["what", "photos"], ["pictures that stand twice or look alike", "pairs.html"]],
                **tables,
            }
        write_index(out / "index.html", "What the shard sets hold", said, tables)
    finally:
        for one in opened.values():
            one.close()


def _class_pages(out: Path, pictures: Sequence[Seen], photos: int, drawn: Callable[[Seen], Small]) -> list[list[str]]:
    """A sheet for each class, its splits one below the other; returns the rows that lead to them."""
    by_label: dict[str, dict[str, list[Seen]]] = {}
    for one in pictures:
        by_label.setdefault(one.label, {split: [] for split in SPLITS})[one.split].append(one)
    (out / "classes").mkdir(exist_ok=True)
    rows: list[list[str]] = []
    for number, (label, splits) in enumerate(sorted(by_label.items())):
        sections = [
            Section(split, f"{len(members):,} pictures", [drawn(one) for one in _spread(members, photos)])
            for split, members in splits.items()
            if members
        ]
        name = f"classes/{page_name(number, label)}"
        write_sheet(out / name, label, sections, "../index.html")
        rows.append([label, *(f"{len(splits[split]):,}" for split in SPLITS), name])
    return rows


def _spread(members: Sequence[Seen], count: int) -> list[Seen]:
    """So many of them, evenly from the first to the last."""
    if len(members) <= count:
        return list(members)
    return [members[number * len(members) // count] for number in range(count)]


def _pair_sections(found: Findings, drawn: Callable[[Seen, str], Small]) -> list[Section]:
    def group(places: Sequence[Seen]) -> list[Small]:
        return [drawn(one, f"{one.label}, {one}") for one in places]

    copies = [
        Section("The same picture", "byte for byte", group(one.places))
        for one in found.copies
        if one.leaks or one.contradicts
    ]
    alike = [
        Section("Look alike", f"{pair.bits} bits of 64 apart", group((pair.evaluated, pair.trained)))
        for pair in found.likenesses
    ]
    return [*copies[:PAIRS], *alike[:PAIRS]]
