from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fgvr.models import LoRA, PolicyConfig, TinyQwen
from fgvr.models.fitting import DRIVER, GIB, QUESTION, SPARE, Training, advice, changes, usable, verdict
from fgvr.models.footprint import Spread

IMAGE = 9  # tokens


def training(**options: Any) -> Training:
    backbone = TinyQwen(["."], hidden=64, layers=2, vision_hidden=64, vision_layers=2)
    policy = options.pop("policy", PolicyConfig(backbone, freeze=("vision", "projector")))
    return Training(
        **{
            "config": backbone.config(), "policy": policy, "spread": Spread(half=True, gpu=True),
            "pixels": IMAGE * 28 * 28, "micro_batch_tokens": 4096, "row_tokens": 512, "group": 0, "new_tokens": 20,
            "batch": 64, "max_rows": 64, "eval_rows": 32, "eval_tokens": 20, "kl": False, "masked": True,
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
        assert [rows.rows for rows in training(group=8, batch=2).updates()] == [2]


def test_what_is_written_is_validation_and_sampling():
    (answers,) = training().written()
    assert (answers.prompts, answers.group, answers.longest) == (32, 1, 20)
    _, sampled = training(group=8, max_rows=20).written()
    assert (sampled.prompts, sampled.group) == (2, 8)
    _, sampled = training(group=8, max_rows=4).written()
    assert (sampled.prompts, sampled.group) == (1, 8), "a whole group at the least"


def test_a_batch_is_shared_among_the_ranks():
    assert training(batch=16, spread=Spread(8, 8)).prompts == 2
    assert training(batch=17, spread=Spread(8, 8)).prompts == 3
    assert training(batch=4, spread=Spread(8, 8)).prompts == 1


def room_for(one: Training, left: float) -> float:
    """Bytes of a device of which so many can be used."""
    return left / (1 - SPARE) + DRIVER


class TestVerdict:
    def test_the_drivers_part_and_a_tenth_are_kept_out(self):
        assert usable(training(), 11 * GIB) == pytest.approx(9 * GIB)
        assert usable(training(spread=Spread()), 10 * GIB) == pytest.approx(9 * GIB), "a CPU has no driver"
        assert usable(training(), GIB / 2) == 0

    @pytest.mark.parametrize(
        ("share", "said"),
        [
            (1.01, "It fits into "),
            (0.99, "It barely fits into "),
            (0.91, "It barely fits into "),
            (0.89, "It does not fit into "),
        ],
    )
    def test_it_fits_barely_fits_or_does_not(self, share: float, said: str):
        tight = training(group=8)
        room = room_for(tight, tight.footprint().peak * share)
        assert verdict(tight, room).startswith(said)
        assert bool(advice(tight, room)) == (share < 1), "what is advised keeps to the same rule"


class TestAdvice:
    def test_none_where_it_fits(self):
        assert advice(training(), 3 * GIB) == []

    def test_each_setting_says_what_it_saves(self):
        tight = training(group=8)
        said = advice(tight, room_for(tight, tight.footprint().peak - 2**20))
        assert any("gradient_checkpointing true" in line and "which fits" in line for line in said)
        assert any("model.init_args.micro_batch_tokens 2048" in line for line in said)
        assert not any("together" in line for line in said)

    def test_where_no_setting_is_enough_those_that_save_are_put_together_by_name(self):
        *alone, together = advice(training(group=8), 2**20)
        assert "together: " in together
        assert together.endswith("which is too much too")
        assert "gradient_checkpointing true and model.init_args.micro_batch_tokens 2048" in together
        assert len(alone) > 1

    @pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
    @pytest.mark.parametrize("options", [{"group": 8}, {}, {"group": 8, "kl": True, "spread": Spread(8)}], ids=str)
    def test_what_is_put_together_is_less_than_the_best_alone(self, options: dict[str, Any], share: float):
        tight = training(**options)
        peak = tight.footprint().peak
        alone = [change for change in changes(tight) if change.peak < peak]
        room = peak * share / (1 - SPARE) + DRIVER * tight.spread.gpu
        said = advice(tight, room)
        assert len(said) - len(alone) == ("together" in said[-1])
        if "together" in said[-1]:
            least = min(change.peak for change in alone)
            assert float(said[-1].partition("together: ")[2].split()[0]) <= round(least / GIB, 3)
            assert least > peak * share, "one alone would have been enough"
            assert ("which fits" in said[-1]) != ("too much" in said[-1])

    def test_a_setting_that_saves_nothing_is_not_put_together_with_others(self):
        last = advice(training(group=8, eval_rows=2), 2**20)[-1]
        assert "eval_batch_size" not in last

    def test_where_nothing_takes_less_it_says_so(self):
        policy = PolicyConfig(training().policy.backbone, lora=LoRA(rank=64), gradient_checkpointing=True)
        spread = Spread(8, 8, offload=True)
        least = training(policy=policy, spread=spread, eval_rows=1, new_tokens=1, micro_batch_tokens=128)
        assert advice(least, 1.0) == ["no setting takes less: take a device with more memory, or a smaller model"]

    def test_a_setting_that_is_on_is_not_named_again(self):
        backbone = training().policy.backbone
        policy = PolicyConfig(backbone, lora=LoRA(rank=4), gradient_checkpointing=True)
        kinds = {change.kind for change in changes(training(policy=policy, spread=Spread(8, 8, offload=True)))}
        assert kinds == {"micro-batch", "validation"}

    @pytest.mark.parametrize("freeze", [("language",), (r"model\.language_model\.layers\.0",)])
    def test_adapters_are_not_advised_on_what_is_frozen(self, freeze: tuple[str, ...]):
        policy = PolicyConfig(training().policy.backbone, freeze=freeze)
        assert "lora" not in {change.kind for change in changes(training(policy=policy))}

    def test_a_micro_batch_still_holds_the_longest(self):
        tokens = IMAGE + QUESTION + 20
        named = {change.kind: change.settings for change in changes(training(micro_batch_tokens=2 * tokens))}
        assert named["micro-batch"] == {"data.init_args.micro_batch_tokens": str(tokens)}
        kinds = {change.kind for change in changes(training(micro_batch_tokens=2 * tokens - 1))}
        assert "micro-batch" not in kinds

    def test_ddp_is_told_of_shards_and_shards_of_the_host_as_both_forms_of_a_strategy_take_it(self):
        eight = {one.kind: one.settings for one in changes(training(spread=Spread(8, half=True, gpu=True)))}
        assert eight["shards"] == {"trainer.strategy": "fsdp2"}
        copies = {one.kind: one.settings for one in changes(training(spread=Spread(8, 4, half=True, gpu=True)))}
        assert "shards" not in copies
        assert copies["offload"] == {
            "trainer.strategy": "{class_path: fgvr.strategies.FSDP2Strategy, "
            "init_args: {replicate: 2, shard: 4, prefetch: 1, offload: true}}"
        }


def test_what_is_known_of_a_model_is_what_another_look_at_it_finds():
    found = [*changes(training(group=8))]
    assert [one.peak for one in found] == [replace(one.training).footprint().peak for one in found]


@pytest.mark.parametrize("kind", ["checkpointing", "micro-batch", "engine"])
def test_no_change_takes_more(kind: str):
    before = training(group=8, max_rows=512)
    (change,) = [one for one in changes(before) if one.kind == kind]
    assert change.peak <= before.footprint().peak
