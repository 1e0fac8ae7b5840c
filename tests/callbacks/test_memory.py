from __future__ import annotations

import logging
from typing import Any

import pytest
from conftest import sequenced, tiny_backbone, tiny_policy
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from fgvr.callbacks import memory
from fgvr.callbacks.memory import MemoryEstimate, counted, spread_of, training_of
from fgvr.data.collate import SFTCollate
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig
from fgvr.models.footprint import Spread
from fgvr.modules import SFT
from fgvr.types import ReadRecord, SFTBatch


@pytest.mark.parametrize(
    ("trainer", "world", "expected"),
    [
        ({"strategy": "auto", "accelerator": "cpu", "precision": "32-true"}, 1, Spread()),
        ({"strategy": "ddp", "accelerator": "gpu", "precision": "bf16-mixed"}, 8, Spread(8, half=True, gpu=True)),
        ({"strategy": "fsdp2", "accelerator": "cpu"}, 4, Spread(4, 4)),
        (
            {
                "strategy": {
                    "class_path": "fgvr.strategies.FSDP2Strategy",
                    "init_args": {"replicate": 2, "shard": None, "offload": True, "prefetch": 2},
                },
                "accelerator": "cpu",
            },
            8,
            Spread(8, 4, offload=True, prefetch=2),
        ),
    ],
)
def test_a_strategy_says_who_shares_weights(trainer: dict[str, Any], world: int, expected: Spread):
    assert spread_of(trainer, world) == expected


def test_a_mesh_that_no_training_takes_is_not_reckoned_with():
    options = {"replicate": 4, "shard": 8}
    trainer = {"strategy": {"class_path": "fgvr.strategies.FSDP2Strategy", "init_args": options}}
    with pytest.raises(UserError, match="must be the 24 processes of the run, got 4 x 8: set shard to 6"):
        spread_of(trainer, 24)


@pytest.mark.parametrize("data", ["SFTData", "PromptData"])
def test_what_the_data_are_not_told_is_what_their_class_takes(data: str):
    """As the classes' signatures have it: 32 examples a step for packed ones, 16 prompts for groups."""
    config = {"data": {"class_path": f"fgvr.datamodules.{data}"}, "trainer": CONFIG["trainer"]}
    module = SFT(tiny_policy().config)
    found = training_of(module, config, 1, module.policy_config.backbone.config())
    assert found.batch == {"SFTData": 32, "PromptData": 16}[data]
    assert (found.micro_batch_tokens, found.row_tokens, found.eval_rows) == (8192, 512, 32)
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        training_of(module, config | {"data": {"init_args": {"batch_size": 0}}}, 1, found.config)


class Fed(SFT):
    """Brings one batch of its own."""

    def train_dataloader(self) -> DataLoader[SFTBatch]:
        policy = tiny_policy()
        collate = SFTCollate(policy.processor.padding_token, 4096, 128)
        batch = collate([sequenced(policy, "Heron", seed=0)], ReadRecord(0, 0, (0,), ("0",)))
        return DataLoader([batch], batch_size=None)  # pyright: ignore[reportArgumentType]


CONFIG = {
    "data": {"init_args": {"micro_batch_tokens": 4096, "batch_size": 1, "eval_batch_size": 4}},
    "trainer": {"accelerator": "cpu", "strategy": "auto", "precision": "32-true"},
}


def said_in_training(caplog: pytest.LogCaptureFixture) -> list[str]:
    module = Fed(PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84)))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=1,
        enable_model_summary=False,
        callbacks=[MemoryEstimate(CONFIG)],
        **quiet,
    )
    with caplog.at_level(logging.INFO, "fgvr.callbacks.memory"):
        trainer.fit(module)
    return [record.getMessage() for record in caplog.records if record.name == "fgvr.callbacks.memory"]


def test_weights_are_counted_as_people_say_it():
    assert [counted(number) for number in (1.8286e6, 9.9e7, 1e8, 8.29e9)] == [
        "1.83 million", "99.00 million", "0.10 billion", "8.29 billion",
    ]  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
class TestBeforeTheFirstStep:
    def test_the_log_says_what_a_rank_will_hold(self, caplog: pytest.LogCaptureFixture):
        (line,) = said_in_training(caplog)
        assert line.startswith("Memory of a rank, reckoned: ")
        for part in ("an update", "a sampling or validation", "weights", "AdamW", "gradients", "activations"):
            assert part in line

    def test_where_it_does_not_fit_it_says_what_would(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(memory, "device_room", lambda kind: 2.0**20)
        _, verdict, *advised = said_in_training(caplog)
        assert verdict.startswith("It does not fit into 0.0009766 GiB: ")
        assert any("gradient_checkpointing true" in line for line in advised)
        assert all(line.startswith("- ") for line in advised)
