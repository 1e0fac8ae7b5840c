"""Which photos an audit compares classes by, and which its encoder baselines learn from."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError, refuse_below
from fgvr.metrics.protocol.encoders import Heads, fitted
from fgvr.models import Policy
from fgvr.models.image_encoder import image_encoder
from fgvr.shards.manifest import load_manifest
from fgvr.similarity import Classes
from fgvr.similarity.base import some_photos
from fgvr.similarity.centroids import encoder_of
from fgvr.types import Example

BATCH = 16
Places = dict[str, list[tuple[Any, int]]]  # class to its photos, as (set, number)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderBaseline:
    """An encoder of images whose linear probe and nearest class mean answer the audit's questions.

    `folder` has a CLIP, a SigLIP or another encoder of images; None is the vision tower of the policy itself. It learns
    from the photos that the run trains on, at most `shots` of each class. `decay` is the probe's weight decay. Raises
    UserError for less than one shot, and for no decay, where the probe has no minimum.
    """

    folder: Path | None = None
    shots: int | None = None
    decay: float = 1e-3

    def __post_init__(self) -> None:
        refuse_below(1, "an encoder", shots=self.shots)
        if not 0 < self.decay < math.inf:
            raise UserError(f"an encoder's decay must be above 0 and finite, got {self.decay}")

    @property
    def name(self) -> str:
        """What a table calls it: its folder's name, and how many photos of a class it has, where that is bounded."""
        tower = "vision tower" if self.folder is None else Path(self.folder).resolve().name
        return tower if self.shots is None else f"{tower}, {self.shots} shot{'s' * (self.shots > 1)}"

    def check(self) -> None:
        """Raises UserError for a folder that is not there."""
        if self.folder is not None and not Path(self.folder).is_dir():
            raise UserError(f"an encoder's folder must hold an encoder of images, but there is no folder {self.folder}")

    def support(self, data: Any, policy: Policy) -> Support:
        """The baseline after it has learned. Raises UserError where there is no photo to learn from."""
        encode = encoder_of(policy) if self.folder is None else image_encoder(self.folder)
        name = self.name
        labels, notes = list[str](), Counter[str]()
        rows: list[Tensor] = []
        for label, places in sorted(_by_class(data.train_sets).items()):
            chosen = random.Random(f"{data.seed} shots of {label}").sample(
                places, min(self.shots or len(places), len(places))
            )
            photos: list[Image.Image] = []
            for one, number in chosen:
                try:
                    example = one.read(number)
                    photos.append(open_image(example.images[0], example.uid))
                except SampleError as error:
                    notes[f"encoder: a training photo could not be read ({name})"] += 1
                    log.warning("a photo is left out of an encoder's shots: %s", error)
            labels += [label] * len(photos)
            rows += [_encoded(encode, photos)] if photos else []
        if not labels:
            raise UserError("an encoder's baseline learns from the photos of data.train, but none could be read")
        lacking = len(set(data.taxonomy.paths) - set(labels))
        notes[f"encoder: classes without a photo to learn from ({name})"] = lacking
        heads = fitted(torch.cat(rows), labels, self.decay)
        log.info("%s: %d photos of %d classes were learned from.", name, len(labels), len(heads.classes))
        return Support(name, heads, encode, notes)


@dataclass(frozen=True)
class Support:
    """A baseline that has learned, under its `name`."""

    name: str
    heads: Heads
    encoder: Callable[[Sequence[Image.Image]], Tensor]
    notes: Counter[str]

    def encode(self, examples: Sequence[Example]) -> Float[Tensor, "N D"]:
        """A row of features for each example's photo; one by one, so that no photo has a say in another's."""
        return torch.cat([self.encoder([open_image(one.images[0], one.uid)]).float().cpu() for one in examples])


def classes_of(data: Any, split: str) -> dict[str, frozenset[str]]:
    """The names of each data set's classes, those of all cohorts together."""
    names: dict[str, set[str]] = defaultdict(set)
    for one in _evaluated(data, split):
        names[one.dataset] |= set(load_manifest(one.folder).cohorts)
    branch = getattr(data, "branch", None)
    return {dataset: frozenset(found if branch is None else found & branch.classes) for dataset, found in names.items()}


def compared(data: Any, split: str, policy: Policy) -> dict[str, Classes]:
    """Each data set's classes, to be compared by the photos that are evaluated: classes held out have no others."""
    by_set: dict[str, list[Any]] = defaultdict(list)
    for one in _evaluated(data, split):
        by_set[one.dataset].append(one)
    names = classes_of(data, split)

    def photos_of(places: Places, label: str, count: int) -> Sequence[Image.Image]:
        own = places.get(label, [])

        def photo(number: int) -> Image.Image:
            one, place = own[number]
            example = one.read(place)
            return open_image(example.images[0], example.uid)

        return some_photos(label, len(own), count, data.seed, photo)

    return {
        dataset: Classes(
            tuple(sorted(names[dataset])), data.taxonomy, partial(photos_of, _by_class(sets)), policy, data.seed
        )
        for dataset, sets in sorted(by_set.items())
    }


def _evaluated(data: Any, split: str) -> list[Any]:
    return [one for cohort in data.cohorts for one in data.eval_sets(split, cohort)]


def _by_class(sets: Sequence[Any]) -> Places:
    found: Places = defaultdict(list)
    for one in sets:
        for number, label in enumerate(one.labels()):
            found[label].append((one, number))
    return dict(found)


def _encoded(encode: Callable[[Sequence[Image.Image]], Tensor], photos: Sequence[Image.Image]) -> Tensor:
    parts = [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
    return torch.cat([encode(part).detach().float().cpu() for part in parts])
