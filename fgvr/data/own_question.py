"""Questions that come with the data, asked as they are written."""

from __future__ import annotations

import random
from typing import Any

from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError
from fgvr.types import PLACE, Example


class OwnQuestion(OpenWorld):
    """Free naming by each example's own question (`extra["question"]`): word for word, without an instruction.

    <image> in it is where the photo stands; a question without one follows the photo. `suffix` is added to the
    question, as Fine-R1 adds how to reply. An example that brings no question is asked as `OpenWorld` asks, whose other
    options it takes. Raises SampleError for a question with more places than there are photos.
    """

    def __init__(self, *, suffix: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.suffix = suffix

    def messages(self, example: Example, rng: random.Random) -> list[dict[str, Any]]:
        question = example.extra.get("question")
        if question is None:
            return super().messages(example, rng)
        text = f"{question}{self.suffix}"
        photos = len(self.images(example))
        parts = text.split(PLACE) if PLACE in text else [*[""] * photos, text]
        if len(parts) - 1 != photos:
            raise SampleError(
                f"{example.uid}: a question must have a place for each of {photos} photos, got {len(parts) - 1} in "
                f"{text!r}"
            )
        content: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            content += [{"type": "image"}] if number else []
            content += [{"type": "text", "text": part}] if part else []
        return [{"role": "user", "content": content}]
