"""A policy's model taken apart on the meta device: its layers by kind, and how many weights are where and trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from fgvr.models.attention import plan_attention
from fgvr.models.outline import outline
from fgvr.models.policy import PolicyConfig
from fgvr.models.weight_names import ADAPTERS, parts_of

ROUNDED = (nn.Linear, nn.Conv3d)  # layers whose weights autocast rounds
Kinds = list[tuple[nn.Module, int]]  # layers that are alike, one of them and how many there are


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The outline of what is trained, counted and traced; made once for whatever is asked about it."""

    config: PretrainedConfig
    policy: PolicyConfig

    @cached_property
    def base(self) -> Any:
        model = outline(self.config, self.policy.freeze, self.policy.lora)
        base = model if self.policy.lora is None else model.get_base_model()
        plan_attention(base.model.language_model)
        return base

    @cached_property
    def _known(self) -> dict[Hashable, Any]:
        return {}

    def once(self, question: Hashable, find: Callable[[], Any]) -> Any:
        """What `find` finds out of the model, kept for whoever asks this question again."""
        if question not in self._known:
            self._known[question] = find()
        return self._known[question]

    def under(self, policy: PolicyConfig) -> Anatomy:
        """The same model under another policy; what is known of it is kept for all that train the same weights.

        Raises UserError where adapters would lie on frozen weights.
        """
        other = repr((policy.freeze, policy.lora))
        alike = self if other == repr((self.policy.freeze, self.policy.lora)) else None
        alike = alike or self.once(("under", other), lambda: Anatomy(self.config, policy))
        _ = alike.base, alike._known  # so that both have them
        found = Anatomy(self.config, policy)
        vars(found).update({name: value for name, value in vars(alike).items() if name not in ("config", "policy")})
        return found

    @cached_property
    def weights(self) -> int:
        return count(self.base.parameters())

    @cached_property
    def trained(self) -> int:
        return count(x for x in self.base.parameters() if x.requires_grad)

    @cached_property
    def trained_in_full(self) -> int:
        """Trained weights that are no adapters'."""
        return count(x for name, x in self.base.named_parameters() if x.requires_grad and ADAPTERS not in name)

    @property
    def tower(self) -> Any:
        return self.base.model.visual

    @property
    def tower_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.tower.parameters())

    @cached_property
    def layers(self) -> Kinds:
        return _kinds(self.base.model.language_model.layers)

    @cached_property
    def blocks(self) -> Kinds:
        return _kinds(self.tower.blocks)

    @property
    def units(self) -> Kinds:
        """What a sharded model gathers at a time: layers, blocks and projectors."""
        return [*self.layers, *self.blocks, *((part, 1) for part in parts_of(self.base)["projector"])]

    @cached_property
    def largest(self) -> nn.Module:
        return max((unit for unit, _ in self.units), key=lambda unit: count(unit.parameters()))

    @cached_property
    def root(self) -> tuple[int, int]:
        """Weights that are in no unit, embeddings, head and last norm, and how many of them are trained."""
        own = [(count(unit.parameters()) * times, count_trained(unit) * times) for unit, times in self.units]
        return self.weights - sum(n for n, _ in own), self.trained - sum(n for _, n in own)

    @cached_property
    def linear(self) -> int:
        """Weights of the language layers' products."""
        return sum(count(products(unit)) * times for unit, times in self.layers)

    @cached_property
    def frozen_linear(self) -> int:
        """Frozen weights of the units' products, which a sharded model keeps in half precision."""
        return sum(count(x for x in products(unit) if not x.requires_grad) * times for unit, times in self.units)

    @cached_property
    def cast_when_trained(self) -> int:
        """Trained weights of products, of which autocast keeps a copy; the head casts its own in tiles."""
        own = [*self.units, (self.tower.patch_embed, 1)]
        return sum(count(x for x in products(unit) if x.requires_grad) * times for unit, times in own)

    @property
    def head(self) -> Tensor:
        return self.base.lm_head.weight


def _kinds(layers: Iterable[nn.Module]) -> Kinds:
    """One layer of each shape and tuning, with how many there are."""
    found: dict[tuple[Any, ...], nn.Module] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for layer in layers:
        kind = tuple((name, x.shape, x.requires_grad) for name, x in layer.named_parameters())
        found.setdefault(kind, layer)
        counts[kind] += 1
    return [(found[kind], times) for kind, times in counts.items()]


def products(module: nn.Module) -> list[Tensor]:
    """The weights that a module multiplies with, which autocast rounds."""
    return [part.weight for part in module.modules() if isinstance(part, ROUNDED)]


def count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def count_trained(module: nn.Module) -> int:
    return count(parameter for parameter in module.parameters() if parameter.requires_grad)
