import pytest
import torch
from conftest import prompt_batch, tiny_policy
from stock import stock_logprobs
from templates import THINKS, processor_that_opens
from triplet_rollouts import triplet_batch

from fgvr.data.collate import without_negatives
from fgvr.errors import UserError
from fgvr.kernels.group_packing import pack_groups
from fgvr.models import LoRA, Processor
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import BLOCK, SHRINK_AT
from fgvr.ranks import Ranks
from fgvr.rollouts.in_process import InProcess
from fgvr.rollouts.updates import UpdatePlan, updates_of
from fgvr.types import RolloutGroup, ScoredGroup

SEEDS = (11, 12, 13)


class ManyEnds(Processor):
    """One in seven tokens ends a completion, so that groups are ragged."""

    @property
    def eos_token_ids(self) -> list[int]:
        return sorted({*super().eos_token_ids, *range(100, 160)})


class FewEnds(Processor):
    """One in twenty."""

    @property
    def eos_token_ids(self) -> list[int]:
        return sorted({*super().eos_token_ids, *range(100, 120)})


def talkative(family="qwen2_5_vl", **options):
    torch.manual_seed(0)
    policy = tiny_policy(family, **options)
    policy.processor.__class__ = ManyEnds
    return policy


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=4, alpha=8.0)}, {"gradient_checkpointing": True}])
def test_what_was_sampled_has_the_log_probs_that_training_sees(family, options):
    policy = talkative(family, **options)
    sampling = Sampling(group_size=6, temperature=1.2, max_new_tokens=24)
    groups = InProcess().sample(policy, prompt_batch(policy), sampling, SEEDS)
    completions = [[c.ids for c in group.completions] for group in groups]
    assert len({len(ids) for group in completions for ids in group}) > 3, "groups must be ragged for this to say much"
    rows = pack_groups([g.prompt for g in groups], completions, [g.features for g in groups], 0)
    logp, _ = policy.completion_logprobs(rows, sampling.temperature)
    sampled = torch.cat([c.logprobs for group in groups for c in group.completions])
    assert (logp - sampled).abs().max() < 1e-5
    assert policy.training


def test_a_completion_depends_on_its_own_prompt_and_seed_alone():
    policy = talkative()
    batch, sampling = prompt_batch(policy), Sampling(group_size=4, max_new_tokens=20)
    together = InProcess().sample(policy, batch, sampling, SEEDS)
    torch.manual_seed(5)  # the global stream has no part in it
    in_pieces = InProcess(max_rows=4).sample(policy, batch, sampling, SEEDS)
    for one, other in zip(together, in_pieces, strict=True):
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert torch.equal(mine.ids, theirs.ids)
            torch.testing.assert_close(mine.logprobs, theirs.logprobs, rtol=1e-5, atol=1e-5)
    reseeded = InProcess().sample(policy, batch, sampling, (11, 12, 14))
    same = [
        all(torch.equal(a.ids, b.ids) for a, b in zip(one.completions, other.completions, strict=True))
        for one, other in zip(together, reseeded, strict=True)
    ]
    assert same == [True, True, False]


def test_each_prompt_is_read_once_and_few_tokens_behind_an_end(monkeypatch):
    policy = talkative(freeze=("vision", "projector"))
    batch, prompts, seen, tokens = prompt_batch(policy), [], [], []
    layers, tower = policy.base.model.language_model.layers, policy.base.model.visual
    layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: prompts.append(args[0].shape[:2].numel()), with_kwargs=True
    )
    tower.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    read = Decoder.read

    def counted(self, ids, *others):
        tokens.append(len(ids))
        return read(self, ids, *others)

    monkeypatch.setattr(Decoder, "read", counted)
    groups = InProcess().sample(policy, batch, Sampling(group_size=8, max_new_tokens=60), SEEDS)
    assert seen == [len(batch.images.patches)]
    longest = max(len(group.prompt.input_ids) for group in groups)
    assert prompts == [3 * longest]
    needed = sum(len(c.ids) - 1 for group in groups for c in group.completions)
    assert needed <= sum(tokens) <= needed / SHRINK_AT + 24 * BLOCK  # to the end of the block in which a row ends
    assert all(group.features is not None for group in groups)


