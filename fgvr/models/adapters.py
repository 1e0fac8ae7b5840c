"""Which layers get low-rank adapters, checked against the model at hand, and what is trained of it, in one line."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.models.sharding import rows_kept
from fgvr.models.weight_names import ADAPTERS, refuse_unreadable

ALL_LINEAR = "all-linear"
VISION = r".*visual.*"  # names of the modules of tower and projector
HEADS = ("lm_head", "embed_tokens")
# what does in tower and projector the work of the language model's layers, under each family's names
COUNTERPARTS = {
    "q_proj": ("attn.qkv",),
    "k_proj": ("attn.qkv",),
    "v_proj": ("attn.qkv",),
    "o_proj": ("attn.proj",),
    "gate_proj": ("linear_fc1", "mlp.0"),
    "up_proj": ("linear_fc1", "mlp.0"),
    "down_proj": ("linear_fc2", "mlp.2"),
}


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685) on linear layers; everything else but `full` is frozen.

    `targets` are the last parts of layers' names, or one regular expression for whole names, such as
    `model\\.language_model\\.layers\\.2[0-9]\\..*`, or "all-linear"; each must fit a layer of the model. With
    `exclude_vision` the tower and projector get none; without it a name there means their layers of the same work too
    (qkv for q_proj, linear_fc1 for up_proj and so on). `alpha / rank` scales the update; with `rslora`
    `alpha / sqrt(rank)` does (arXiv 2312.03732). `dora` learns each output's magnitude beside its direction (arXiv
    2402.09353). `full` names what is trained whole beside the adapters: vision, projector, language, or weights and
    modules by patterns of their whole names.

    Raises UserError for a rank below 1, an alpha that is not above 0, a pattern that cannot be read, and for adapters
    on the head, which the chunked head does not see.
    """

    rank: int = 64
    alpha: float = 32.0
    targets: tuple[str, ...] | str = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    exclude_vision: bool = True
    rslora: bool = False
    dora: bool = False
    full: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", tuple(self.full))
        refuse_unreadable(self.full, "policy.lora.full")
        if not isinstance(self.targets, str):
            alone = list(self.targets) == [ALL_LINEAR]
            object.__setattr__(self, "targets", ALL_LINEAR if alone else tuple(self.targets))
        if self.rank < 1 or not self.targets:
            raise UserError(f"LoRA needs a rank of at least 1 and some targets, got rank={self.rank} and {self.named}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UserError(
                f"LoRA's alpha must be above 0, got {self.alpha}: it scales the adapters, and scaled by 0 they never "
                "train; half of the rank or twice the rank are usual"
            )
        if not isinstance(self.targets, str):
            if ALL_LINEAR in self.targets:
                raise UserError(f"LoRA's {ALL_LINEAR} stands for every linear layer, got {self.named}: give it alone")
            if not set(HEADS).isdisjoint(self.targets):
                raise UserError(
                    "LoRA targets must not hold lm_head or embed_tokens: the head is read directly, an adapter on it "
                    "would never train"
                )
            return
        try:
            re.compile(self.targets)
        except re.error as error:
            raise UserError(
                f"LoRA targets must be names or a regular expression, got {self.targets!r}: {error}"
            ) from error

    @property
    def named(self) -> str:
        return f"targets={self.targets if isinstance(self.targets, str) else list(self.targets)}"

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def plain(self) -> dict[str, Any]:
        """As values that a checkpoint can hold: `LoRA(**plain)` is the same again."""
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        return {**vars(self), "targets": targets, "full": list(self.full)}


def with_adapters(model: Any, lora: LoRA) -> PeftModel:
    """The model with adapters on the layers that `lora` means. Raises UserError for a target that means none."""
    layers = adapted_layers(model, lora)
    targets: Sequence[str] = layers
    if not isinstance(lora.targets, str):
        # by their last parts, which others who load the adapters look for, where these mean the same layers
        meant = [
            name for name, _ in model.named_modules() if _fits(name, lora.targets) and not _is_excluded(name, lora)
        ]
        targets = lora.targets if meant == layers else layers
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(targets),
        exclude_modules=VISION if lora.exclude_vision else None,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        lora_dropout=0.0,
        bias="none",
    )
    adapted = get_peft_model(model, config)
    draw_adapters(adapted, torch.initial_seed())
    return adapted  # pyright: ignore[reportReturnType]


@torch.no_grad()
def draw_adapters(model: nn.Module, seed: int) -> None:
    """Draws the adapters' first halves anew, each as `seed` and its own name say; the second ones are zeros.

    So they are the same in all processes of a run, however many there are and whatever they have drawn before.
    """
    for name, weight in model.named_parameters():
        if ".lora_A." in name and not weight.is_meta:
            number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
            # on the host, also where a Trainer has models built on its device
            whole = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
            nn.init.kaiming_uniform_(whole, math.sqrt(5), generator=torch.Generator().manual_seed(number))
            first, count = rows_kept(weight)
            own_rows(weight).copy_(whole[first : first + count])


