import math
from typing import Any

import pytest
import torch
from conftest import sequenced, tiny_backbone, tiny_policy
from leaving import leave_group_at_exit
from lightning.pytorch import LightningModule, Trainer
from preloaded import ranks_strategy
from torch.utils.data import DataLoader, Dataset

from fgvr.data.collate import SFTCollate
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, PolicyConfig
from fgvr.modules import SFT, Optimizer
from fgvr.types import ReadRecord, SFTBatch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
ANSWERS = (
    "<answer>Azure Finch</answer>",
    "Jade Owl",
    "<answer>Crimson-browed Heron</answer> indeed",
    "Heron",
    "<answer>Amber Finch</answer>",
)


class Batches(Dataset):
    """Three global batches of five examples; each rank gets every `world`-th, cut by the given token budget."""

    def __init__(self, rank: int, world: int, micro_batch_tokens: int):
        policy = tiny_policy()
        collate = SFTCollate(policy.processor.padding_token, micro_batch_tokens, 128)
        self.batches: list[SFTBatch] = []
        for step in range(3):
            items = [sequenced(policy, answer, seed=7 * step + i) for i, answer in enumerate(ANSWERS)]
            mine = tuple(range(rank, len(items), world))
            self.batches.append(collate([items[i] for i in mine], ReadRecord(0, step, mine, tuple(map(str, mine)))))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> SFTBatch:
        return self.batches[index]


class Fed(SFT):
    """SFT that brings its own batches, so that nothing but the module is under test."""

    micro_batch_tokens, poison = 10_000, False
    batches: list[SFTBatch] | None = None

    def on_fit_start(self) -> None:
        leave_group_at_exit()

    def take_step(self) -> None:
        if self.poison and self.global_step == 1:
            (first, *_) = (p.grad for _, p in self.trained_policy.trainable() if p.grad is not None)
            first.fill_(torch.nan)
        super().take_step()

    def train_dataloader(self):
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(self.batches or Batches(rank, world, self.micro_batch_tokens), batch_size=None)  # pyright: ignore[reportArgumentType]


def fit(module: LightningModule, **options: Any) -> dict[str, torch.Tensor]:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"devices": 1, **options},
    )
    trainer.fit(module)
    return {name: value.clone() for name, value in module.state_dict().items()}


def module(micro_batch_tokens: int = 10_000, **options) -> Fed:
    config = PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84), **options)
    fed = Fed(config, Optimizer(lr=1e-3, schedule="constant", weight_decay=0.01, eps=1e-3))
    fed.micro_batch_tokens = micro_batch_tokens
    return fed


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_micro_batches_do_not_change_the_update():
    assert_same(fit(module()), fit(module(micro_batch_tokens=60)))


@pytest.mark.filterwarnings("ignore:.*You are using.*DDP.*")
def test_two_ranks_make_the_update_of_one():
    shares = [len(Batches(rank, 2, 120).batches[0].micro_batches) for rank in range(2)]
    assert shares == [2, 1]  # so that one rank must wait for the other, adding nothing
    alone = fit(module(micro_batch_tokens=120))
    pair = module(micro_batch_tokens=120)
    pair.configure_model()  # here too, so that the trained weights have somewhere to come back to
    together = fit(pair, devices=2, strategy=ranks_strategy())
    assert_same(alone, together)


def test_a_non_finite_gradient_skips_its_step_and_is_counted():
    poisoned = module()
    poisoned.poison = True
    weights = fit(poisoned)
    assert poisoned.skipped.tolist() == [1, 0]
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_too_many_skipped_steps_stop_the_run():
    poisoned = module()
    poisoned.poison = True
    poisoned.optimizer_config = Optimizer(lr=1e-3, max_skipped=0)
    with pytest.raises(UserError, match="gradients must be finite"):
        fit(poisoned)


def test_training_lowers_the_loss():
    fed = module()
    fit(fed)
    first = -fed.trained_policy(Batches(0, 1, 10_000).batches[0].micro_batches[0]).mean()
    untrained = -tiny_policy()(Batches(0, 1, 10_000).batches[0].micro_batches[0]).mean()
    assert first.item() < untrained.item()


def test_only_the_adapters_move_under_lora():
    fed = module(lora=LoRA(rank=2, alpha=4.0))
    fit(fed)
    fresh = module(lora=LoRA(rank=2, alpha=4.0))
    fresh.configure_model()
    begun = fresh.trained_policy.state_dict()
    moved = {n for n, p in fed.trained_policy.state_dict().items() if not torch.equal(p, begun[n])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_a_batch_of_which_nothing_is_usable_changes_no_weight():
    empty = SFTCollate(0, 100, 100)([], ReadRecord(0, 0, (), ()))
    assert (empty.micro_batches, empty.target_tokens, empty.examples) == ([], 0, 0)
    fed, fresh = module(), module()
    fed.batches = [empty]
    fresh.configure_model()
    assert_same(fit(fed), dict(fresh.state_dict()))


def test_schedule_by_hand():
    # 2 warm-up steps of 10: 1/2, 2/2; the cosine is half-way at step 6 = 2 + 8 / 2, so (1 + cos(pi / 2)) / 2 = 0.5
    config = Optimizer(lr=1.0, schedule="cosine", warmup=2, floor=0.2)
    assert config.scale(0, 10) == 0.5
    assert config.scale(1, 10) == 1.0
    assert config.scale(6, 10) == pytest.approx(0.2 + 0.8 * 0.5)
    assert config.scale(10, 10) == pytest.approx(0.2)
    assert Optimizer(lr=1.0, schedule="constant").scale(9, 10) == 1.0
    straight = Optimizer(lr=1.0, schedule="linear", warmup=2, floor=0.2)
    assert [straight.scale(step, 10) for step in (0, 2, 6, 10)] == pytest.approx([0.5, 1.0, 0.6, 0.2])


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0},
        {"warmup": -1},
        {"floor": 2.0},
        {"max_grad_norm": 0.0},
        {"weight_decay": -0.1},
        {"eps": -1e-8},
        {"betas": (0.9, 1.0)},
        {"max_skipped": -1},
        {"lr": math.nan},
    ],
)
def test_a_bad_optimiser_setting_is_refused(bad):
    with pytest.raises(UserError, match=rf"^optimizer\.{next(iter(bad))} (must be|is a share)"):
        Optimizer(**bad)