def test_an_end_token_ends_a_completion_and_belongs_to_it():
    policy = talkative()
    ends = policy.processor.eos_token_ids
    assert len(ends) > 2
    groups = InProcess().sample(policy, prompt_batch(policy), Sampling(group_size=8, max_new_tokens=24), SEEDS)
    completions = [c for group in groups for c in group.completions]
    for completion in completions:
        inside = torch.isin(completion.ids, torch.tensor(ends))
        assert not inside[:-1].any()
        assert completion.truncated != bool(inside[-1])
        assert not completion.truncated or len(completion.ids) == 24
        assert not set(completion.ids.tolist()) & set(policy.processor.vision_token_ids)
        assert completion.text == policy.processor.decode(completion.ids.tolist())


def test_a_sampled_reply_begins_with_what_the_template_has_opened():
    policy = talkative()
    policy.processor = processor_that_opens(THINKS)
    (group, *_) = InProcess().sample(policy, prompt_batch(policy), Sampling(group_size=4, max_new_tokens=6), SEEDS)
    for completion in group.completions:
        own = str(policy.processor.tokenizer.decode(completion.ids.tolist(), skip_special_tokens=True))
        assert completion.text == THINKS + own  # and the ids, whose log-probs are learned from, are the model's alone


def test_no_prompts_give_no_groups_and_every_prompt_needs_a_seed():
    policy = tiny_policy()
    assert InProcess().sample(policy, prompt_batch(policy, []), Sampling(), ()) == []
    with pytest.raises(ValueError, match="got 1 for 3 prompts"):
        InProcess().sample(policy, prompt_batch(policy), Sampling(), (1,))
    with pytest.raises(UserError, match="max_rows"):
        InProcess(max_rows=0)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("options", [{}, {"freeze": ("vision", "projector")}])
def test_under_autocast_sampler_and_trainer_stay_within_its_rounding(family, options):
    policy = talkative(family, **options)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        groups = InProcess().sample(policy, prompt_batch(policy), Sampling(group_size=4, max_new_tokens=9), SEEDS)
        completions = [[c.ids for c in group.completions] for group in groups]
        rows = pack_groups([g.prompt for g in groups], completions, [g.features for g in groups], 0)
        logp, _ = policy.completion_logprobs(rows)
    sampled = torch.cat([c.logprobs for group in groups for c in group.completions])
    assert (logp - sampled).abs().max() < 0.02
    logp.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for _, p in policy.trainable() if p.grad is not None)


def test_a_policy_of_nan_weights_is_named_as_such():
    policy = talkative()
    with torch.no_grad():
        policy.base.lm_head.weight[200] = torch.nan
    with pytest.raises(UserError, match="some were NaN while it wrote"):
        InProcess().sample(policy, prompt_batch(policy), Sampling(group_size=2, max_new_tokens=3), SEEDS)


