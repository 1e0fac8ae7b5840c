"""FSDP2: training of models that no single device holds, each of which keeps a part of every weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.strategies.registry import _StrategyRegistry
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, StrategyRegistry
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule

from fgvr.errors import refuse_below
from fgvr.models.sharding import Sharding
from fgvr.strategies.mesh import shards_of
from fgvr.strategies.sharded_state import ShardedState

NAME = "fsdp2"


class FSDP2Strategy(ShardedState):
    """Each process keeps a part of every weight, its gradient and its optimiser state; layers are gathered in turn.

    `shard` processes share a copy of the model between them, and there are `replicate` copies; without `shard` it is
    as many as make up all processes. Processes that share a copy should be on one node, or joined by a fast network.
    With `offload` the parts lie in the host's memory and the optimiser steps there: slow, but a device then holds
    little more than a few layers and what they compute. `prefetch` layers are gathered ahead of the one that is
    computed: more hide a slow network better and take more memory, 0 hides nothing.

    Weights, gradients' sums and optimiser states are float32; under precision bf16-mixed layers are gathered and
    computed in bfloat16, and linear layers that are frozen are kept in it. Raises UserError for numbers that do not
    make up the processes there are.
    """

    def __init__(self, replicate: int = 1, shard: int | None = None, offload: bool = False, prefetch: int = 1) -> None:
        super().__init__(save_distributed_checkpoint=False)
        refuse_below(1, "strategy", replicate=replicate, **({} if shard is None else {"shard": shard}))
        refuse_below(0, "strategy", prefetch=prefetch)
        self.replicate, self.shard, self.offload, self.prefetch = replicate, shard, offload, prefetch

    @property
    def sharding(self) -> Sharding:
        """How a policy is to be spread over the processes, once these have met."""
        mixed = self.precision_plugin.precision == "bf16-mixed"
        return Sharding(self.device_mesh, torch.bfloat16 if mixed else None, self.offload, self.prefetch)

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    def setup_environment(self) -> None:
        self._setup_distributed()
        if self._device_mesh is None:
            self._device_mesh = self._mesh()
        assert self.lightning_module is not None
        self.lightning_module._device_mesh = self._device_mesh

    def _mesh(self) -> DeviceMesh:
        shard = shards_of(self.world_size, self.replicate, self.shard)
        kind = self.root_device.type
        if self.replicate == 1:
            return init_device_mesh(kind, (shard,), mesh_dim_names=("shard",))
        return init_device_mesh(kind, (self.replicate, shard), mesh_dim_names=("replicate", "shard"))

    def _get_process_group_backend(self) -> str:
        # parts in the host's memory are added up there: the gradient's norm
        on_gpu = self.offload and self.root_device.type == "cuda"
        return "cuda:nccl,cpu:gloo" if on_gpu else super()._get_process_group_backend()

    def model_to_device(self) -> None:
        """All but policies whose parts stay in the host's memory."""
        module = self.lightning_module
        assert module is not None
        staying = [(name, one) for name, one in module.named_children() if self.offload and isinstance(one, FSDPModule)]
        for name, _ in staying:
            setattr(module, name, None)
        module.to(self.root_device)
        for name, one in staying:
            setattr(module, name, one)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within it gradients are brought together within each copy of the model, not yet between the copies."""
        assert self.lightning_module is not None
        children = self.lightning_module.children() if self.replicate > 1 else ()
        roots = [one for one in children if isinstance(one, FSDPModule)]
        for root in roots:
            root.set_requires_all_reduce(False)
        try:
            yield
        finally:
            for root in roots:
                root.set_requires_all_reduce(True)

    @classmethod
    def register_strategies(cls, strategy_registry: _StrategyRegistry) -> None:
        strategy_registry.register(NAME, cls, description="weights, gradients and optimiser states in parts")


def is_supported(kind: Any) -> bool:
    """Whether a run can train with strategies of this class."""
    ours = isinstance(kind, type) and issubclass(kind, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy))
    return ours and not issubclass(kind, DeepSpeedStrategy)  # which is a DDPStrategy to Lightning


FSDP2Strategy.register_strategies(StrategyRegistry)
# gradients lie in the buffers that are sent: one copy of them less
StrategyRegistry.register(
    "ddp", DDPStrategy, description="a whole copy of the model on each device", override=True,
    gradient_as_bucket_view=True,
)  # fmt: skip
