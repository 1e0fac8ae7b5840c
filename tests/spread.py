"""Small trainings whose steps several processes take together, or one alone, to be held against each other."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from conftest import sequenced, tiny_backbone, tiny_policy
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from ports import free_port
from preloaded import run_ranks
from prompted import REPLIES, Prompts
from prompted import Batches as PromptBatches
from scripted import Scripted
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from triplet_rollouts import TripletBatches, Triplets

from fgvr.callbacks import RolloutGeneration
from fgvr.data.collate import SFTCollate
from fgvr.judges import TaxonomyJudge
from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import Sharding, shard_policy, whole
from fgvr.modules import GRPO, SFT, TAPO, Optimizer, PolicyModule, SpeciaRL
from fgvr.rewards import Exact, Format, Term, WeightedSum
from fgvr.strategies import FSDP2Strategy
from fgvr.types import ReadRecord

ANSWERS = (
    "<answer>Azure Finch</answer>",
    "I cannot tell which of these two it is, so I name the commoner one: Amber Finch.",
    "An owl.",
    "Crimson-browed Heron",
    "<answer>Amber Finch</answer>",
)
QUIET: dict[str, Any] = {
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "logger": False,
}


@dataclass(frozen=True)
class Case:
    """A training of `steps` batches of the same five examples.

    `policy` and `options` are those of its config and of its module. With `first_has_all` the first process has all
    the examples, else each has every n-th. Triplets of the numbers in `lacking` have no negative. `tied` says that head
    and embeddings are one weight. `rates` are the optimizer's.
    """

    method: str
    policy: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    strategy: Mapping[str, Any] | None = field(default_factory=dict)  # of FSDP2Strategy; None is DDP
    family: str = "qwen2_5_vl"
    steps: int = 2
    first_has_all: bool = False
    lacking: tuple[int, ...] = ()
    tied: bool = False
    precision: str = "32-true"
    rates: Mapping[str, float] = field(default_factory=dict)


class Noted(PolicyModule):
    """Keeps the whole gradient of every step, and its loss."""

    gradients: list[dict[str, Tensor]]
    losses: list[float]

    def take_step(self) -> None:
        named = [(name, weight.grad) for name, weight in self.trained_policy.trainable() if weight.grad is not None]
        self.gradients.append({name: whole(gradient).clone() for name, gradient in named})
        super().take_step()

    def on_train_batch_end(self, *_: Any) -> None:
        self.losses.append(float(self.trainer.callback_metrics["loss"]))


class NotedSFT(Noted, SFT):
    pass


class NotedGRPO(Noted, GRPO):
    pass


class NotedTAPO(Noted, TAPO):
    pass


class NotedSpeciaRL(Noted, SpeciaRL):
    pass


class Written(Prompts):
    """Prompts with an answer each, in micro-batches of one or two."""

    share: tuple[int, int] = (0, 1)  # the first of the examples that this process has, and every which

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family = family

    def train_dataloader(self):
        policy, (start, every) = tiny_policy(self.family), self.share
        collate = SFTCollate(policy.processor.padding_token, 120, 128)
        mine = tuple(range(start, len(ANSWERS), every))
        items = [sequenced(policy, ANSWERS[i], seed=i) for i in mine]
        batches = [collate(items, ReadRecord(0, step, mine, tuple(map(str, mine)))) for step in range(3)]
        return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


class Asked(Prompts):
    share: tuple[int, int] = (0, 1)

    def train_dataloader(self):
        return DataLoader(PromptBatches(*self.share, self.steps), batch_size=None)


class AskedThrice(Triplets):
    share: tuple[int, int] = (0, 1)

    def train_dataloader(self):
        return DataLoader(TripletBatches(*self.share, self.steps, self.lacking, self.family), batch_size=None)


def module_of(case: Case) -> Noted:
    backbone = tiny_backbone(case.family)
    if case.tied:
        backbone = tied(backbone)
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84), **case.policy)
    shared: dict[str, Any] = {"schedule": "constant", "eps": 1e-3, "weight_decay": 0.01, "max_grad_norm": 0.5}
    optimizer = Optimizer(lr=1e-3, rates=dict(case.rates), **shared)
    if case.method == "sft":
        made: Any = NotedSFT(config, optimizer)
    else:
        options = {"sampling": Sampling(group_size=4, max_new_tokens=24), "micro_batch_tokens": 150}
        reward = WeightedSum({"exact": Term(Exact()), "format": Term(Format(), 0.5)})
        kind: Any = {"grpo": NotedGRPO, "tapo": NotedTAPO, "speciarl": NotedSpeciaRL}[case.method]
        learned_from = TaxonomyJudge() if case.method == "speciarl" else reward
        made = kind(config, learned_from, optimizer=optimizer, **options | dict(case.options))
    made.gradients, made.losses = [], []
    return made


def tied(backbone: Any) -> Any:
    plain = backbone.build

    def build(attention: Any) -> Any:
        model = plain(attention)
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
        return model

    backbone.build = build
    return backbone


def data_of(case: Case) -> Written | Asked | AskedThrice:
    if case.method == "sft":
        return Written(case.family)
    if case.method == "tapo":
        return AskedThrice(dict.fromkeys(case.lacking, ("negative",)), case.family)
    return Asked()


def train(case: Case, callbacks: tuple[Callback, ...] = (), **options: Any) -> tuple[Noted, dict[str, Any]]:
    """The trained module, and what came of it: losses, the gradients of each step, the weights at the end."""
    torch.manual_seed(0)
    made, data = module_of(case), data_of(case)
    updates = case.options.get("updates", 1) * case.options.get("epochs", 1)
    rollouts = [] if case.method == "sft" else [RolloutGeneration(Scripted(REPLIES))]
    given: dict[str, Any] = {"devices": 1, "precision": case.precision} | options
    trainer = Trainer(
        accelerator="cpu", max_steps=case.steps * updates, use_distributed_sampler=False,
        callbacks=[*rollouts, *callbacks], **QUIET | given,
    )  # fmt: skip
    rank, world = trainer.global_rank, trainer.world_size
    data.share = ((0, 1) if rank == 0 else (5, 1)) if case.first_has_all else (rank, world)
    data.steps = case.steps
    trainer.fit(made, datamodule=data)
    weights = {name: whole(value).detach().clone() for name, value in made.trained_policy.named_parameters()}
    done = list(getattr(made, "_done", ()))  # tokens and examples of the steps since the first
    return made, {"losses": made.losses, "gradients": made.gradients, "weights": weights, "done": done}


def strategy_of(case: Case) -> Any:
    return DDPStrategy(gradient_as_bucket_view=True) if case.strategy is None else FSDP2Strategy(**case.strategy)


def train_together(cases: Mapping[str, Case], world: int, folder: Path) -> dict[str, dict[str, Any]]:
    """What each training comes to where `world` processes of one group go through all of them, by name."""
    return work_together(_train_all, world, folder, dict(cases))[0]


def _train_all(rank: int, world: int, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    return {name: train(case, strategy=strategy_of(case), devices=world)[1] for name, case in cases.items()}


def work_together(work: Callable[..., Any], world: int, folder: Path, *given: Any) -> list[Any]:
    """What each of `world` processes of one group gives back from `work(rank, world, *given)`, plain data and tensors.

    `work` must be found by its name in a module, and `given` be sent to another process.
    """
    run_ranks(_take_part, (world, free_port(), folder, work, given), world)
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(world)]


def _take_part(rank: int, world: int, port: int, folder: Path, work: Callable[..., Any], given: Any) -> None:
    shared = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in shared.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "spread"}
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.save(work(rank, world, *given), folder / f"found{rank}.pt")
    dist.destroy_process_group()


def policy_of(
    family: str = "qwen2_5_vl", world: int = 0, precision: torch.dtype | None = None, **options: Any
) -> Policy:
    """A tiny policy, in parts where there are several processes."""
    torch.manual_seed(3)
    backbone = tiny_backbone(family)
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84), **options)
    policy = Policy(config, backbone.processor(config.pixels))
    if world:
        shard_policy(policy, Sharding(init_device_mesh("cpu", (world,)), precision))
    return policy


def meet(rank: int, world: int) -> None:
    if not dist.is_initialized():
        dist.init_process_group("gloo", rank=rank, world_size=world)


class Counted(TorchDispatchMode):
    """Counts what the processes send each other."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def gathers_and_reduces(self) -> tuple[int, int]:
        return self.counts["c10d._allgather_base_"], self.counts["c10d._reduce_scatter_base_"]
