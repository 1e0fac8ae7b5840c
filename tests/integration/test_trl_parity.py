"""GRPO's loss, gradient and figures against TRL's own trainer, on the same weights, photos and completions.

TRL 1.16.0 gets the completions from a rollout function and does the rest itself: tokens, padding and masks, advantages,
old and reference log-probs, shuffling, cutting into micro-batches, loss and backward. It scores over the whole
vocabulary, so here ours does too.

A loss is compared relative to the sum of |weight x advantage|: advantages cancel within a group, and at ratio 1 what is
left of the loss can be rounding alone. Gradients are compared by their L2 distance, relative to TRL's length.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUESTION, example, photo, tiny_backbone
from datasets import Dataset
from torch import Tensor, nn
from transformers import Qwen2_5_VLProcessor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from fgvr.models import PixelBudget, PolicyConfig, Processor
from fgvr.models.sampling import Sampling
from fgvr.modules import GRPO
from fgvr.objectives import KL, Advantage, Clip, group_advantages
from fgvr.ranks import Ranks
from fgvr.rewards import Exact, Term, WeightedSum
from fgvr.rollouts.updates import UpdatePlan, updates_of
from fgvr.types import Completion, RolloutGroup, RolloutRows, ScoredGroup

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning")

PIXELS = PixelBudget(28 * 28, 84 * 84)
PHOTOS = [[photo(84)], [photo(112, seed=1), photo(56, seed=2)], [photo(140, seed=3)]]
LENGTHS = [[3, 1, 7, 5], [2, 6, 4, 3], [5, 2, 8, 1]]
CUT_OFF = {(0, 2), (1, 3), (2, 0), (2, 2)}  # (group, completion) without an end token
REWARDS = [[1.0, 0.0, 0.5, 1.0], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 1.0, 0.25]]
GROUP_SIZE, LIMIT, TEMPERATURE, TOLERANCE = 4, 8, 0.8, 1e-5
COMPLETIONS, TOKENS = 12, 47
PARTS = ("visual", "language_model", "lm_head")
Rewards = Sequence[Sequence[float | None]]
Settings = dict[str, Any]

LOSSES: dict[str, tuple[Settings, Settings]] = {  # TRL's arguments, and ours for the same
    "grpo": ({"loss_type": "grpo"}, {"reduction": "sequence"}),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {"reduction": "token", "clip": Clip(high=0.28)}),
    "dr_grpo": (
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"reduction": "constant", "advantage": Advantage(scale="none")},
    ),
}
BOUNDS: Settings = {"epsilon": 0.1, "epsilon_high": 0.3}
CLIPS: dict[str, tuple[Settings, Settings]] = {
    "low high": ({"loss_type": "dapo", **BOUNDS}, {"reduction": "token", "clip": Clip(0.1, 0.3)}),
    "low high dual": (
        {"loss_type": "dapo", "delta": 1.4, **BOUNDS},
        {"reduction": "token", "clip": Clip(0.1, 0.3, dual=1.4)},
    ),
    "low high of sequences": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", **BOUNDS},
        {"reduction": "sequence", "clip": Clip(0.1, 0.3, level="sequence")},
    ),
}
AWAY, OFF_POLICY = 1, 5  # seeds of `drift`; after both no ratio lies within 0.02 of a bound above


@dataclass(frozen=True)
class Step:
    """Of one optimiser step: loss, gradient by parameter, figures, and ours the sum of |weight x advantage|."""

    loss: float
    gradient: dict[str, Tensor]
    figures: dict[str, float]
    scale: float = 0.0


class PhotoProcessor(Qwen2_5_VLProcessor):
    """TRL wants the library's combined processor; the part of it that reads videos would need torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> type:
        return type(argument)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing here may need a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def drift(model: nn.Module, seed: int) -> None:
    """A random step, the same in every copy of the model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def completions_of(processor: Processor) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    words = torch.tensor([i for i in range(300) if i not in processor.tokenizer.all_special_ids])
    groups = [[words[torch.randint(len(words), (n,), generator=generator)] for n in lengths] for lengths in LENGTHS]
    for number, group in enumerate(groups):
        for place, ids in enumerate(group):
            if (number, place) not in CUT_OFF:
                ids[-1] = processor.end_of_turn
    return groups


def gradient_of(model: nn.Module) -> dict[str, Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}


def theirs(
    folder: Path, micro_batches: int = 1, *, moved: bool = False, rewards: Rewards = REWARDS, **settings: Any
) -> Step:
    """TRL's step, away from the reference; when `moved`, also away from the weights that the old log-probs are of."""
    trainer = trainer_of(folder, micro_batches, rewards, {"num_iterations": 1 + moved} | settings)
    drift(trainer.model, AWAY)
    trainer.model.train()
    question = [{"role": "user", "content": QUESTION}]
    batch = [{"prompt": question, "images": photos} for photos in PHOTOS for _ in range(GROUP_SIZE)]
    if moved:
        trainer._prepare_inputs(batch)
        trainer._step = micro_batches  # the second time through what was prepared
        drift(trainer.model, OFF_POLICY)
    loss = sum(trainer.training_step(trainer.model, batch, None).item() for _ in range(micro_batches))
    figures = {name: values[0] for name, values in trainer._metrics["train"].items()}
    return Step(loss, gradient_of(trainer.model), figures)


