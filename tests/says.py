"""A tiny policy that says what it is told, to see what becomes of its words; the rest of it is real."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from conftest import tiny_backbone
from PIL import Image

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.tasks import OpenWorld
from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import ReadPrompts, Written
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, ImageFeatures, ImageInputs, PromptBatch, ReadRecord

Choice = Callable[[str], str]

PATHS = {
    "Azure Finch": ("Finches", "Azure Finch"),
    "Amber Finch": ("Finches", "Amber Finch"),
    "Jade Owl": ("Owls", "Jade Owl"),
}
BIRDS = Taxonomy(PATHS, ("family", "species"), "bird")
ASK, CHOOSE = OpenWorld("Which?").bind(BIRDS), ClosedWorld(letters=True, question="Which?").bind(BIRDS)


class Says(Policy):
    """A tiny policy that writes what it is told: K replies a photo, then whatever `choice` says of the prompt."""

    def say(self, replies: Sequence[Sequence[str | None]], choice: Choice) -> Says:
        self.replies, self.choice = replies, choice
        self.towers, self.asked = 0, list[str]()
        return self

    def image_features(self, images: ImageInputs) -> ImageFeatures:
        self.towers += len(images.grid_thw)
        return super().image_features(images)

    def write_after(
        self, decoder: Decoder, read: ReadPrompts, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, list[Written]]]:
        for number, prompt in enumerate(read.prompts):
            text = self.processor.decode(prompt.input_ids.tolist())
            if seeds is not None:
                said = [f"<answer>{name}</answer>" if name else "hm" for name in self.replies[number]]
            else:
                self.asked.append(text)
                said = [self.choice(text)]
            yield number, [self._written(one) for one in said]

    def _written(self, text: str) -> Written:
        ids = torch.tensor(self.processor.encode_target(text))
        return Written(ids, torch.full(ids.shape, -0.5), True)


def says(replies: Sequence[Sequence[str | None]], choice: Choice = lambda text: "<answer>A</answer>") -> Says:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84))
    return Says(config, backbone.processor(config.pixels)).say(replies, choice)


def batch_of(policy: Policy, labels: Sequence[str], cohort: str = "seen", prefix: str = "u") -> PromptBatch:
    collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
    examples = [
        Example(f"{prefix}{n}", (_photo(n),), label, PATHS[label], "val", cohort, "birds")
        for n, label in enumerate(labels)
    ]
    items = [PromptEncode(policy.processor, ASK)(example, random.Random(0)) for example in examples]
    places = tuple(range(len(labels)))
    return collate(items, ReadRecord(0, 0, places, tuple(example.uid for example in examples)))


def _photo(seed: int) -> bytes:
    data = io.BytesIO()
    Image.frombytes("RGB", (84, 56), random.Random(seed).randbytes(3 * 84 * 56)).save(data, "PNG")
    return data.getvalue()


def letter_of(name: str) -> Choice:
    """Answers with the letter under which the prompt shows this name."""

    def choice(text: str) -> str:
        (line,) = [line for line in text.splitlines() if line.endswith(name)]
        return f"<answer>{line[0]}</answer>"

    return choice
