"""What a strategy of which each process holds some rows of the weights saves and loads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from fgvr.checkpoints.format import open_checkpoint
from fgvr.checkpoints.sharded import StoredTensor, first_row, read_whole
from fgvr.errors import UserError
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.strategies.checkpoint_io import WholeCheckpointIO, load_together
from fgvr.strategies.saving import Background, begin_together, complete_together


class ShardedState(ModelParallelStrategy):
    """Checkpoints to which each process adds the rows it holds, and of which it reads those it will hold.

    They load on any number of processes, and under other strategies, whose checkpoints load here. Lightning's own of
    this strategy go past the CheckpointIO and are pickles.
    """

    @property
    def writes_rows(self) -> bool:
        """Whether this process's rows go into checkpoints: of several copies of the model the first one's do."""
        names = self.device_mesh.mesh_dim_names or ()
        return "replicate" not in names or self.device_mesh.get_local_rank("replicate") == 0

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The weights as they lie: rows as DTensors, under the names that they have without the strategy."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Its state as it lies, by the numbers of its parameters, as any torch optimizer gives it."""
        return (optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer).state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        state = {name: laid_out(value, own.get(name), name) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            like = dict(zip(numbers, parameters, strict=True))
            state = {
                number: {name: _as_parameter(value, like[number], name) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """A collective call. `storage_options` may be a `Background`, which is then to be finished."""
        ranks = Ranks(self.world_size, of_all_ranks)
        saving = begin_together(checkpoint, Path(filepath), ranks, self.global_rank)
        if isinstance(storage_options, Background):
            ranks.agree(lambda: storage_options.begin(saving))
        else:
            complete_together(saving, saving.write, ranks)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """A collective call: each process compares the hashes of some files, and all take the same checkpoint."""
        opening = partial(open_checkpoint, rank=self.global_rank, world=self.world_size)
        return load_together(Path(checkpoint_path), opening)


def writes_checkpoints(strategy: Strategy) -> bool:
    """Whether this process writes anything of a checkpoint."""
    return strategy.is_global_zero or (isinstance(strategy, ShardedState) and strategy.writes_rows)


def refuse_other_savers(strategy: Strategy, in_background: bool) -> None:
    """Raises UserError where a plugin stands in for the checkpoints of fgvr and something needs these."""
    if isinstance(strategy.checkpoint_io, WholeCheckpointIO):
        return
    for what, needs in (("run.save_in_background", in_background), ("fsdp2", isinstance(strategy, ShardedState))):
        if needs:
            raise UserError(
                f"{what} must have the checkpoints that fgvr writes, but trainer.plugins has "
                f"{type(strategy.checkpoint_io).__name__} in their place: leave one of the two out"
            )


def laid_out(value: Any, like: Any, name: str) -> Any:
    """A tensor of a checkpoint as one of the model's own lies: of one that is sharded this process's rows alone.

    Raises UserError when it has another shape.
    """
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return read_whole(value)
    if value.shape != like.shape:
        raise UserError(
            f"a checkpoint must fit the model, but {name} is {list(value.shape)} there and {list(like.shape)} here: "
            "resume with the configuration it was made with"
        )
    if like.dim() == 0:
        return value
    result: Any = torch.empty_like(like, dtype=value.dtype, requires_grad=False)
    own, first = result.to_local(), first_row(like)
    last = first + len(own)
    own.copy_(value.read(first, last) if isinstance(value, StoredTensor) else value[first:last])
    return result


def _as_parameter(value: Any, parameter: Tensor, name: str) -> Any:
    """What an optimizer keeps of a parameter lies as that does, if it is of its shape; a count of steps is not."""
    kept_by_rows = isinstance(value, Tensor | StoredTensor) and value.shape == parameter.shape
    return laid_out(value, parameter, name) if kept_by_rows else read_whole(value)
