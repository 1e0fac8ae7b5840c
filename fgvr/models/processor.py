"""Chat and pictures to token ids and patches, and back: one pixel budget for training, validation and export.

Tokenizer and image processor are transformers' own, held side by side: the library's combined processor class needs
torchvision, which a CPU-only torch cannot import.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from fgvr.errors import SampleError, UserError
from fgvr.kernels.positions import mrope_positions
from fgvr.models.patches import patches_of, resized
from fgvr.types import EncodedPrompt, ImageInputs

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
GENERATION = "generation_config.json"
IMAGE_TOKEN, END_OF_TURN, END_OF_TEXT = "<|image_pad|>", "<|im_end|>", "<|endoftext|>"
# of a reply's grammar (fgvr.data.tasks): text to be written and read, even where a tokenizer calls them special
TAGS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})


@dataclass(frozen=True)
class PixelBudget:
    """How many pixels an image may have after resizing; the aspect ratio is kept.

    Smaller ones are enlarged to `min`, larger ones reduced to `max`: 28 x 28 pixels are one token of Qwen2.5-VL.
    Pixels of the resized image, which is a multiple of patch size x merge size on each side.
    Raises UserError unless 0 < min <= max.
    """

    min: int = 56 * 56
    max: int = 28 * 28 * 1280

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.max:
            raise UserError(f"the pixel budget must satisfy 0 < min <= max, got min={self.min} and max={self.max}")


class Processor:
    """Tokenizer, chat template and image processor of one model.

    `opening` is what the template itself writes of every reply, after the line that names the assistant: "" for most
    models, "<think>\\n" for those that always think. It stands in the prompt, yet belongs to the reply: `decode` gives
    it back and `encode_target` leaves it out. `control_ids` are those that no text of the data may spell. `ends` are
    ids that end a completion besides the tokenizer's own: those of the model's generation config.

    Picklable, so that loader workers can carry it. Raises UserError when the tokenizer lacks a chat template that can
    be rendered or the vision tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Any,
        pixels: PixelBudget | None,
        ends: Sequence[int] = (),
    ) -> None:
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.ends = tuple(end for end in ends if 0 <= end < len(tokenizer))  # some folders name another model's
        if pixels is None:
            pixels = PixelBudget(image_processor.size["shortest_edge"], image_processor.size["longest_edge"])
        self.pixels = pixels
        image_processor.size = {"shortest_edge": pixels.min, "longest_edge": pixels.max}
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in (IMAGE_TOKEN, END_OF_TURN) if token not in vocabulary]
        if missing or not tokenizer.chat_template:
            raise UserError(
                f"the model's tokenizer must have a chat template and the tokens {missing or 'it has'}: give a "
                f"Qwen-VL model"
            )
        self.image_token = vocabulary[IMAGE_TOKEN]
        self.end_of_turn, self.end_of_text = vocabulary[END_OF_TURN], vocabulary.get(END_OF_TEXT)
        self.vision_token_ids = [vocabulary[token] for token in VISION_TOKENS if token in vocabulary]
        added = tokenizer.added_tokens_decoder.items()
        self.special_ids = frozenset(number for number, token in added if token.special and token.content not in TAGS)
        # by their ids too: a tokenizer may be made to give another name to the one that ends a turn
        own = {*self.vision_token_ids, self.end_of_turn, self.end_of_text} - {None}
        self.control_ids = self.special_ids | own | {n for n, token in added if token.content.startswith("<|")}
        self._remember()
        self.opening = self._opened()

    def _remember(self) -> None:
        # in this field questions and answers recur: most photos are asked the same in the same shape
        self._text_ids = lru_cache(maxsize=4096)(self._tokenise)
        self._chat_ids = lru_cache(maxsize=4096)(self._render)
        self._expanded = lru_cache(maxsize=1024)(self._expand)

    def __getstate__(self) -> dict[str, Any]:
        caches = ("_text_ids", "_chat_ids", "_expanded")
        return {key: value for key, value in self.__dict__.items() if key not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._remember()

    @classmethod
    def from_folder(cls, folder: Path | str, pixels: PixelBudget | None, **options: Any) -> Processor:
        """Reads what `save` (or any Qwen-VL checkpoint) holds, its pixel budget too when none is given."""
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        images = AutoImageProcessor.from_pretrained(str(folder), backend="pil", **options)
        return cls(tokenizer, images, pixels, _ends_in(folder, options))

    def save(self, folder: Path, max_new_tokens: int | None = None) -> None:
        """Writes tokenizer, chat template, image processor (with the pixel budget) and `generation_config`.

        All are in the Hub's layout.
        """
        self.tokenizer.save_pretrained(str(folder))
        self.image_processor.save_pretrained(str(folder))
        self.generation_config(max_new_tokens).save_pretrained(str(folder))

    def generation_config(self, max_new_tokens: int | None = None) -> GenerationConfig:
        """What is evaluated, in transformers' terms: greedy, without penalties, vision tokens never, all the ends.

        `max_new_tokens` is where answers are cut off; None leaves that to whoever asks for some.
        """
        return GenerationConfig(
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.padding_token,
            suppress_tokens=self.vision_token_ids,  # an image token in an answer would ask for an image
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )

    @property
    def merge(self) -> int:
        return int(self.image_processor.merge_size)

    @property
    def padding_token(self) -> int:
        """The id that fills rows; the mask keeps every real token from seeing it."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else self.end_of_turn

    @property
    def eos_token_ids(self) -> list[int]:
        """Every id that ends a completion: the ends of turn and text, the generation config's, and padding."""
        own = [self.end_of_turn, self.end_of_text, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id]
        ids = [*own, *self.ends]
        return sorted({token for token in ids if isinstance(token, int)})

    def encode_prompt(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> EncodedPrompt:
        """A chat and its images (upright RGB) as ids, positions and patches, the assistant's turn opened.

        Raises SampleError when a text spells a control token, when there is no image or another number of places for
        them, or when an image's shape cannot be resized into the budget. Nothing is ever truncated: cap the pixels
        instead.
        """
        ids = self._ids_about(messages, len(images))
        inputs, grids = self.encode_images(images)
        return EncodedPrompt(*self._expanded(ids, tuple(grids)), inputs)

    def ask_again(self, messages: Sequence[Mapping[str, Any]], images: ImageInputs) -> EncodedPrompt:
        """Another chat about images that have been cut into patches before; errors as in `encode_prompt`."""
        grids = tuple((int(t), int(h), int(w)) for t, h, w in images.grid_thw.tolist())
        return EncodedPrompt(*self._expanded(self._ids_about(messages, len(grids)), grids), images)

    def _ids_about(self, messages: Sequence[Mapping[str, Any]], images: int) -> tuple[int, ...]:
        ids = self._chat_ids(json.dumps(messages))
        if ids.count(self.image_token) != images:
            raise SampleError(
                f"a prompt must hold one place per image, got {ids.count(self.image_token)} for {images} images: "
                "mend the task's messages, or the chat template if it writes no place for an image"
            )
        if not images:
            raise SampleError("a prompt must show at least one image, got none: mend the task's messages")
        return ids

    def _expand(self, ids: tuple[int, ...], grids: tuple[tuple[int, int, int], ...]) -> tuple[Tensor, Tensor]:
        """Ids with as many placeholders as each image has tokens, and their positions."""
        expanded: list[int] = []
        counts = iter(t * h * w // self.merge**2 for t, h, w in grids)
        for token in ids:
            expanded += [token] * next(counts) if token == self.image_token else [token]
        input_ids = torch.tensor(expanded)
        return input_ids, mrope_positions(input_ids, self.image_token, grids, self.merge)

    def _render(self, messages: str) -> tuple[int, ...]:
        """Ids of a chat. Control tokens must be those of the same chat with harmless texts: the template's own."""
        chat = json.loads(messages)
        ids, harmless = self._tokenise(self._templated(chat)), json.dumps(_with_text(chat, "x"))
        if harmless != messages:
            found, own = (self._control_among(these) for these in (ids, self._chat_ids(harmless)))
            if found != own:
                spelt = sorted((Counter(found) - Counter(own)) or set(found))
                raise SampleError(
                    f"a text of the prompt must not spell a control token, got {', '.join(spelt)}: mend the question, "
                    "the options or the names"
                )
        return ids

    def _templated(self, chat: Sequence[Mapping[str, Any]], reply: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=reply)  # pyright: ignore[reportArgumentType]
        return str(text)

    def _opened(self) -> str:
        chat = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
        try:
            asked, open_ = self._templated(chat, reply=False), self._templated(chat)
        except TemplateError as error:
            raise UserError(
                f"the model's chat template must render a turn of the user, but it fails: {error}: mend "
                "chat_template.jinja in its folder"
            ) from error
        return open_.removeprefix(asked).lstrip().partition("\n")[2]  # the first line says whose turn it is

    def control_tokens_in(self, text: str) -> list[str]:
        """The control tokens that a text spells, as the tokenizer reads it, in their order."""
        return self._control_among(self._text_ids(text))

    def _control_among(self, ids: Iterable[int]) -> list[str]:
        return [str(self.tokenizer.convert_ids_to_tokens(token)) for token in ids if token in self.control_ids]

    def encode_images(self, images: Sequence[Image.Image]) -> tuple[ImageInputs, list[tuple[int, int, int]]]:
        patches: list[np.ndarray] = []
        grids: list[tuple[int, int, int]] = []
        for image in images:
            one, height, width = self._patches(image)
            patches.append(one)
            grids.append((1, height, width))
        return ImageInputs(torch.from_numpy(np.concatenate(patches)), torch.tensor(grids)), grids

    def _patches(self, image: Image.Image) -> tuple[np.ndarray, int, int]:
        side = self.image_processor.patch_size
        photo = self._resized(image)
        return patches_of(photo, side, self.merge), photo.shape[0] // side, photo.shape[1] // side

    def _resized(self, image: Image.Image) -> np.ndarray:
        try:
            return resized(image, self.image_processor, self.pixels.min, self.pixels.max)
        except ValueError as error:  # an aspect ratio beyond 200 : 1
            raise SampleError(
                f"an image must have a shape that can be resized, got (width, height) {image.size}: {error}"
            ) from error

    def view(self, image: Image.Image) -> Image.Image:
        """An RGB image as the model sees it, pixel for pixel: what `encode_images` cuts into patches."""
        return Image.fromarray(self._resized(image))

    def pixel_values(self, images: ImageInputs) -> Float[Tensor, "S L"]:
        """What the vision tower reads, on the patches' device: rescaled, normalised, the still frame repeated."""
        settings, device = self.image_processor, images.patches.device
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (settings.image_mean, settings.image_std))
        grey = torch.arange(256, device=device).double().mul(settings.rescale_factor).float()
        table = (grey - mean[:, :, 0]) / std[
            :, :, 0
        ]  # [3, 256]: what the library makes of each grey value, bit for bit
        index = images.patches.unflatten(-1, (3, -1)).transpose(0, 1).flatten(1).long()
        frame = table.gather(1, index).unflatten(1, (len(images.patches), -1)).transpose(0, 1)[:, :, None]
        return frame.expand(-1, -1, settings.temporal_patch_size, -1).flatten(1)

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text. Raises SampleError when the text spells a control token."""
        if spelt := self.control_tokens_in(text):
            raise SampleError(
                f"an answer must not spell a control token, got {', '.join(spelt)}: mend the label or the response"
            )
        return list(self._text_ids(text))

    def encode_target(self, reply: str) -> list[int]:
        """A reply without the template's opening, then the end of the turn: what follows the prompt.

        Raises SampleError when the reply does not begin with the opening, white space apart.
        """
        begun = re.match(r"\s*".join(map(re.escape, self.opening.split())), reply)
        if begun is None:
            raise SampleError(
                f"a reply must begin as the chat template has opened it, with {self.opening!r}, got {reply[:80]!r}: "
                "mend the task's target"
            )
        rest = reply[begun.end() :].lstrip() if self.opening else reply
        return [*self.encode_text(rest), self.end_of_turn]

    def decode(self, ids: Iterable[int]) -> str:
        """The reply: the template's opening, then a completion up to its first end token, special tokens left out."""
        ends = frozenset(self.eos_token_ids)
        kept = [token for token in takewhile(lambda token: token not in ends, ids) if token not in self.special_ids]
        return self.opening + str(self.tokenizer.decode(kept))

    def _tokenise(self, text: str) -> tuple[int, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the tokenizer warns of texts longer than the model; lengths are checked where rows are made
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType]


def _ends_in(folder: Path | str, options: Mapping[str, Any]) -> list[int]:
    """The end tokens of a model's generation config; that of many a model names more than its tokenizer does.

    None where there is no such file. Raises UserError for one that does not say which.
    """
    file = cached_file(str(folder), GENERATION, **options, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return []
    try:
        ends = json.loads(Path(file).read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise UserError(_no_ends(folder, f"cannot be read as one ({error})")) from error
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int for end in listed):
        raise UserError(_no_ends(folder, f"says {json.dumps(ends)}"))
    return listed


def _no_ends(folder: Path | str, found: str) -> str:
    return (
        f"{GENERATION} must be a JSON object whose eos_token_id is a token's id, a list of ids or null, but that of "
        f"{str(folder)!r} {found}: put a whole copy in its place, or remove it, and completions end where the "
        "tokenizer says"
    )


def _with_text(chat: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """The chat with `text` in the place of each of its own."""

    def replaced(content: Any) -> Any:
        if isinstance(content, str):
            return text
        return [{**part, "text": text} if part["type"] == "text" else part for part in content]

    return [{**message, "content": replaced(message["content"])} for message in chat]