def adapted_layers(model: Any, lora: LoRA) -> list[str]:
    """Names of the linear layers that get adapters, in the model's order; never the head.

    Raises UserError for a target that fits none of them, with the nearest names.
    """
    head = model.get_output_embeddings()
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head]
    open_ = [name for name in linear if not _is_excluded(name, lora)]
    if lora.targets == ALL_LINEAR:
        return open_
    if isinstance(lora.targets, str):
        chosen = [name for name in open_ if re.fullmatch(lora.targets, name)]
        if not chosen:
            raise UserError(
                f"LoRA's pattern must match the whole name of a linear layer, such as {open_[-1]}, but "
                f"{lora.targets!r} matches none: mend it, or give names as a list"
            )
        return chosen
    for target in lora.targets:
        if not any(_fits(name, (target,)) for name in open_):
            raise UserError(_no_such_layer(target, linear, open_))
    return [name for name in open_ if _fits(name, lora.targets) or _is_counterpart(name, lora.targets)]


def _is_excluded(name: str, lora: LoRA) -> bool:
    return lora.exclude_vision and re.fullmatch(VISION, name) is not None


def _is_counterpart(name: str, targets: Sequence[str]) -> bool:
    """Whether a layer of tower or projector does the work of one of the targets in the language model."""
    names = [other for target in targets for other in COUNTERPARTS.get(target, ())]
    return re.fullmatch(VISION, name) is not None and _fits(name, names)


def _fits(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _no_such_layer(target: str, linear: Sequence[str], open_: Sequence[str]) -> str:
    if any(_fits(name, (target,)) for name in linear):
        return (
            f"LoRA's target {target!r} lies in the vision tower alone, which gets no adapters: take it out of targets, "
            "or set lora.exclude_vision to false"
        )
    known = sorted({_last_part(name) for name in open_})
    near = difflib.get_close_matches(target, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "mend targets"
    return (
        f"each of LoRA's targets must end the name of a linear layer ({', '.join(known)}, or {ALL_LINEAR}), got "
        f"{target!r}: {hint}"
    )


def _last_part(name: str) -> str:
    """The end of a name that says what a layer is: a number alone does not."""
    *_, before, last = ["", *name.split(".")]
    return f"{before}.{last}" if last.isdigit() else last


def what_is_trained(model: nn.Module, lora: LoRA | None, parts: Mapping[str, Sequence[nn.Module]]) -> str:
    """How many weights are trained, their share, and where they are: by kind of layer, or by part of the model."""
    every = dict(model.named_parameters())
    trained = {name: parameter.numel() for name, parameter in every.items() if parameter.requires_grad}
    total = sum(parameter.numel() for parameter in every.values())
    count = sum(trained.values())
    line = f"Trained: {count:,} of {total:,} weights ({count / total:.2%})"
    if lora is None:
        return f"{line}, {_listed(_in_full_by_part(parts))}."
    layers = dict.fromkeys(name.partition(ADAPTERS)[0] for name in trained if ADAPTERS in name)
    kind = "DoRA" if lora.dora else "LoRA"
    where = "; ".join(_adapters_by_part(layers, model, parts))
    adapters = f"{line}, {kind} of rank {lora.rank}, scale {lora.scale:g}, on {len(layers)} layers: {where}"
    whole = {part: size for part, size in _in_full_by_part(parts).items() if size}
    return f"{adapters}; and in full {_listed(whole)}." if whole else f"{adapters}."


def _in_full_by_part(parts: Mapping[str, Sequence[nn.Module]]) -> dict[str, int]:
    """Trained weights of each part that are no adapters'."""
    return {
        part: sum(
            weight.numel()
            for module in modules
            for name, weight in module.named_parameters()
            if weight.requires_grad and ADAPTERS not in f".{name}"
        )
        for part, modules in parts.items()
    }


def _adapters_by_part(
    layers: Iterable[str], model: nn.Module, parts: Mapping[str, Sequence[nn.Module]]
) -> Iterator[str]:
    """ "vision 8 (attn.qkv 4, attn.proj 4)" for each part of the model that has some."""
    place = {id(module): part for part, roots in parts.items() for root in roots for module in root.modules()}
    modules = dict(model.named_modules())
    for part in parts:
        own = Counter(_last_part(name) for name in layers if place[id(modules[name])] == part)
        if own:
            yield f"{part} {own.total()} ({_listed(own)})"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