def trainer_of(folder: Path, micro_batches: int, rewards: Rewards, settings: Settings) -> Any:
    backbone = tiny_backbone()
    processor, model = backbone.processor(PIXELS), backbone.build("sdpa")
    model.save_pretrained(folder)
    model.config._name_or_path = str(folder)  # where the reference is loaded from
    completions = [ids.tolist() for group in completions_of(processor) for ids in group]

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        return {"prompt_ids": trainer._tokenize_prompts(prompts)[0], "completion_ids": completions, "logprobs": None}

    def reward(**_: object) -> list[float | None]:
        return [score for group in rewards for score in group]

    config = GRPOConfig(
        str(folder / "run"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        per_device_train_batch_size=COMPLETIONS // micro_batches,
        gradient_accumulation_steps=micro_batches,
        num_generations=GROUP_SIZE,
        max_completion_length=LIMIT,
        temperature=TEMPERATURE,
        **settings,
    )
    combined: Any = PhotoProcessor(
        processor.image_processor, processor.tokenizer, chat_template=processor.tokenizer.chat_template
    )
    prompts = Dataset.from_dict({"prompt": [QUESTION]})
    trainer = GRPOTrainer(model, reward, config, prompts, processing_class=combined, rollout_func=rollout)
    trainer.current_gradient_accumulation_steps = micro_batches  # as its loop does
    return trainer


def ours(
    micro_batches: int = 1,
    *,
    moved: bool = False,
    rewards: Rewards = REWARDS,
    every_group: bool = False,
    reweigh: Callable[[RolloutRows], RolloutRows] = lambda rows: rows,
    **settings: Any,
) -> Step:
    """The same step by our module; more than one micro-batch is one for each group."""
    module = module_of(epochs=1 + moved, **settings)
    policy = module.trained_policy
    plan = UpdatePlan(
        module.reduction,
        LIMIT,
        mask_truncated=module.mask_truncated,
        every_group=every_group or module.kl is not None or module.entropy_coefficient != 0,
        micro_batch_tokens=10**6 if micro_batches == 1 else 1,
    )
    placed = [((0, group.rollout.place), group) for group in groups_of(module, rewards)]
    updates = updates_of(placed, plan, Ranks(), module.processor.padding_token)
    (update,) = module._with_fixed_logprobs(updates)
    if moved:
        drift(policy.model, OFF_POLICY)
    module._sums = defaultdict(float)
    loss = scale = 0.0
    for rows in map(reweigh, update.micro_batches):
        part = module._loss(rows)
        part.backward()
        loss += part.item()
        scale += float((rows.weights * rows.advantages).abs().sum())
    return Step(loss, gradient_of(policy.model), dict(module._sums), scale)


def module_of(**settings: Any) -> GRPO:
    reward = WeightedSum({"exact": Term(Exact())})
    sampling = Sampling(GROUP_SIZE, TEMPERATURE, LIMIT)
    module = GRPO(PolicyConfig(tiny_backbone(), PIXELS), reward, sampling=sampling, **settings)
    module.configure_model()
    module.on_fit_start()
    for policy in (module.trained_policy, *module._frozen):
        policy.suppression.zero_()
    drift(module.trained_policy.model, AWAY)
    return module


def groups_of(module: GRPO, rewards: Rewards) -> list[ScoredGroup]:
    choice, processor = module.advantage, module.processor
    scores = torch.tensor([[torch.nan if score is None else score for score in group] for group in rewards])
    advantages = group_advantages(scores, baseline=choice.baseline, scale=choice.scale, eps=choice.eps)
    groups: list[ScoredGroup] = []
    for number, (photos, replies) in enumerate(zip(PHOTOS, completions_of(processor), strict=True)):
        content = [*({"type": "image"} for _ in photos), {"type": "text", "text": QUESTION}]
        prompt = processor.encode_prompt([{"role": "user", "content": content}], photos)
        sampled = [Completion(ids, torch.zeros(len(ids)), (number, n) in CUT_OFF, "") for n, ids in enumerate(replies)]
        rollout = RolloutGroup(example(f"u{number}"), number, prompt, sampled)
        groups.append(ScoredGroup(rollout, [None] * GROUP_SIZE, {}, scores[number], advantages[number]))
    return groups


def distance(mine: Step, reference: Step, share: float, part: str = "") -> float:
    """Of our gradient from `share` times TRL's, relative to the latter; of the parameters with `part` in their name."""
    assert mine.gradient.keys() == reference.gradient.keys()
    ours, trls = (torch.cat([g.flatten() for n, g in s.gradient.items() if part in n]) for s in (mine, reference))
    return float((ours - share * trls).norm() / (share * trls).norm())


def assert_equal(mine: Step, reference: Step, share: float = 1.0) -> None:
    assert abs(mine.loss - share * reference.loss) <= TOLERANCE * mine.scale
    for part in ("", *PARTS):
        assert distance(mine, reference, share, part) <= TOLERANCE


@pytest.mark.parametrize("moved", [False, True], ids=["ratio 1", "other ratios"])
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient(loss: str, micro_batches: int, moved: bool, tmp_path: Path) -> None:
    trl, fgvr = LOSSES[loss]
    assert_equal(ours(micro_batches, moved=moved, **fgvr), theirs(tmp_path, micro_batches, moved=moved, **trl))


@pytest.mark.parametrize(("loss", "scale"), [("grpo", "none"), ("dapo", "none"), ("dr_grpo", "group")])
def test_the_other_scale_of_rewards(loss: str, scale: str, tmp_path: Path) -> None:
    trl: Settings = LOSSES[loss][0] | {"scale_rewards": scale}
    fgvr: Settings = LOSSES[loss][1] | {"advantage": Advantage(scale="sample" if scale == "group" else "none")}
    assert_equal(ours(**fgvr), theirs(tmp_path, **trl))


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("bounds", CLIPS)
def test_clipping(bounds: str, micro_batches: int, tmp_path: Path) -> None:
    trl, fgvr = CLIPS[bounds]
    mine = ours(micro_batches, moved=True, **fgvr)
    assert_equal(mine, theirs(tmp_path, micro_batches, moved=True, **trl))
    assert all(mine.figures[name] > 0 for name in ("low", "high", "dual") if name in bounds)


@pytest.mark.parametrize("loss", LOSSES)
def test_divergence_as_trl_has_it_unasked(loss: str, tmp_path: Path) -> None:
    """It multiplies k3 by the ratio, to correct a bias: at ratio 1 that is the value of k3 and the gradient of k2."""
    trl, fgvr = LOSSES[loss]
    mine, reference = ours(kl=KL(0.3, gradient="k2"), **fgvr), theirs(tmp_path, beta=0.3, **trl)
    assert_equal(mine, reference)
    assert mine.figures["kl"] / TOKENS == pytest.approx(reference.figures["kl"], rel=TOLERANCE)


@pytest.mark.parametrize("moved", [False, True], ids=["ratio 1", "other ratios"])
@pytest.mark.parametrize("loss", LOSSES)
def test_divergence_without_correction(loss: str, moved: bool, tmp_path: Path) -> None:
    trl, fgvr = LOSSES[loss]
    mine = ours(3, moved=moved, kl=KL(0.3), **fgvr)
    assert_equal(mine, theirs(tmp_path, 3, moved=moved, beta=0.3, use_bias_correction_kl=False, **trl))


def test_entropy_bonus(tmp_path: Path) -> None:
    """TRL's is a mean over tokens whatever the loss, hence ours with the reduction "token"."""
    mine = ours(entropy_coefficient=0.05, reduction="token")
    assert_equal(mine, theirs(tmp_path, entropy_coef=0.05, loss_type="dapo"))


@pytest.mark.parametrize("loss", LOSSES)
def test_truncated_completions_left_out(loss: str, tmp_path: Path) -> None:
    """They are in neither sum, but TRL goes on dividing by their number where it divides by completions."""
    trl, fgvr = LOSSES[loss]
    share = 1.0 if loss == "dapo" else COMPLETIONS / (COMPLETIONS - len(CUT_OFF))
    mine = ours(3, moved=True, mask_truncated=True, **fgvr)
    assert_equal(mine, theirs(tmp_path, 3, moved=True, mask_truncated_completions=True, **trl), share)


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_rewards(loss: str, tmp_path: Path) -> None:
    """Advantage 0 for both, without a part in the group's mean; TRL still divides by these completions and tokens."""
    trl, fgvr = LOSSES[loss]
    rewards: Rewards = [[None, *REWARDS[0][1:]], REWARDS[1], [*REWARDS[2][:2], None, REWARDS[2][3]]]
    missing, tokens = 2, LENGTHS[0][0] + LENGTHS[2][2]
    share = TOKENS / (TOKENS - tokens) if loss == "dapo" else COMPLETIONS / (COMPLETIONS - missing)
    assert_equal(ours(rewards=rewards, **fgvr), theirs(tmp_path, rewards=rewards, **trl), share)


def test_bnpo_is_the_token_mean_of_one_micro_batch(tmp_path: Path) -> None:
    assert_equal(ours(moved=True, reduction="token"), theirs(tmp_path, moved=True, loss_type="bnpo"))


def test_bnpo_means_something_else_in_several_micro_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over micro-batches of token means: how a token counts depends on the company it was put in."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.shuffle_sequence_dict", lambda batch: batch)  # a group to each
    reference = theirs(tmp_path, 3, moved=True, loss_type="bnpo")

    def local_mean(rows: RolloutRows) -> RolloutRows:
        return replace(rows, weights=torch.full_like(rows.weights, 1 / (3 * len(rows.weights))))

    assert_equal(ours(3, moved=True, reduction="token", reweigh=local_mean), reference)
    assert distance(ours(3, moved=True, reduction="token"), reference, 1.0) > 0.01


@pytest.mark.parametrize("bounds", ["low high", "low high dual"])
def test_figures(bounds: str, tmp_path: Path) -> None:
    """Ours are means over what was computed: the same once completions of advantage 0 are, which are never clipped."""
    trl, fgvr = CLIPS[bounds]
    mine = ours(moved=True, every_group=True, **fgvr).figures
    reference = theirs(tmp_path, moved=True, **trl).figures
    assert mine["targets"] == TOKENS
    for name, value in {
        "entropy": mine["entropy"],
        "clip_ratio/low_mean": mine["low"],
        "clip_ratio/high_mean": mine["high"],
        "clip_ratio/region_mean": mine["low"] + mine["high"],
    }.items():
        assert value / TOKENS == pytest.approx(reference[name], rel=TOLERANCE)
    fewer = ours(moved=True, **fgvr).figures
    assert [fewer[name] for name in ("low", "high", "dual")] == [mine[name] for name in ("low", "high", "dual")]
