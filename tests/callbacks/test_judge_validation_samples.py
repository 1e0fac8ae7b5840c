from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt_batch, tiny_backbone, tiny_policy
from lightning.pytorch import LightningDataModule
from scripted import LOOSE, RIGHT, TASK, TAXONOMY, WRONG, Scripted
from torch.utils.data import DataLoader
from toy_validation import Toy, ToyData, trainer

from fgvr.callbacks.judge_validation import JudgeValidation, Samples
from fgvr.errors import UserError
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import SFT
from fgvr.rollouts import InProcess
from fgvr.types import PromptBatch, RolloutGroup

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
SHAPES = ((1, 84), (2, 112), (1, 140))
# the label is Azure Finch; the best of u0 is right, of u1 wrong, of u2 of the right family
REPLIES = {"u0": [WRONG, RIGHT, LOOSE], "u1": [WRONG, WRONG, WRONG], "u2": ["<answer>finch</answer>", WRONG, WRONG]}


class Backwards(Scripted):
    """Gives the groups in another order, and notes how it was asked."""

    def __init__(self) -> None:
        super().__init__(REPLIES)
        self.asked: list[tuple[Sampling, bool, bool, bool]] = []

    def sample(self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]) -> Any:
        casts = torch.is_autocast_enabled("cpu")
        self.asked.append((sampling, casts, casts and torch.is_autocast_cache_enabled(), torch.is_grad_enabled()))
        return reversed(list(super().sample(policy, batch, sampling, seeds)))


class OneShort(Scripted):
    def sample(self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]) -> Any:
        groups: Iterable[RolloutGroup] = super().sample(policy, batch, sampling, seeds)
        return list(groups)[1:]


class Prompts(LightningDataModule):
    task, taxonomy, cohorts = TASK, TAXONOMY, ["seen"]

    def __init__(self, sizes: Sequence[int] = (3,)) -> None:
        super().__init__()
        self.sizes = sizes

    def val_dataloader(self) -> Any:
        whole, batches = prompt_batch(tiny_policy(), SHAPES), []
        for size in self.sizes:
            assert size in (0, 3)
            batches.append(whole if size else prompt_batch(tiny_policy(), ()))
        return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


class Answering(SFT):
    """Answers every photo right when asked once."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(PolicyConfig(tiny_backbone(), PixelBudget(28 * 28, 84 * 84)), max_new_tokens=9)

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return [RIGHT for _ in batch.examples]


def figures(folder: Path, samples: Samples, **options: Any) -> dict[str, float]:
    run = trainer(folder, JudgeValidation(TaxonomyJudge(), samples=samples), **options)
    run.validate(Answering(), datamodule=Prompts(), verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}


def test_the_best_of_several_samples_stands_beside_the_greedy_answers(tmp_path: Path) -> None:
    engine = Backwards()
    found = figures(tmp_path, Samples(engine, n=3, temperature=0.7))
    assert (found["seen/n"], found["seen/exact"]) == (3, 1)
    # single answers: of nine one is S and one S- (2/3): correct 2/9, weight (1 + 2/3) / 2 = 5/6
    assert found["seen/best_of/1/correctness"] == pytest.approx(2 / 9)
    assert found["seen/best_of/1/specificity"] == pytest.approx(5 / 6)
    # of two out of three: each of the two is chosen with 2/3: correct 4/9
    assert found["seen/best_of/2/correctness"] == pytest.approx(4 / 9)
    # of all three: correct 2/3, weight 5/6, harmonic mean 2 * 2/3 * 5/6 / (3/2) = 20/27
    assert found["seen/best_of/3/correctness"] == pytest.approx(2 / 3)
    assert found["seen/best_of/3/harmonic_mean"] == pytest.approx(20 / 27)
    assert found["seen/sampled/wrong"] == pytest.approx(6 / 9)
    assert found["seen/sampled/parse_failures"] == pytest.approx(1 / 9)
    assert engine.synced == 1
    assert engine.asked == [(Sampling(3, 0.7, 9), False, False, False)]


def test_samples_are_drawn_as_the_module_computes_and_alike_in_each_pass(tmp_path: Path) -> None:
    engine = Backwards()
    for seed, limit in ((0, None), (0, 5), (1, 5)):
        figures(tmp_path, Samples(engine, n=3, max_new_tokens=limit, seed=seed), precision="bf16-mixed")
    assert [sampling.max_new_tokens for sampling, *_ in engine.asked] == [9, 5, 5]
    assert [rest for _, *rest in engine.asked] == [[True, False, False]] * 3  # autocast, whose casts nobody keeps
    assert engine.seeds[:3] == engine.seeds[3:6]
    assert len({*engine.seeds}) == 6


def test_the_policy_itself_samples_where_there_is_no_engine(tmp_path: Path) -> None:
    first, again = (figures(tmp_path, Samples(n=4)) for _ in range(2))
    assert first == again
    assert sum(value for name, value in first.items() if name.startswith("seen/sampled/")) == pytest.approx(1)
    run = trainer(tmp_path, JudgeValidation(TaxonomyJudge(), samples=Samples(InProcess(max_rows=4), n=4)))
    run.validate(Answering(), datamodule=Prompts((0, 3, 0)), verbose=False)  # a rank may get an empty batch
    assert {name: float(value) for name, value in run.callback_metrics.items()} == first


def test_drawing_leaves_policy_and_random_numbers_as_they_were() -> None:
    policy = tiny_policy()
    before = torch.get_rng_state()
    texts = Samples(n=2).draw(policy, prompt_batch(policy, SHAPES), max_new_tokens=5)
    assert [len(of_photo) for of_photo in texts] == [2, 2, 2]
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.training
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_refusals_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"samples\.n must be at least 1, got 0"):
        Samples(n=0)
    with pytest.raises(UserError, match="temperature must be above 0"):
        Samples(temperature=0.0)
    callback = JudgeValidation(TaxonomyJudge(), samples=Samples())
    with pytest.raises(UserError, match="drawn from a policy, and Toy has none: leave samples out"):
        trainer(tmp_path, callback).validate(Toy(), datamodule=ToyData(), verbose=False)
    with pytest.raises(ValueError, match=r"3 completions for each prompt, got \[0, 3, 3\]"):
        figures(tmp_path, Samples(OneShort(REPLIES), n=3))
