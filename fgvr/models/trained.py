"""Policies out of checkpoints: rebuilt as they were, or as the backbone of a further run."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from fgvr.checkpoints.format import SUFFIX, DamagedCheckpoint, best_checkpoint, newest_checkpoint, open_checkpoint
from fgvr.checkpoints.kept import (
    BASE,
    CHECKPOINTS,
    began_with,
    digest_of,
    find_checkpoint,
    how_to_put_back,
    keep_checkpoint,
    run_of,
)
from fgvr.checkpoints.sharded import read_whole
from fgvr.errors import UserError
from fgvr.models.adapters import LoRA
from fgvr.models.attention_choice import AttentionSetting
from fgvr.models.backbone import FAMILIES, Attention, Backbone, Pretrained, refuse_other_pixels
from fgvr.models.policy import Policy, PolicyConfig
from fgvr.models.processor import PixelBudget, Processor
from fgvr.models.rows import WeightSource
from fgvr.models.trained_rows import TrainedWeights
from fgvr.ranks import Ranks, of_all_ranks

KIND = "checkpoint"  # of an origin: the base is a checkpoint of another run

log = logging.getLogger(__name__)


def read_policy(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint's description of its policy, and the weights. Raises UserError for another kind of checkpoint.

    `place` in the description is the checkpoint's own path: what it leaves out is looked for from there.
    """
    card, state, _ = read_run(path)
    return card, state


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """As `read_policy`, and the run's settings as the checkpoint keeps them: empty where no config started it."""
    checkpoint = _of_policy(path)
    settings = checkpoint.get("fgvr", {}).get("config", {})
    return checkpoint["fgvr_policy"], read_whole(_weights_of(checkpoint)), settings


def _weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    weights = checkpoint["state_dict"].items()
    return {name.removeprefix("policy."): value for name, value in weights if name.startswith("policy.")}


