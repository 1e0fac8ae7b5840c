"""Random views of a photo for training, off by default; every draw comes from the generator it is given."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageEnhance

from fgvr.errors import UserError


@dataclass(frozen=True)
class Augment:
    """Mirror (a probability), crop (the least share of the area that stays), brightness (the largest relative change).

    Shares and probabilities in [0, 1]; the defaults change nothing. Raises UserError outside those ranges.
    """

    mirror: float = 0.0
    crop: float = 1.0
    brightness: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.mirror <= 1 and 0 < self.crop <= 1 and 0 <= self.brightness < 1):
            raise UserError(f"augmentation takes mirror in [0, 1], crop in (0, 1] and brightness in [0, 1), got {self}")

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        mirror, share, gain = (
            rng.random() < self.mirror,
            rng.uniform(self.crop, 1),
            rng.uniform(-1, 1) * self.brightness,
        )
        across, down = rng.random(), rng.random()
        if share < 1:
            width, height = (max(1, round(side * math.sqrt(share))) for side in image.size)
            left, top = round(across * (image.width - width)), round(down * (image.height - height))
            image = image.crop((left, top, left + width, top + height))
        if mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return ImageEnhance.Brightness(image).enhance(1 + gain) if gain else image
