"""A teacher in this very process: a policy that describes, and reasons, itself."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from fgvr.data.collate import PromptCollate
from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError, refuse_below
from fgvr.models import Backbone, PixelBudget, Policy, PolicyConfig
from fgvr.models.attention_choice import Device, attention_at, place_of
from fgvr.models.memory import is_out_of_memory
from fgvr.models.sampling import Sampling
from fgvr.models.text_encoder import own_embeddings
from fgvr.rollouts.engine import RolloutEngine
from fgvr.rollouts.in_process import InProcess
from fgvr.shards.order import key_of
from fgvr.thoughts.concepts import Encoder, unit_rows
from fgvr.thoughts.teacher import Asked, NoReply, Teacher
from fgvr.types import EncodedPrompt, Example, ReadRecord

GREY = (128, 128, 128)


class LocalTeacher(Teacher):
    """A model that a folder or a run has, asked by the engine that samples rollouts, `batch` questions side by side.

    A reply belongs to the model, the question, the temperature and `seed`: in float32 neither its batch nor what else
    is asked has a say, in half precision where the same batches are asked, as they are after a kill. `pixels` is the
    budget of each photo, by default the model's. Concepts of a class are asked for beside a grey picture, as a prompt
    here must show one. Raises UserError for numbers out of range, and once it is asked for a model that has learned
    nothing.
    """

    def __init__(
        self,
        model: Backbone,
        pixels: PixelBudget | None = None,
        batch: int = 8,
        temperature: float = 1.0,
        max_new_tokens: int = 2048,
        seed: int = 0,
        engine: RolloutEngine = InProcess(),  # noqa: B008 - settings only
        device: Device = "auto",
    ) -> None:
        refuse_below(1, "teacher", batch=batch, max_new_tokens=max_new_tokens)
        if not 0 < temperature < math.inf:
            raise UserError(f"teacher.temperature must be above 0 and finite, got {temperature}")
        self.place = place_of(device, "teacher.device")
        self.model, self.pixels, self.batch, self.seed = model, pixels, batch, seed
        self.engine = engine
        self.sampling = Sampling(1, temperature, max_new_tokens)

    @property
    def identity(self) -> str:
        shown = self.pixels and [self.pixels.min, self.pixels.max]
        how = [self.sampling.temperature, self.sampling.max_new_tokens, self.seed, type(self.engine).__name__]
        return json.dumps([self._origin["digest"], shown, *how])

    @property
    def told(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "model": self._origin["name"],
            "digest": self._origin["digest"],
            "temperature": self.sampling.temperature,
            "max_new_tokens": self.sampling.max_new_tokens,
            "seed": self.seed,
            "batch": self.batch,
        }

    def reply(self, asked: Asked) -> str:
        ((_, said),) = next(self.replies([asked]))
        if isinstance(said, NoReply):
            raise said
        return said

    def replies(self, asked: Sequence[Asked]) -> Iterator[list[tuple[int, str | NoReply]]]:
        for start in range(0, len(asked), self.batch):
            part = range(start, min(start + self.batch, len(asked)))
            said: dict[int, str | NoReply] = {}
            prompts: dict[int, EncodedPrompt] = {}
            for place in part:
                try:
                    prompts[place] = self._prompt(asked[place])
                except SampleError as error:
                    said[place] = NoReply(str(error))
            said |= self._written(prompts, asked)
            yield [(place, said[place]) for place in part]

    def encoder(self) -> Encoder:
        return unit_rows(own_embeddings(self.model))

    @cached_property
    def _origin(self) -> dict[str, str]:
        return self.model.learned_origin()

    @cached_property
    def _policy(self) -> Policy:
        config = PolicyConfig(self.model, self.pixels, attention=attention_at(self.place))
        policy = Policy(config, self.model.processor(self.pixels)).to(self.place).eval()
        policy.weights_stay(True)
        self.engine.sync(policy)
        return policy

    def _prompt(self, asked: Asked) -> EncodedPrompt:
        image = grey_picture() if asked.kind == "concepts" else asked.photo.image
        said = [{"type": "image"}, {"type": "text", "text": asked.text}]
        photos = [open_image(image, asked.photo.uid)]
        return self._policy.processor.encode_prompt([{"role": "user", "content": said}], photos)

    def _written(self, prompts: dict[int, EncodedPrompt], asked: Sequence[Asked]) -> dict[int, str | NoReply]:
        """The replies by place. Raises UserError where memory does not hold them side by side."""
        if not prompts:
            return {}
        policy, places = self._policy, tuple(prompts)
        uids = [f"{place} {asked[place].photo.uid}" for place in places]
        examples = [Example(uid, (), "", (), "", "", "") for uid in uids]
        collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
        record = ReadRecord(0, 0, places, tuple(uids))
        batch = collate(list(zip(examples, prompts.values(), strict=True)), record)
        device = next(policy.parameters()).device
        seeds = [key_of(self.seed, "teach", asked[place].key("")) % 2**63 for place in places]
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                groups = self.engine.sample(policy, batch.to(device), self.sampling, seeds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"memory must hold teacher.batch={self.batch} replies of up to {self.sampling.max_new_tokens} tokens "
                "side by side, but does not: lower teacher.batch, teacher.max_new_tokens or teacher.pixels.max"
            ) from error
        return {place: group.completions[0].text for place, group in zip(places, groups, strict=True)}


def grey_picture() -> bytes:
    """A picture of nothing, encoded."""
    data = io.BytesIO()
    Image.new("RGB", (56, 56), GREY).save(data, "PNG")
    return data.getvalue()
