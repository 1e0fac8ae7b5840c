from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fgvr.models import LoRA, PolicyConfig, TinyQwen
from fgvr.models.fitting import GIB, QUESTION, Training, advice, changes
from fgvr.models.footprint import Spread

IMAGE = 9  # tokens


def training(**options: Any) -> Training:
    backbone = TinyQwen(["."], hidden=64, layers=2, vision_hidden=64, vision_layers=2)
    policy = options.pop("policy", PolicyConfig(backbone, freeze=("vision", "projector")))
    return Training(
        **{
            "config": backbone.config(), "policy": policy, "spread": Spread(half=True, gpu=True),
            "pixels": IMAGE * 28 * 28, "micro_batch_tokens": 4096, "row_tokens": 512, "group": 0, "new_tokens": 20,
            "prompts": 64, "max_rows": 64, "eval_rows": 32, "eval_tokens": 20, "kl": False, "masked": True,
        } | options
    )  # fmt: skip


class TestMicroBatches:
    def test_packed_rows_fill_the_budget_with_examples(self):
        (rows, again) = training().updates()
        example = IMAGE + QUESTION + 20
        assert (rows.rows, rows.width, rows.group) == (8, 512, 0)
        assert rows.images == 4096 // example
        assert rows.targets == rows.images * 20
        assert rows == again, "a step of 64 examples has several"

    def test_an_example_longer_than_a_row_widens_it(self):
        (rows, _) = training(pixels=1000 * 28 * 28).updates()
        assert (rows.rows, rows.width) == (3, 1000 + QUESTION + 20)

    def test_without_padding_there_is_one_row(self):
        assert training(masked=False).updates()[0].rows == 1

    def test_a_micro_batch_holds_whole_groups(self):
        (rows, _) = training(group=8).updates()
        width = IMAGE + QUESTION + 8 * 20
        assert (rows.rows, rows.width, rows.prompt, rows.targets) == (4096 // width, width, IMAGE + QUESTION, 15 * 160)
        assert rows.images == 0, "the frozen tower's features are carried along"

    def test_a_group_beyond_the_budget_is_one_of_its_own(self):
        (rows, _) = training(group=8, new_tokens=1000).updates()
        assert (rows.rows, rows.width) == (1, IMAGE + QUESTION + 8000)

    def test_few_prompts_are_one_micro_batch(self):
        assert [rows.rows for rows in training(group=8, prompts=2).updates()] == [2]


def test_what_is_written_is_validation_and_sampling():
    (answers,) = training().written()
    assert (answers.prompts, answers.group, answers.longest) == (32, 1, 20)
    _, sampled = training(group=8, max_rows=20).written()
    assert (sampled.prompts, sampled.group) == (2, 8)
    _, sampled = training(group=8, max_rows=4).written()
    assert (sampled.prompts, sampled.group) == (1, 8), "a whole group at the least"


class TestAdvice:
    def test_none_where_it_fits(self):
        assert advice(training(), GIB) == []

    def test_each_setting_says_what_it_saves(self):
        tight = training(group=8)
        said = advice(tight, tight.footprint().peak - 2**20)
        assert any("gradient_checkpointing true" in line and "which fits" in line for line in said)
        assert any("micro_batch_tokens 2048" in line for line in said)
        assert not any("together" in line for line in said)

    def test_where_no_setting_is_enough_all_are_put_together(self):
        assert "all of these together" in advice(training(group=8), 2**20)[-1]
        assert "too much too" in advice(training(group=8), 2**20)[-1]

    def test_a_setting_that_is_on_is_not_named_again(self):
        backbone = training().policy.backbone
        policy = PolicyConfig(backbone, lora=LoRA(rank=4), gradient_checkpointing=True)
        named = [what for what, _ in changes(training(policy=policy, spread=Spread(8, 8, offload=True)))]
        assert not any(part in what for what in named for part in ("lora", "checkpointing", "fsdp2", "offload"))

    def test_ddp_is_told_of_shards_and_shards_of_the_host(self):
        eight = replace(training(), spread=Spread(8, half=True, gpu=True))
        assert "trainer.strategy fsdp2" in [what for what, _ in changes(eight)]
        sharded = replace(training(), spread=Spread(8, 8, half=True, gpu=True))
        assert "trainer.strategy.init_args.offload true" in [what for what, _ in changes(sharded)]


@pytest.mark.parametrize("setting", ["gradient_checkpointing", "micro_batch_tokens", "max_rows"])
def test_no_change_takes_more(setting: str):
    before = training(group=8, max_rows=512)
    ((_, changed),) = [(what, one) for what, one in changes(before) if setting in what]
    assert changed.footprint().peak <= before.footprint().peak
