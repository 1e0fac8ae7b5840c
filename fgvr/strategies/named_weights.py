"""A Trainer that loads the weights it is told to and no others, on a cluster as elsewhere."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector


class _NamedOnly(_CheckpointConnector):
    """Takes the given path, and without one the weights in memory.

    Lightning's takes an hpc_ckpt_N.ckpt that lies in the folder, under SLURM's variables, or one of a callback's.
    """

    def _select_ckpt_path(self, state_fn: Any, ckpt_path: Any, model_provided: bool, model_connected: bool) -> Any:
        return ckpt_path


def with_named_weights(trainer: Trainer) -> Trainer:
    """The trainer itself, once it loads only what it is given a path to, and never has its SLURM job requeued.

    Lightning's requeueing saves within the handler of a signal: ranks that are not at the same step wait for each other
    for ever, and forked workers write over the checkpoint.
    """
    trainer._checkpoint_connector = _NamedOnly(trainer)
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False
    return trainer
