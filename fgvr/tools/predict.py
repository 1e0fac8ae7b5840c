"""`python -m fgvr predict MODEL PHOTOS`: photos named by a run or an export, as a table and as a page with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

from PIL import Image
from rich.console import Console

from fgvr.errors import shown
from fgvr.next_steps import after_predict
from fgvr.options.rolled_up import levels
from fgvr.pictures.contact_sheets import small
from fgvr.pictures.recognised import PagesOfRows, Share, Shown
from fgvr.pictures.spreadsheet import heads, spreadsheet
from fgvr.recogniser import Recogniser, Recognition, Ways, load
from fgvr.recogniser.given import Several, all_given
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.progress_bar import progress_bar
from fgvr.whole_files import refuse_no_folder, write_whole

STEM = "predictions"
FIRST, LAST = ("file", "answer", "confidence"), ("candidates", "reasoning", "error")
NAMED, LISTED = 20, 5  # unusable photos that are told of; candidates in a row


def predict(
    model: Path,
    photos: Path,
    out: Path = Path("predictions"),
    checkpoint: Literal["last", "best"] = "last",
    data: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    **ways: Unpack[Ways],
) -> str:
    """Name photos that nobody has labelled, with a confidence at each rank.

    `out` gets predictions.csv, a row for every file, and predictions.html, the same with pictures. Returns what to do
    next.

    Args:
        model: a run's folder, one of its checkpoints, or an exported folder
        photos: a folder of photos, or one
        out: the folder to write; what an earlier call wrote there is replaced
        checkpoint: which of a run's
        data: a shard set with the names, for a model that carries none
        device: where the model computes
    """
    refuse_no_folder(out)
    console, several = Console(), all_given(photos)
    recogniser = load(model, checkpoint, data, device)
    chosen = recogniser.how(**ways)
    found = _written(recogniser, several, ways, out, f"Photos named by {shown(str(model))}", console)
    say: Callable[[str], None] = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    unusable = [one for one in found if one.error]
    for one in unusable[:NAMED]:
        say(shown(f"not used: {one}"))
    if len(unusable) > NAMED:
        say(f"not used: {len(unusable) - NAMED} more, named in {out / STEM}.csv")
    for sentence in told(found, recogniser):
        say(shown(sentence))
    kept = recogniser.calibrations.get("two_step" if chosen.two_step else "vote")
    return after_predict(model, out, STEM, chosen.threshold, kept and kept.holds, chosen.two_step)


def _written(
    recogniser: Recogniser, several: Several, ways: Ways, out: Path, title: str, console: Console
) -> list[Recognition]:
    """Names the photos, and writes the pages as they come and the table in the end."""
    out.mkdir(parents=True, exist_ok=True)
    found: list[Recognition] = []
    pages = PagesOfRows(out, STEM, title, lambda: told(found, recogniser))
    with progress_bar(console) as tell:
        for recognition, photo in recogniser.each(several, **ways):
            found.append(recognition)
            pages.add(row_of(recognition, photo))
            tell("photos", len(found), len(several))
    pages.close()
    write_whole(out / f"{STEM}.csv", as_table(found, recogniser.taxonomy))
    return found


def as_table(found: Sequence[Recognition], taxonomy: Taxonomy) -> bytes:
    """CSV: file, answer, confidence; for each rank its name and "RANK confidence"; candidates, reasoning, error.

    Candidates are names with their share of the replies, the most voted first. Cells are those of `spreadsheet`.
    """
    ranks = [column for rank in levels(taxonomy) for column in (rank, f"{rank} confidence")]
    rows = [heads(FIRST, ranks, LAST)]
    for one in found:
        cells: list[str] = []
        for rank in levels(taxonomy):
            at = one.at(rank)
            cells += ["", ""] if at is None else [at.name, f"{at.confidence:.4f}"]
        candidates = "; ".join(f"{other.name} {other.share:.2f}" for other in one.candidates)
        confidence = f"{one.confidence:.4f}" if one.answer is not None else ""
        rows.append([one.photo, one.answer or "", confidence, *cells, candidates, one.reasoning, one.error])
    return spreadsheet(rows)


def row_of(found: Recognition, photo: Image.Image | None) -> Shown:
    """A row of the page."""
    told = f"{found.rank or 'name'}, {found.confidence:.2f}" if found.answer is not None else ""
    if not found.error and found.answer is None:
        told = "no rank is sure enough" if found.path else "no reply named anything that may be an answer"
    return Shown(
        found.photo,
        "" if photo is None else small(photo, "").image,
        found.answer or "",
        told,
        [Share(one.rank, one.name, one.confidence) for one in found.path],
        [Share(f"{one.votes} of {found.replies}", one.name, one.share) for one in found.candidates[:LISTED]],
        found.reasoning,
        found.error,
    )


def told(found: Sequence[Recognition], recogniser: Recogniser) -> list[str]:
    """What became of all photos, every one counted, and of all replies."""
    answered = [one for one in found if one.answer is not None]
    unusable = sum(bool(one.error) for one in found)
    ranks = Counter(one.rank for one in answered)
    at = [f"{ranks[rank]} at {rank}" for rank in levels(recogniser.taxonomy) if ranks[rank]]
    at += [f"{ranks[None]} outside the taxonomy"] if ranks[None] else []
    where = f" ({', '.join(at)})" if at else ""
    lost: Counter[str] = Counter()
    for one in found:
        lost.update(one.dropped)
    replies = sum(one.replies for one in found)
    said = ", ".join(f"{count:,} {reason}" for reason, count in lost.items() if count)
    none = len(found) - len(answered) - unusable
    return [
        f"Of {len(found):,} photos, {len(answered):,} got an answer{where}, {none:,} none, "
        f"and {unusable:,} could not be used.",
        f"{replies:,} replies were sampled{f'; for nothing counted {said}' if said else ''}.",
    ]
