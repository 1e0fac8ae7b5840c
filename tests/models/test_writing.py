"""Completions of one distribution, wherever they are asked for."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import example, photo, prompt, prompt_batch, tiny_policy
from exported import noisy
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from small_disks import small_disk

from fgvr.data.collate import PromptCollate
from fgvr.errors import UserError, sentence_of_disk
from fgvr.kernels.token_logprobs import next_token_logprobs
from fgvr.models import LoRA, Policy, PolicyConfig, Pretrained
from fgvr.models.sampling import Sampling
from fgvr.models.saved import compare, disk_is_named, write_hf_folder
from fgvr.modules import GRPO, SFT, Optimizer
from fgvr.rewards import Exact, Term, WeightedSum
from fgvr.rollouts import InProcess
from fgvr.types import PromptBatch, ReadRecord

LIMIT = 12
# what folders carry, and what would change every answer
OPINIONS = {
    "repetition_penalty": 1.5,
    "temperature": 0.1,
    "top_k": 1,
    "top_p": 0.5,
    "do_sample": True,
    "min_length": 99,
}


def batch_of(policy: Policy, count: int, width: int = 56) -> PromptBatch:
    items = [(example(f"u{i}"), prompt(policy, 1, seed=i, width=width + 28 * (i % 2))) for i in range(count)]
    record = ReadRecord(0, 0, tuple(range(count)), tuple(f"u{i}" for i in range(count)))
    return PromptCollate(policy.processor.padding_token, policy.processor.image_token)(items, record)


def by_transformers(policy: Policy, batch: PromptBatch, limit: int = LIMIT) -> list[list[int]]:
    """The slow twin: transformers' own loop, under the policy's neutral generation config."""
    ids = policy.base.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=batch.image_tokens,
        pixel_values=policy.processor.pixel_values(batch.images),
        image_grid_thw=batch.images.grid_thw,
        max_new_tokens=limit,
    )
    ends, answers = set(policy.processor.eos_token_ids), []
    for row in ids[:, batch.input_ids.shape[1] :].tolist():
        length = next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        answers.append(row[:length])
    return answers


def folder_of(policy: Policy, folder: Path, **generation: object) -> Pretrained:
    """The policy's weights as a folder of the hub's, with a generation config of its own."""
    policy.base.save_pretrained(folder)
    policy.processor.save(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2} | generation))
    return Pretrained(str(folder))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_greedy_answers_to_200_prompts_are_those_of_generate(family):
    policy = noisy(tiny_policy(family))
    batch = batch_of(policy, 200)
    ours, theirs = policy.generate(batch, LIMIT), by_transformers(policy, batch)
    assert ours == theirs
    assert len({tuple(answer) for answer in ours}) > 20, "the answers must differ for this to say much"


def test_samples_follow_the_distribution_of_the_slow_twin():
    policy, count = tiny_policy().eval(), 20_000
    with torch.no_grad():
        policy.base.lm_head.weight *= 10
    (group,) = InProcess(count).sample(policy, prompt_batch(policy, [(1, 84)]), Sampling(count, 1.5, 2), (5,))
    written = torch.stack([completion.ids for completion in group.completions if len(completion.ids) == 2])
    first = torch.cat([completion.ids[:1] for completion in group.completions])
    commonest = int(first.mode().values)
    assert chi_square(first, next_token_shares(policy, [], 1.5)) < 4
    after_commonest = written[written[:, 0] == commonest, 1]
    assert chi_square(after_commonest, next_token_shares(policy, [commonest], 1.5)) < 4


@torch.no_grad()
def next_token_shares(policy: Policy, written: list[int], temperature: float) -> torch.Tensor:
    """The probability of every token after the first prompt and what has been written, by transformers' forward."""
    asked = prompt(policy)
    ids = torch.cat([asked.input_ids, torch.tensor(written, dtype=torch.long)])[None]
    output = policy.base.model(
        input_ids=ids,
        mm_token_type_ids=(ids == policy.processor.image_token).int(),
        pixel_values=policy.processor.pixel_values(asked.images),
        image_grid_thw=asked.images.grid_thw,
    )
    hidden = output.last_hidden_state[0, -1:]
    return next_token_logprobs(hidden, policy.base.lm_head.weight, policy.suppression, temperature)[0].exp()


def chi_square(tokens: torch.Tensor, shares: torch.Tensor) -> float:
    """How many standard deviations the statistic is from its mean: with k cells k - 1, and variance twice that."""
    expected, seen = len(tokens) * shares, torch.bincount(tokens, minlength=len(shares)).float()
    assert not seen[shares == 0].any()
    likely = expected > 5
    expected, seen = (torch.cat([x[likely], x[~likely].sum()[None]]) for x in (expected, seen))
    freedom = len(expected) - 1
    assert freedom > 20, "there must be cells enough for this to say much"
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return abs(statistic - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=2, alpha=8.0)}])
def test_a_completion_is_a_function_of_weights_prompt_and_seed(options):
    policy = noisy(tiny_policy(**options))
    shapes = [(1, 84), (2, 112), (1, 140), (1, 56), (2, 84)]
    batch, sampling, seeds = prompt_batch(policy, shapes), Sampling(5, 1.0, 40), (3, 1, 4, 1, 5)
    together = InProcess().sample(policy, batch, sampling, seeds)
    greedy = policy.generate(batch, 40)
    for rows in ([3], [4, 0], [2, 1, 3]):
        items = [(batch.examples[row], batch.prompt(row)) for row in rows]
        record = ReadRecord(0, 0, tuple(rows), tuple(f"u{row}" for row in rows))
        part = PromptCollate(0, policy.processor.image_token)(items, record)
        for group in InProcess(7).sample(policy, part, sampling, [seeds[row] for row in rows]):
            for mine, theirs in zip(group.completions, together[group.place].completions, strict=True):
                assert torch.equal(mine.ids, theirs.ids)
        assert policy.generate(part, 40) == [greedy[row] for row in rows]


