"""Where a policy's weights and processor come from, and a pretrained model as such a source."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from fgvr.checkpoints.kept import began_with, how_to_put_back, run_of
from fgvr.errors import UserError
from fgvr.models.bars import bars_on_terminals_alone
from fgvr.models.folders import find_folder, folder_digest, keep_folder
from fgvr.models.hub import Place, place_of
from fgvr.models.processor import PixelBudget, Processor
from fgvr.models.rows import WeightFiles, WeightSource

SAFETENSORS = "model.safetensors"
ADAPTER = "adapter_config.json"
PIXELS = "fgvr_pixels"  # in an exported model's config.json: the budget it was trained with

log = logging.getLogger(__name__)

Family = Literal["qwen2_5_vl", "qwen3_vl"]
FAMILIES: tuple[str, ...] = ("qwen2_5_vl", "qwen3_vl")
Attention = Literal["sdpa", "flash_attention_2"]


class Backbone(ABC):
    """A source of weights, in float32, and of the processor that goes with them.

    `reloadable` says whether the same weights can be had again, so that checkpoints need not hold those that are
    frozen; `learned` whether they know anything, so that it is worth evaluating them before they are trained.
    """

    reloadable: bool
    learned = True

    def check(self) -> None:
        """Raises UserError when something is missing that no run makes for itself; asked before any data is made."""
        return

    def go_on_from(self, checkpoint: Path | None) -> None:
        """Tells, before anything is asked for, which checkpoint of its own the run goes on from: with what it began."""
        return

    def keep(self, run: Path) -> None:
        """Puts into the folder of `run` what it needs to go on and what others may remove; for its one writer."""
        return

    @property
    def stands_in(self) -> bool:
        """True where the weights that the run began with are gone, and those of its own checkpoint are given."""
        return False

    @abstractmethod
    def config(self) -> PretrainedConfig:
        """The architecture, without loading weights."""

    @abstractmethod
    def build(self, attention: Attention) -> PreTrainedModel:
        """The model with its weights, on the CPU, in float32."""

    def rows(self) -> WeightSource | None:
        """What a process can read its rows of each weight from; None where weights only come whole.

        A collective call, where several processes have met.
        """
        return None

    @abstractmethod
    def processor(self, pixels: PixelBudget | None) -> Processor:
        """Tokenizer and image processor; without a budget the one these weights were trained with, if it is known."""

    @abstractmethod
    def origin(self) -> dict[str, str]:
        """Where the weights are from: name, path to load them again, revision, digest, licence; empty where unknown.

        `dtype` is the precision they came in. `kind` says how to load them where it is not from a folder or hub as
        transformers has it.
        """

    def learned_origin(self) -> dict[str, str]:
        """As `origin`, with a digest. Raises UserError for weights that were only drawn."""
        origin = self.origin()
        if not origin.get("digest"):
            raise UserError(f"{type(self).__name__} holds nothing that was learned: take Pretrained or Trained")
        return origin


class Pretrained(Backbone):
    """A Qwen2.5-VL or Qwen3-VL checkpoint.

    `path` is a folder as the hub has it, for which no network is needed, or a hub id, which is taken from the cache
    where the hub cannot be reached. `revision` pins a hub commit. Raises UserError when it cannot be read, is of
    another architecture or lacks weights, and, for an export of fgvr's, for another pixel budget than it was trained
    with.
    """

    reloadable = True

    def __init__(self, path: str, revision: str | None = None) -> None:
        self.path, self.revision = str(Path(path).expanduser()) if path.startswith("~") else path, revision

    def check(self) -> None:
        self.config()

    def go_on_from(self, checkpoint: Path | None) -> None:
        then = None if checkpoint is None else began_with(checkpoint)
        if checkpoint is not None and then is not None:
            self.find_again(then["digest"], Path(then["path"]), checkpoint)

    def keep(self, run: Path) -> None:
        if Path(self.path).is_dir():  # the hub, and its cache on this machine, stay
            keep_folder(Path(self.path), run)

    def find_again(self, digest: str, was: Path, near: Path) -> None:
        """Of a folder that holds other weights or is gone: takes the one that holds those of the digest, near a run.

        Raises UserError when the folder is gone and no other is found.
        """
        folder = Path(self.path)
        if not was.is_absolute() or (folder.is_dir() and folder_digest(folder) == digest):
            return
        found = find_folder(digest, was, near)
        if found is not None:
            log.info("The model that the run began with is not in %s any more: it is read from %s.", folder, found)
            self.path = str(found)
        elif not folder.is_dir():
            raise UserError(
                f"{run_of(near) or near} began with the model in {was}, which is not there: "
                f"{how_to_put_back(near, 'under any name or as a link')}."
            )

    def config(self) -> PretrainedConfig:
        if (Path(self.path) / ADAPTER).is_file():  # which transformers would lay over whatever weights lie beside it
            raise UserError(
                f"the model must be whole, but {self.path!r} holds an adapter ({ADAPTER}): merge it into its base "
                "first (`python -m fgvr export --adapter merge`), or take the adapter's files out of the folder"
            )
        with self._readable("config.json"):
            config = AutoConfig.from_pretrained(self._place.source, revision=self._place.revision)
        if config.model_type not in FAMILIES:
            raise UserError(
                f"the model's type must be one of {', '.join(FAMILIES)}, got {config.model_type!r} in {self.path!r}"
            )
        return config

    def build(self, attention: Attention) -> PreTrainedModel:
        self.config()
        self.origin()  # remembered from now on: others may remove or replace the folder while a run goes on
        with self._readable("weights"), bars_on_terminals_alone():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                self._place.source,
                revision=self._place.revision,
                dtype=torch.float32,
                attn_implementation=attention,
                ignore_mismatched_sizes=True,  # they are refused by name below
                output_loading_info=True,
            )
            model, found = loaded
        lacking = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
        if lacking:
            raise UserError(
                f"the checkpoint {self.path!r} must hold every weight of the model, but {len(lacking)} are missing or "
                f"of another shape, such as {lacking[:3]}: they would start from random values; get a whole copy"
            )
        return model

    def rows(self) -> WeightSource | None:
        self.config()
        self.origin()  # remembered from now on, as `build` does
        with self._readable("weights"):
            index = self._file(f"{SAFETENSORS}.index.json")
            names = [SAFETENSORS] if index is None else sorted({*json.loads(index.read_text())["weight_map"].values()})
            found = [self._file(name) for name in names]
        whole = [file for file in found if file is not None]
        return WeightFiles(whole, self.path) if len(whole) == len(names) else None

    def _file(self, name: str) -> Path | None:
        """One of the model's own files; None where it has none of that name."""
        options = {"revision": self._place.revision, "_raise_exceptions_for_missing_entries": False}
        found = cached_file(self._place.source, name, **options)
        return Path(found) if found else None

    def processor(self, pixels: PixelBudget | None) -> Processor:
        budget = self._budget(pixels)
        with self._readable("tokenizer and image processor"):
            return Processor.from_folder(self._place.source, budget, revision=self._place.revision)

    def origin(self) -> dict[str, str]:
        return dict(self._origin)

    @cached_property
    def _origin(self) -> dict[str, str]:
        folder = Path(self.path)
        if folder.is_dir():
            found = {
                "name": folder.name,
                "path": str(folder.resolve()),
                "digest": folder_digest(folder),
                "revision": "",
            }
            card = folder / "README.md"
        else:
            self.config()
            commit = self._place.commit
            found = {"name": self.path, "path": self.path, "digest": commit, "revision": commit}
            card = self._place.readme()
        return found | {"license": _licence(card), "dtype": _precision(self.config())}

    def _budget(self, pixels: PixelBudget | None) -> PixelBudget:
        """The one asked for, or that of the training whose export this is: others' folders state no more than limits.

        Raises UserError when the two differ.
        """
        trained = getattr(self.config(), PIXELS, None)
        if trained is None:
            return pixels or PixelBudget()
        own = PixelBudget(**trained)
        refuse_other_pixels(pixels, own, self.path, f"or take {PIXELS} out of its config.json to train it for another")
        return own

    @cached_property
    def _place(self) -> Place:
        return place_of(self.path, self.revision)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            if "flash" not in str(error).lower():
                raise
            raise UserError(
                "attention flash_attention_2 needs flash-attn: pip install 'fgvr[flash]', or set policy.attention "
                "to auto"
            ) from error
        except UserError:
            raise
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"the model must be a checkpoint folder with a config.json or a hub id, but the {what} of "
                f"{self.path!r} "
                f"cannot be read: {str(error).splitlines()[0]}"
            ) from error


def refuse_other_pixels(given: PixelBudget | None, own: PixelBudget, trained: Path | str, otherwise: str = "") -> None:
    """Raises UserError for a budget that is not the one that the weights of `trained` have seen."""
    if given not in (None, own):
        raise UserError(
            f"the pixel budget must be the one that {trained} was trained with, but policy.pixels has "
            f"min={given.min} and max={given.max}: leave it out, or set min={own.min} and max={own.max}"
            f"{otherwise and ', ' + otherwise}"
        )


def _precision(config: PretrainedConfig) -> str:
    """The dtype that a checkpoint was saved in: a Qwen-VL says it of the whole or of its language model."""
    dtype = config.dtype or config.get_text_config().dtype
    return str(dtype or torch.float32).removeprefix("torch.")


def _licence(card: Path | None) -> str:
    if card is None or not card.is_file():
        return ""
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")), "")
