"""`python -m fgvr shards`: pictures in, a folder of shards out, with a bar to watch and a table at the end."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# So that --source accepts these by their short names.
from fgvr.aviary.source import Aviary  # noqa: F401
from fgvr.errors import shown
from fgvr.next_steps import after_shards
from fgvr.shards.manifest import MANIFEST, Manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import ClassSplit, PackOptions
from fgvr.similarity import FolderCentroids, FolderNames, Siblings, Similarity, TowerCentroids  # noqa: F401
from fgvr.sources import (  # noqa: F401
    CSV,
    CUB,
    Aircraft,
    Auto,
    Backbone,
    ChoiceJSON,
    ClosedWorldJSON,
    Flowers102,
    Food101,
    ImageFolder,
    INaturalist,
    MessagesJSON,
    MetadataFolder,
    OxfordPets,
    Respelt,
    SpeciaRLParquet,
    StanfordCars,
    StanfordDogs,
    TripletParquet,
    Within,
)
from fgvr.sources.base import Source
from fgvr.tools.progress_bar import progress_bar

NAMED = 10  # refused pictures in the summary


def shards(
    source: Source,
    out: Path,
    seed: int = 0,
    unseen: int | float = 0,
    class_split: ClassSplit = "seen-unseen",
    k_shot: int | None = None,
    triplets: Similarity | None = None,
    val: float = 0.1,
    test: float = 0.1,
    samples_per_shard: int = 1000,
    max_bad_share: float = 0.001,
    overwrite: bool = False,
    within: str | None = None,
    backbone: Path | None = None,
    respell: bool = False,
) -> str:
    """Pack labelled pictures into WebDataset shards with a manifest; the same input gives the same bytes.

    Every picture is decoded once; what is damaged is left out, counted and named. Run the same line again after an
    interruption and it goes on where it stopped. Returns what to do next.

    Args:
        source: where the pictures come from: `auto DIR`, a benchmark's name, ImageFolder, CSV or a class of your own
        out: the folder to write, empty or holding an unfinished run of the same line
        seed: decides class split, picture split, few-shot subset and order
        unseen: classes to hold out of training: a share below 1.0 or a whole number
        class_split: hold out `unseen` classes, or (base-novel) the second half of the sorted labels
        k_shot: training pictures to keep of each class, all by default
        triplets: freeze a positive and a negative beside each training picture, the latter of the class that is most
            similar by Siblings, FolderCentroids, FolderNames, TowerCentroids (of a run) or a class of your own
        val: share of each class for validation where the source has no validation split
        test: share of each class for testing where the source has no splits
        samples_per_shard: pictures in one tar
        max_bad_share: share of the pictures that may be refused before the set is not accepted
        overwrite: pack everything again, in place of this or another shard set in the same folder
        within: a node of the taxonomy: only pictures of its branch are packed
        backbone: a Darwin Core table of taxa, such as GBIF's Taxon.tsv, that gives ranks to classes it has by exactly
            their scientific or common names
        respell: read labels that misspell or paraphrase a class of the taxonomy as that class, and say which
    """
    console = Console()
    source = Respelt(source) if respell else source
    source = source if backbone is None else Backbone(source, backbone)
    source = source if within is None else Within(source, within)
    with progress_bar(console) as progress:
        manifest = pack(
            source,
            out,
            PackOptions(seed, unseen, class_split, k_shot, val, test, samples_per_shard),
            triplets=triplets,
            max_bad_share=max_bad_share,
            overwrite=overwrite,
            progress=partial(progress, "packing pictures"),
            say=lambda sentence: _say(console, sentence),
        )
    _print_summary(console, manifest, out)
    return after_shards(out)


def _print_summary(console: Console, manifest: Manifest, out: Path) -> None:
    cohorts = list(dict.fromkeys(sorted(manifest.cohorts.values(), key=["seen", "base", "unseen", "novel"].index)))
    table = Table("split", *(f"{cohort} ({_classes(manifest, cohort)})" for cohort in cohorts), "size")
    for split in ("train", "val", "test"):
        size = sum(shard.size for shard in manifest.select(split, cohorts))
        if size:
            counts = (f"{manifest.samples(split, [cohort]):,}" for cohort in cohorts)
            table.add_row(split, *counts, f"{size / 2**20:,.1f} MiB")
    console.print(table)
    examples: dict[str, str] = {}
    reasons = Counter(examples.setdefault(_kind(refusal.reason), refusal.reason) for refusal in manifest.refused)
    for title, counts in (("noted", Counter(manifest.notes)), ("refused, such as", reasons)):
        if counts:
            counted = Table("pictures", title)
            for what, count in counts.most_common():
                counted.add_row(f"{count:,}", escape(shown(what)))
            console.print(counted)
    _print_refused(console, manifest, out)
    total = sum(shard.samples for shard in manifest.shards)
    _say(
        console,
        f"{manifest.dataset}: {total:,} pictures of {len(manifest.cohorts):,} classes in {len(manifest.shards):,} "
        f"shards, {len(manifest.refused):,} refused. The shard set is {out}",
    )


def _print_refused(console: Console, manifest: Manifest, out: Path) -> None:
    lines = [str(refusal) for refusal in manifest.refused[:NAMED]]
    if lines:
        lines.append(f"all {len(manifest.refused):,} are named in {out / MANIFEST}")
    for line in lines:
        _say(console, line)


def _say(console: Console, sentence: str) -> None:
    console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)


def _classes(manifest: Manifest, cohort: str) -> str:
    count = sum(side == cohort for side in manifest.cohorts.values())
    return f"{count:,} class" if count == 1 else f"{count:,} classes"


def _kind(reason: str) -> str:
    """A reason without what is particular to one file, so that like refusals are counted together."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|^.* line \d+: |\d[\d,]*", "…", reason).strip("… ")