def test_a_folders_generation_config_has_no_say(tmp_path: Path):
    own = noisy(tiny_policy())
    batch = batch_of(own, 6)
    plain, opinionated = (folder_of(own, tmp_path / name, **said) for name, said in (("a", {}), ("b", OPINIONS)))
    pixels, reward = own.processor.pixels, WeightedSum({"exact": Term(Exact())})
    answers, samples = [], []
    for backbone in (plain, opinionated):
        config = PolicyConfig(backbone, pixels)
        for module in (SFT(config, Optimizer(), LIMIT), GRPO(config, reward, max_new_tokens=LIMIT)):
            module.configure_model()
            answers.append(module.validation_step(batch, 0))
            samples.append(InProcess().sample(module.trained_policy, batch, Sampling(2, 1.0, LIMIT), range(6)))
    assert answers == [answers[0]] * 4
    for groups in samples:
        for group, first in zip(groups, samples[0], strict=True):
            assert [c.text for c in group.completions] == [c.text for c in first.completions]
    trained = Policy(PolicyConfig(opinionated, pixels), opinionated.processor(pixels))
    write_hf_folder(trained, tmp_path / "out", "merge", torch.float32, LIMIT)
    exported = Pretrained(str(tmp_path / "out"))
    again = Policy(PolicyConfig(exported, pixels), exported.processor(pixels)).eval()
    assert [again.processor.decode(ids) for ids in by_transformers(again, batch)] == answers[0]


def test_what_is_exported_answers_by_its_own_generation_config_as_was_evaluated(tmp_path: Path):
    backbone = folder_of(tiny_policy(), tmp_path / "base", **OPINIONS)
    pixels = tiny_policy().processor.pixels
    policy = noisy(Policy(PolicyConfig(backbone, pixels, lora=LoRA(rank=2)), backbone.processor(pixels)))
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    questions = [(asked, [photo(seed=seed)]) for seed in range(4)]
    write_hf_folder(copy.deepcopy(policy), tmp_path / "out", "keep", torch.float32, LIMIT)
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert said["do_sample"] is False
    assert not {"repetition_penalty", "temperature", "top_k", "top_p", "min_length"} & set(said)
    agreement = compare(policy, tmp_path / "out", "keep", torch.float32, questions, LIMIT)
    assert agreement.same_answers == agreement.samples == 4


@torch.no_grad()
def test_only_what_was_drawn_has_log_probs():
    policy = noisy(tiny_policy()).eval()
    asked, sampling = [prompt(policy)], Sampling(1, 1.0, 5)
    features = policy.image_features(asked[0].images)
    for seeds in (None, [3]):
        ((_, completions),) = policy.write(policy.decoder(), asked, features, sampling, seeds)
        for written in completions:
            if seeds is None:
                assert written.logprobs is None
            else:
                assert written.logprobs is not None
                assert written.logprobs.shape == written.ids.shape
                assert (written.logprobs <= 0).all()


def test_a_greedy_answer_of_nan_weights_is_named_as_such():
    policy = tiny_policy()
    with torch.no_grad():
        policy.base.lm_head.weight[200] = torch.nan
    with pytest.raises(UserError, match="some were NaN while it wrote"):
        policy.generate(batch_of(policy, 2), 3)


def test_an_answer_ends_at_any_end_of_the_generation_config(tmp_path: Path):
    own = noisy(tiny_policy())
    (whole,) = own.generate(batch_of(own, 1), LIMIT)
    assert len(whole) > 3
    backbone = folder_of(own, tmp_path, eos_token_id=[own.processor.end_of_turn, whole[2]])
    policy = Policy(PolicyConfig(backbone, own.processor.pixels), backbone.processor(own.processor.pixels))
    assert policy.generate(batch_of(policy, 1), LIMIT) == [whole[: whole.index(whole[2]) + 1]]


def test_a_full_disk_that_safetensors_meets_is_an_error_of_the_disk(tmp_path: Path):
    full = pytest.raises(OSError, match="No space left")
    with small_disk(tmp_path / "small", megabytes=1) as folder, full as caught, disk_is_named(folder):
        save_file({"weight": torch.zeros(600_000)}, folder / "model.safetensors")  # 2.4 MB
    assert sentence_of_disk(caught.value) == (
        f"{folder} must find room, but the disk is full (No space left on device): make room, then start again."
    )
    with pytest.raises(SafetensorError, match="header"), disk_is_named(tmp_path):
        load(b"no weights")
