"""Likeness by sight: the mean of what an image encoder makes of a class's photos, compared by cosine."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fgvr.errors import UserError, refuse_below
from fgvr.similarity.base import Classes, Ranking, Similarity, best

if TYPE_CHECKING:
    from fgvr.models import Policy

BATCH = 16  # photos that are encoded together
Encoder = Callable[[Sequence[Image.Image]], Float[Tensor, "I D"]]

log = logging.getLogger(__name__)


class Centroids(Similarity):
    """Cosine of two classes' mean features over at most `photos` training photos each, fixed by the seed.

    A class none of whose photos can be read is like no other. Raises UserError for a number below 1.
    """

    def __init__(self, photos: int = 16) -> None:
        refuse_below(1, "similarity", photos=photos)
        self.photos = photos

    @abstractmethod
    def encoder(self, classes: Classes) -> Encoder:
        """What makes one row of features of each image."""

    @torch.no_grad()
    def nearest(self, classes: Classes, k: int) -> Ranking:
        with torch.random.fork_rng(devices=[]):  # what loading a model draws must not move what training draws
            encode = self.encoder(classes)
        found = {
            name: centre for name in classes.names if (centre := self._centroid(classes, name, encode)) is not None
        }
        if not found:
            return dict.fromkeys(classes.names, ())
        log.info("%s: %d classes compared by up to %d photos each.", type(self).__name__, len(found), self.photos)
        names = list(found)
        table = torch.nn.functional.normalize(torch.stack(list(found.values())), dim=-1)
        ranking: Ranking = dict.fromkeys(classes.names, ())
        for name, row in zip(names, (table @ table.T).tolist(), strict=True):
            scores = {
                other: round(score, 6) for other, score in zip(names, row, strict=True) if classes.differ(name, other)
            }
            ranking[name] = best(scores, k)
        return ranking

    def _centroid(self, classes: Classes, name: str, encode: Encoder) -> Tensor | None:
        photos = classes.photos(name, self.photos)
        batches = [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
        return torch.cat([encode(batch).float().cpu() for batch in batches]).mean(0) if batches else None

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "photos": self.photos}


class TowerCentroids(Centroids):
    """By the policy's own vision tower: the mean of the image tokens that it hands to the language model.

    The policy is the one being trained, as it is when training begins and again after `every` epochs; with `run` it is
    that of another run's folder or checkpoint, and stays as it is. Each process encodes all photos: a sharded tower
    works only when all take part. Raises UserError where there is neither.
    """

    def __init__(self, photos: int = 16, every: int | None = None, run: str | None = None) -> None:
        super().__init__(photos)
        refuse_below(1, "similarity", every=every)
        self.every, self.run = every, run

    def check(self) -> None:
        if self.run is not None:
            from fgvr.models.trained import Trained

            Trained(self.run).check()

    def encoder(self, classes: Classes) -> Encoder:
        if self.run is not None:
            from fgvr.models.trained import Trained, read_policy, rebuild

            return encoder_of(rebuild(*read_policy(Trained(self.run).path)))
        if classes.policy is None:
            raise UserError(
                "TowerCentroids looks through the tower of a policy that is being trained, and none is here: give it "
                "the run whose tower it shall take, or choose Siblings or FolderCentroids"
            )
        return encoder_of(classes.policy)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "every": self.every, "run": self.run and Path(self.run).name}


class FolderCentroids(Centroids):
    """By the image side of a CLIP or SigLIP in `folder`, as the hub has it; no network is asked.

    Photos are compared with photos: what a text encoder makes of a species' name says little of its looks.
    """

    def __init__(self, folder: Path, photos: int = 16) -> None:
        super().__init__(photos)
        self.folder = Path(folder)

    def check(self) -> None:
        from fgvr.models.image_tower import check_tower

        check_tower(self.folder)

    def encoder(self, classes: Classes) -> Encoder:
        from fgvr.models import ImageTower

        return ImageTower(self.folder)

    def describe(self) -> dict[str, Any]:
        from fgvr.models.folders import folder_digest

        digest = folder_digest(self.folder)[:16] if (self.folder / "config.json").is_file() else None
        return {**super().describe(), "folder": digest}


def encoder_of(policy: Policy) -> Encoder:
    """The mean image token of each image, as the language model of the policy is given them."""
    device = next(policy.parameters()).device

    def encode(images: Sequence[Image.Image]) -> Tensor:
        inputs, _ = policy.processor.encode_images(images)
        was_training = policy.training
        policy.eval()
        try:
            tokens = policy.image_features(inputs.to(device)).tokens
        finally:
            policy.train(was_training)
        counts = (inputs.grid_thw.prod(-1) // policy.processor.merge**2).tolist()
        return torch.stack([part.float().mean(0) for part in tokens.split(counts)])

    return encode
