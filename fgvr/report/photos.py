"""Photos by their uids, out of the shard sets that a run was trained and evaluated on, made small for a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError
from fgvr.report.ran import Ran
from fgvr.shards.manifest import Manifest, load_manifest
from fgvr.shards.reading import ShardSet
from fgvr.taxonomy.tree import Taxonomy

SIDE, QUALITY = 144, 80  # of a small photo in pixels, and of its JPEG
SPLITS = ("val", "test", "train")


@dataclass(frozen=True)
class Budget:
    """How many pixels the model was given of a photo, as `PixelBudget` has it; None where the config does not say."""

    least: int | None = None
    most: int | None = None

    @classmethod
    def of(cls, ran: Ran) -> Budget:
        policy = ran.model.get("policy")
        pixels = policy.get("pixels") if isinstance(policy, Mapping) else None
        found = [pixels.get(name) if isinstance(pixels, Mapping) else None for name in ("min", "max")]
        return cls(*(value if isinstance(value, int) else None for value in found))

    def within(self, photo: Image.Image) -> Image.Image:
        """The photo with no more pixels than the model saw, so that nobody sees more in it than the model could."""
        if self.most is None or photo.width * photo.height <= self.most:
            return photo
        shrink = math.sqrt(self.most / (photo.width * photo.height))
        return photo.resize((max(1, round(photo.width * shrink)), max(1, round(photo.height * shrink))))


@dataclass
class Photos:
    """The shard sets of a run, and what was found in them. `missing` are sentences about sets that are not there.

    `found` maps uids to data: addresses, `labels` to classes; `unread` counts the photos that could not be had.
    """

    sets: dict[Path, Manifest] = field(default_factory=dict[Path, Manifest])
    missing: list[str] = field(default_factory=list[str])
    budget: Budget = field(default_factory=Budget)
    found: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    unread: int = 0

    @classmethod
    def of(cls, ran: Ran, elsewhere: Sequence[Path] = ()) -> Photos:
        """Those that the config names, where they lay or beside the run's folder, and those given besides."""
        photos = cls(budget=Budget.of(ran))
        for folder in elsewhere:
            photos.sets[folder] = load_manifest(folder)
        for named in named_sets(ran):
            place = next((one for one in places_of(named, ran) if (one / "manifest.json").is_file()), None)
            if place is None:
                if not elsewhere:
                    photos.missing.append(
                        f"The shard set {named} is not there, so its photos are not shown: give --data FOLDER where it "
                        "lies now."
                    )
                continue
            try:
                photos.sets.setdefault(place, load_manifest(place))
            except UserError as error:
                photos.missing.append(f"The shard set {named} cannot be read, so its photos are not shown: {error}.")
        return photos

    @property
    def taxonomy(self) -> Taxonomy | None:
        """That of all the sets together; None without any, and where they do not go together."""
        trees = [Taxonomy.from_dict(dict(manifest.taxonomy)) for manifest in self.sets.values()]
        try:
            return trees[0].merged(trees[1:]) if trees else None
        except UserError:
            return None

    def find(self, uids: Collection[str]) -> None:
        """Adds the photos with these uids to `found`; a frozen triplet's partners are found with its anchor."""
        wanted = set(uids) - self.found.keys()
        for samples in self._samples():
            if not wanted:
                return
            for number, entry in enumerate(_entries(samples)):
                if entry.key in wanted:
                    wanted -= {entry.key, *self._take(samples, number, wanted)}
            samples.close()
        self.unread += len(wanted)

    def one_of_each(self, names: Collection[str]) -> dict[str, str]:
        """A photo for each name of a class, or of a node above classes, as a uid that is in `found`."""
        tree, left, uids = self.taxonomy, set(names), dict[str, str]()
        for samples in self._samples():
            for number, entry in enumerate(_entries(samples)):
                if not left:
                    return uids
                above = tree.lineage.get(entry.label, ()) if tree else ()
                for name in left & {entry.label, *above}:
                    if entry.key in self.found or entry.key in self._take(samples, number, {entry.key}):
                        uids[name] = entry.key
                left -= uids.keys()
            samples.close()
        return uids

    def _samples(self) -> Iterator[ShardSet]:
        """Each split of each set; what the model did not learn from comes first."""
        for split in SPLITS:
            for folder, manifest in self.sets.items():
                cohorts = tuple(sorted({shard.cohort for shard in manifest.shards if shard.split == split}))
                if cohorts:
                    yield ShardSet(folder, split, cohorts, max_bad_share=1.0)

    def _take(self, samples: ShardSet, number: int, wanted: Collection[str]) -> set[str]:
        """Makes those photos of a sample small that are wanted, and says whose they are."""
        try:
            example = samples.read(number)
            held = {example.uid: (example.images[0], example.label)}
            for partner in (example.positive, example.negative):
                if partner is not None and partner.uid in wanted and partner.uid not in self.found:
                    held[partner.uid] = (partner.images[0], partner.label)
            for uid, (data, label) in held.items():
                self.found[uid] = as_address(self.budget.within(open_image(data, uid)))
                self.labels[uid] = label
        except SampleError:
            self.unread += 1
            return set()
        return set(held)


def _entries(samples: ShardSet) -> Iterator[Any]:
    """What the indexes say of the samples; nothing of a set whose index cannot be read."""
    try:
        yield from samples.entries()
    except UserError:
        return


def named_sets(ran: Ran) -> list[Path]:
    """The folders of the shard sets that a run's config names, to evaluate on first."""
    train = ran.data.get("train")
    trained = [one.get("path") for one in train or [] if isinstance(one, Mapping)] if isinstance(train, list) else []
    val = ran.data.get("val")
    listed = [*(val if isinstance(val, list) else []), *trained]
    return [Path(path) for path in dict.fromkeys(str(path) for path in listed if path)]


def places_of(named: Path, ran: Ran) -> Iterator[Path]:
    """Where a path of the config may lead: from here, and from where the run was started, as its run.dir tells."""
    yield named
    section = ran.config.get("run")
    asked = Path(str(section.get("dir"))) if isinstance(section, Mapping) and section.get("dir") else None
    here = ran.folder.resolve()
    if asked is not None and not asked.is_absolute() and here.parts[-len(asked.parts) :] == asked.parts:
        yield Path(*here.parts[: -len(asked.parts)]) / named


def as_address(photo: Image.Image, side: int = SIDE) -> str:
    """The photo within a square of so many pixels, as a data: address."""
    small = photo.convert("RGB")
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