def _of_policy(path: Path, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """The checkpoint; rows that lie in shards are not read: those of the optimizer are not asked for.

    `rank` and `world` are those of `open_checkpoint`.
    """
    try:
        checkpoint = open_checkpoint(path, rank, world)
    except DamagedCheckpoint as damage:
        if path.parent.name != BASE:
            raise
        raise UserError(
            f"{damage} It is what the run began with: put a whole copy in its place, or remove it where the one that "
            "it was made from is still there."
        ) from damage
    if "fgvr_policy" not in checkpoint:
        raise UserError(f"the checkpoint must come from a fgvr run, but {path} does not describe a policy")
    return checkpoint | {"fgvr_policy": {**checkpoint["fgvr_policy"], "place": str(path)}}


@lru_cache(maxsize=8)
def _described(path: Path, digest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint's description of its policy, and its run's settings; read once for each `digest` of its state."""
    checkpoint = _of_policy(path)
    return checkpoint["fgvr_policy"], checkpoint.get("fgvr", {}).get("config", {})


class Rebuilt(Backbone):
    """The backbone a checkpoint speaks of: its own architecture and processor files; weights come from the checkpoint.

    Weights that were frozen are not in the checkpoint where they can be had again: they are loaded from where they came
    from, which is known by its digest wherever it is now. A checkpoint that holds every weight needs nothing else.
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.card = card
        self.reloadable = bool(card["reloadable"]) and not card.get("whole", False)

    def config(self) -> PretrainedConfig:
        values = json.loads(self.card["config"])
        if values.get("model_type") not in FAMILIES:
            raise UserError(
                f"the model's type must be one of {', '.join(FAMILIES)}, the checkpoint says "
                f"{values.get('model_type')!r}"
            )
        return AutoConfig.for_model(**values)

    def build(self, attention: Attention) -> PreTrainedModel:
        if self.reloadable:
            return self.base().build(attention)
        return AutoModelForImageTextToText.from_config(
            self.config(), dtype=torch.float32, attn_implementation=attention
        )

    def processor(self, pixels: PixelBudget | None) -> Processor:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in self.card["processor"].items():
                (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
            return Processor.from_folder(folder, pixels)

    def origin(self) -> dict[str, str]:
        return dict(self.card["origin"])

    def base(self) -> Backbone:
        """What gave the weights that the checkpoint leaves out. Raises UserError when it is gone or is another now."""
        then, place = self.card["origin"], self.card.get("place")
        if then.get("kind") == KIND:
            base: Backbone = Trained(str(_found(then, Path(place)) if place else then["path"]))
        else:
            base = Pretrained(then["path"], then["revision"] or None)
            if place:
                base.find_again(then["digest"], Path(then["path"]), Path(place))
        if base.origin()["digest"] != then["digest"]:
            raise UserError(
                f"the base model must be the one the run began with, but {then['path']} holds other weights now: "
                "put the old ones back"
            )
        return base


def _found(then: Mapping[str, str], near: Path) -> Path:
    """The checkpoint that a run began with, `then` its digest and path. Raises UserError when it is nowhere."""
    found = find_checkpoint(then["digest"], Path(then["path"]), near)
    if found is None:
        raise UserError(
            f"{run_of(near) or near} began with the weights of {then['path']}, which is not there or holds others now: "
            f"{how_to_put_back(near, f'under any name that ends in {SUFFIX}')}."
        )
    return found


def rebuild(card: Mapping[str, Any], state: Mapping[str, Tensor], attention: AttentionSetting = "sdpa") -> Policy:
    """The policy of a checkpoint, on the CPU in float32, in evaluation mode.

    `state` holds its weights, named as in the policy. Raises UserError when weights that were trained are missing.
    """
    pixels = PixelBudget(**card["pixels"])
    lora = None if card["lora"] is None else LoRA(**card["lora"])
    backbone = Rebuilt(card)
    policy = Policy(PolicyConfig(backbone, pixels, lora=lora, attention=attention), backbone.processor(pixels))
    own = policy.state_dict()
    if wrong := sorted(name for name, value in state.items() if name in own and own[name].shape != value.shape):
        shapes = f"{tuple(state[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}"
        raise UserError(
            f"a checkpoint must fit the model it describes, but {len(wrong)} of its weights have another shape, such "
            f"as {wrong[0]} with {shapes}: it is damaged, or another model's"
        )
    loaded = policy.load_state_dict(dict(state), strict=False)
    needed = set(card["trained"]) if backbone.reloadable else set(policy.state_dict())
    lacking = sorted(needed & set(loaded.missing_keys))
    if lacking or loaded.unexpected_keys:
        raise UserError(
            "a checkpoint must fit the model it describes, but weights such as "
            f"{(lacking or loaded.unexpected_keys)[:3]} are {'missing' if lacking else 'left over'}: it is damaged or "
            "of another version"
        )
    return policy.eval()


class Trained(Backbone):
    """What another run has learned: the weights of one of its checkpoints, adapters merged, and its processor.

    `run` is that run's folder, or a checkpoint itself. Of a folder `checkpoint` takes the newest whole one ("last") or
    the one that its best.json names ("best"). Raises UserError when it is missing or damaged, and for another pixel
    budget than it was trained with; never before it is asked for something.
    """

    reloadable = True

    def __init__(self, run: str, checkpoint: Literal["last", "best"] = "last") -> None:
        self.run, self.checkpoint, self._told = run, checkpoint, False
        self._resumed: Path | None = None
        self._kept: Path | None = None

    def go_on_from(self, checkpoint: Path | None) -> None:
        if checkpoint is not None and began_with(checkpoint) is not None:
            self._resumed = checkpoint

    @cached_property
    def path(self) -> Path:
        """The checkpoint that is meant, looked for once: the run that it belongs to may be going on.

        Of a run that goes on it is the one which that run began with. Where that is gone, a checkpoint of the run's own
        that holds every weight stands in for it: its weights are about to be loaded anyway.
        """
        if self._resumed is None:
            return self._meant()
        then = began_with(self._resumed)
        assert then is not None
        try:
            return _found(then, self._resumed)
        except UserError:
            if _described(self._resumed, digest_of(self._resumed))[0]["whole"]:
                return self._resumed
            raise

    def keep(self, run: Path) -> None:
        """Has the checkpoint, and those that it in turn takes frozen weights from, in the folder of `run` as well."""
        if self.stands_in:
            return
        self._kept = keep_checkpoint(self.path, run)
        needed = Rebuilt(self.card)
        if needed.reloadable:
            needed.base().keep(run)

    def _meant(self) -> Path:
        folder = Path(self.run).absolute()
        if folder.suffix == SUFFIX:
            if not folder.exists():
                raise UserError(
                    f"The run starts from the checkpoint {self.run}, which is not there: put it back, or start from "
                    "another."
                )
            return folder
        if next(folder.glob(f"{CHECKPOINTS}/[!.]*{SUFFIX}"), None) is None:
            raise UserError(
                f"The run starts from the checkpoint of {self.run}, which is not there: {how_to_make(folder.name)}."
            )
        if self.checkpoint == "best":
            return best_checkpoint(folder / CHECKPOINTS, f"start from the last checkpoint of {self.run} instead")
        newest = newest_checkpoint(folder / CHECKPOINTS)
        if newest is None:
            raise UserError(
                f"The run starts from the checkpoint of {self.run}, but none that it holds is whole: restore one from "
                "a copy, or train that run again with --run.fresh true."
            )
        return newest

    @cached_property
    def card(self) -> dict[str, Any]:
        return _described(self.path, self._digest)[0]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings of that run as its checkpoint keeps them; empty where it was not started by a config."""
        return _described(self.path, self._digest)[1]

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.path)

    def check(self) -> None:
        _ = self.path

    def config(self) -> PretrainedConfig:
        return Rebuilt(self.card).config()

    def build(self, attention: Attention) -> PreTrainedModel:
        self._begin()
        with torch.random.fork_rng(devices=[]):
            policy = rebuild(*read_policy(self._kept or self.path), attention)
        model = policy.model if policy.config.lora is None else policy.model.merge_and_unload()
        return model.requires_grad_(True)

    def rows(self) -> WeightSource | None:
        lora = None if self.card["lora"] is None else LoRA(**self.card["lora"])
        rebuilt = Rebuilt(self.card)
        base = rebuilt.base().rows() if rebuilt.reloadable else None
        if (rebuilt.reloadable and base is None) or (lora is not None and lora.dora):
            return None
        self._begin()
        met = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if met else (0, 1)
        path = self._kept or self.path
        checkpoint = Ranks(world, of_all_ranks).agree(lambda: _of_policy(path, rank, world))
        return TrainedWeights(_weights_of(checkpoint), base, 1.0 if lora is None else lora.scale, str(path))

    def _begin(self) -> None:
        self.origin()  # remembered from now on: that run may remove the checkpoint while this one goes on
        if not self._told:
            self._told = True
            log.info("The policy starts from %s.", self.path)

    def processor(self, pixels: PixelBudget | None) -> Processor:
        own = PixelBudget(**self.card["pixels"])
        refuse_other_pixels(pixels, own, self.path)
        return Rebuilt(self.card).processor(own)

    def origin(self) -> dict[str, str]:
        return dict(self._origin)

    @property
    def stands_in(self) -> bool:
        return self._resumed is not None and self.path == self._resumed

    @cached_property
    def _origin(self) -> dict[str, str]:
        if self.stands_in:
            return self.card["origin"]
        then = None if self._resumed is None else began_with(self._resumed)
        was = str(self.path) if then is None else then["path"]
        return {**self.card["origin"], "kind": KIND, "path": was, "digest": self._digest}


def how_to_make(run: str) -> str:
    """What to do for a run of that name: the command, where the working folder holds a config for it."""
    found = Path("configs").rglob(f"{run}.yaml")
    config = min(found, key=lambda path: (len(path.parts), path), default=None)
    if config is None:
        return "train that run first, or start from another"
    return f"make it with python -m fgvr fit --config {config.as_posix()}"