def test_a_group_is_given_as_soon_as_it_is_noticed_that_its_last_completion_has_ended():
    policy = talkative()
    policy.processor.__class__ = FewEnds
    batch, sampling = prompt_batch(policy, [(1, 84)] * 6), Sampling(group_size=3, max_new_tokens=70)
    seeds = range(20, 26)
    together = InProcess().sample(policy, batch, sampling, seeds)
    longest = [max(len(c.ids) for c in group.completions) for group in together]
    blocks = [(tokens - 1) // BLOCK for tokens in longest]
    assert len(set(blocks)) > 1, "groups must end at different times for this to say much"
    given = list(InProcess().stream(policy, batch, sampling, seeds))
    assert [blocks[group.place] for group in given] == sorted(blocks)
    assert sorted(group.place for group in given) == [group.place for group in together]
    for one in given:
        other = together[one.place]
        assert (one.example, one.prompt.input_ids.tolist()) == (other.example, other.prompt.input_ids.tolist())
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert torch.equal(mine.ids, theirs.ids)
            assert torch.equal(mine.logprobs, theirs.logprobs)
            assert (mine.truncated, mine.text) == (theirs.truncated, theirs.text)
    assert policy.training


def test_what_reads_a_part_of_the_stream_leaves_the_policy_as_it_was():
    policy = talkative()
    stream = iter(InProcess().stream(policy, prompt_batch(policy), Sampling(group_size=3, max_new_tokens=20), SEEDS))
    next(stream)
    assert not policy.training
    assert torch.is_grad_enabled()
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert policy.training


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=4, alpha=8.0)}, {"freeze": ("vision", "projector")}])
@pytest.mark.parametrize("conditioning", ["own", "anchor"])
def test_answers_about_three_photos_have_the_log_probs_of_separate_plain_forwards(family, options, conditioning):
    policy = talkative(family, **options)
    batch, sampling = triplet_batch(policy), Sampling(group_size=6, max_new_tokens=12, positives=4)
    assert len({tuple(batch.prompt(row).images.grid_thw.flatten().tolist()) for row in (0, 3, 6)}) == 3
    groups = InProcess().sample(policy, batch, sampling, range(9))
    assert [group.from_positive for group in groups] == [4, 4, 4]
    scored = [((0, group.place), scored_as(group)) for group in groups]
    plan = UpdatePlan(conditioning=conditioning, negatives="detached")
    (entry,) = updates_of(scored, plan, Ranks(), 0)[0].micro_batches
    assert entry.negative is not None
    with torch.no_grad():
        found = [policy.completion_logprobs(rows)[0] for rows in (entry.rows, entry.negative)]
    own, behind = [], []
    for group in groups:
        assert group.positive is not None
        assert group.negative is not None
        assert (group.negative.features is not None) == policy.fixed_features
        for n, completion in enumerate(group.completions):
            moved = conditioning == "own" and group.role_of(n) == "positive"
            own.append(stock_logprobs(policy, group.positive.prompt if moved else group.prompt, completion.ids))
            behind.append(stock_logprobs(policy, group.negative.prompt, completion.ids))
    assert (found[0] - torch.cat(own)).abs().max() < 1e-5
    assert (found[1] - torch.cat(behind)).abs().max() < 1e-5
    sampled = entry.sampled_logprobs
    assert bool(sampled.isnan().any()) == (conditioning == "anchor")
    assert (found[0] - sampled)[~sampled.isnan()].abs().max() < 1e-5


def scored_as(group: RolloutGroup) -> ScoredGroup:
    ones = torch.ones(len(group.completions))
    return ScoredGroup(group, [None] * len(ones), {"exact": ones}, ones, ones)


def ids_of(groups):
    return [[completion.ids.tolist() for completion in group.completions] for group in groups]


def test_without_positives_a_triplet_is_answered_as_its_anchor_alone():
    policy = talkative()
    triplets, sampling = triplet_batch(policy), Sampling(group_size=6, max_new_tokens=20)
    anchors = without_negatives(triplet_batch(policy, lacking=dict.fromkeys(range(3), ("positive",))))
    assert anchors.roles == ("anchor",) * 3
    alone = InProcess().sample(policy, anchors, sampling, SEEDS)
    beside = InProcess().sample(policy, triplets, sampling, (*SEEDS, *range(6)))
    assert ids_of(alone) == ids_of(beside)
    assert [group.positive for group in beside] == [None] * 3


@pytest.mark.parametrize("positives", range(7))
def test_any_split_is_sampled_and_an_example_without_a_positive_answers_about_itself(positives):
    policy = talkative()
    batch = triplet_batch(policy, lacking={1: ("positive",)})
    sampling = Sampling(group_size=6, max_new_tokens=20, positives=positives)
    together = InProcess().sample(policy, batch, sampling, range(8))
    assert [len(group.completions) for group in together] == [6] * 3
    assert [group.from_positive for group in together] == [positives, 0, positives]
    in_pieces = list(InProcess(max_rows=6).stream(policy, batch, sampling, range(8)))
    assert ids_of(together) == ids_of(in_pieces)
