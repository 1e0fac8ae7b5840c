"""Figures of GPUs are those of benchmarks/gpu/2026-11-26-h200*.md, the CPU's are measured here."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fgvr.models import LoRA, PolicyConfig, TinyQwen
from fgvr.models.anatomy import Anatomy
from fgvr.models.footprint import Footprint, Rows, Spread, Written, footprint

GIB = 2**30
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FROZEN_TOWER = ("vision", "projector")
CARD = Spread(half=True, gpu=True)


def shaped() -> tuple[TinyQwen, Any]:
    """The 3B's shapes."""
    backbone = TinyQwen(["."], hidden=2048, layers=36, heads=16, vision_hidden=1280, vision_layers=32, tokens=1)
    config: Any = backbone.config()
    text, vision = config.text_config, config.vision_config
    config.tie_word_embeddings = text.tie_word_embeddings = True
    text.vocab_size, text.num_key_value_heads, text.intermediate_size = 151_936, 2, 11_008
    vision.intermediate_size, vision.fullatt_block_indexes = 3_420, [7, 15, 23, 31]
    return backbone, config


@cache
def three_billion(**options: Any) -> Anatomy:
    backbone, config = shaped()
    return Anatomy(config, PolicyConfig(backbone, freeze=FROZEN_TOWER, **options))


@cache
def of_step(model: Anatomy, spread: Spread = CARD, masked: bool = True) -> Footprint:
    """16 groups of 8 completions of 64 tokens after prompts of 367: micro-batches of 9 and 7 of them."""
    rows = [Rows(n, 367 + 8 * 64, n * 8 * 64, 367, 8, masked=masked) for n in (9, 7)]
    return footprint(model, rows, [Written(16, 8, 367, 64, 1024)], spread, kl=False)


class TestOnAGpu:
    def test_full_tuning_takes_what_was_measured(self):
        model = three_billion()
        assert model.weights / 1e9 == pytest.approx(3.75, abs=0.01)
        assert of_step(model).peak / GIB == pytest.approx(93.9, rel=0.03)
        assert of_step(model, masked=False).peak / GIB == pytest.approx((90.1 + 96.3) / 2, rel=0.10)

    @pytest.mark.slow  # peft takes seconds for the 3B's layers
    def test_adapters_take_what_was_measured(self):
        assert of_step(three_billion(lora=LoRA())).peak / GIB == pytest.approx(66.9, rel=0.03)

    def test_shards_divide_what_stays_and_add_what_is_gathered(self):
        one, eight = of_step(three_billion()), of_step(three_billion(), Spread(8, 8, half=True, gpu=True))
        assert eight.optimizer == one.optimizer // 8
        assert eight.gradients == one.gradients // 8
        # frozen products are kept in half precision
        assert one.weights // 16 < eight.weights < one.weights // 8
        assert (one.gathered, one.whole, eight.casts) == (0, 0, 0)
        assert 0 < eight.gathered < eight.whole < one.weights
        assert eight.activations == one.activations

    def test_replicas_share_nothing(self):
        four, eight = (of_step(three_billion(), Spread(8, shards, half=True, gpu=True)) for shards in (4, 8))
        assert four.optimizer == pytest.approx(2 * eight.optimizer, abs=2)

    def test_offloading_moves_what_stays_to_the_host(self):
        here = of_step(three_billion(), Spread(8, 8, half=True, gpu=True))
        there = of_step(three_billion(), Spread(8, 8, offload=True, half=True, gpu=True))
        assert there.host == here.weights + here.optimizer + here.gradients
        assert (there.held, there.gradients) == (0, 0)
        assert there.sampling == here.sampling - here.held
        assert there.update < here.update

    def test_a_frozen_copy_is_as_large_as_the_weights(self):
        model = three_billion()
        rows = [Rows(1, 367 + 512, 512, 367, 8)]
        with_kl, without = (footprint(model, rows, [], CARD, kl=kl) for kl in (True, False))
        assert with_kl.reference == 4 * model.weights
        assert with_kl.peak - without.peak == with_kl.reference

    def test_beside_adapters_the_copy_is_of_what_is_trained_in_full(self):
        backbone = TinyQwen(["."], hidden=64, layers=2, vision_hidden=64, vision_layers=2)
        model = Anatomy(backbone.config(), PolicyConfig(backbone, lora=LoRA(rank=4, full=("projector",))))
        projector = sum(x.numel() for x in model.tower.merger.parameters())
        assert model.trained_in_full == projector
        for shards in (1, 2):
            spread = Spread(shards, shards)
            found = footprint(model, [Rows(1, 64, 16, 32, 2)], [], spread, kl=True)
            assert found.reference == 4 * projector // shards
            assert found.optimizer == 8 * model.trained // shards
        adapters = Anatomy(backbone.config(), PolicyConfig(backbone, lora=LoRA(rank=4)))
        assert footprint(adapters, [Rows(1, 64, 16, 32, 2)], [], Spread(), kl=True).reference == 0

    def test_checkpointing_keeps_what_each_layer_is_given(self):
        plain, less = of_step(three_billion()), of_step(three_billion(gradient_checkpointing=True))
        tokens = 7 * (367 + 512)
        assert less.activations < plain.activations / 5
        assert less.activations > 37 * tokens * 2048 * 4


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("footprint")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read as Linux tells it")
@pytest.mark.parametrize(
    "name",
    [
        "Qwen2.5-VL, tower frozen",
        "the same, in bfloat16",
        "everything trained",
        "LoRA of rank 16",
        "LoRA of rank 16, checkpointed",
        "LoRA of rank 16, projector in full",
        "Qwen3-VL, everything trained",
    ],
)
def test_an_update_on_a_cpu_takes_what_is_reckoned(measuring: Any, name: str):
    reckoned, found = measuring.CASES[name].reckoned().update / 2**20, measuring.measured(name)
    assert reckoned == pytest.approx(found, rel=0.15)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read as Linux tells it")
@pytest.mark.parametrize("name", ["LoRA of rank 16", "wide and shallow", "the same, in bfloat16"])
def test_sampling_on_a_cpu_takes_what_is_reckoned(measuring: Any, name: str):
    own = measuring.CASES[name].reckoned()
    reckoned, found = (own.sampling - own.optimizer) / 2**20, measuring.measured(name, sampling=True)
    assert reckoned == pytest.approx(found, rel=0.15)
