from collections.abc import Sequence
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from preloaded import ranks_strategy
from prompted import REPLIES, Measured, Watched
from scripted import RIGHT, WRONG
from triplet_rollouts import Triplets, WatchedTAPO, fit_triplets

from fgvr.errors import UserError
from fgvr.kernels.group_packing import one_row_per_completion
from fgvr.models import LoRA, PixelBudget, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import Optimizer
from fgvr.objectives import Clip, GroupFilter, Triplet, divergence
from fgvr.rewards import Exact, Format, Term, WeightedSum
from fgvr.types import RolloutRows

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
OFF = Triplet(gamma=0.0, eta1=0.0)
STRONG = Triplet(gamma=0.5, eta1=0.1, eta2=0.1)


def reward() -> WeightedSum:
    return WeightedSum({"exact": Term(Exact()), "format": Term(Format(), 0.5)})


def settings(positives: int = 2, family: str = "qwen2_5_vl", lora: LoRA | None = None, **options: Any) -> Any:
    config = PolicyConfig(
        tiny_backbone(family), PixelBudget(28 * 28, 84 * 84), lora=lora, freeze=options.pop("freeze", ())
    )
    own = {
        "policy": config,
        "reward": reward(),
        "sampling": Sampling(group_size=4, max_new_tokens=24, positives=positives),
        "optimizer": Optimizer(lr=1e-3, schedule="constant", eps=1e-3),
        "reduction": "token",
        "clip": Clip(0.2, 0.28),
    }
    return own | options


def module(triplet: Triplet = STRONG, **options: Any) -> WatchedTAPO:
    return WatchedTAPO(triplet=triplet, **settings(**options))


class MeasuredTAPO(Measured, WatchedTAPO):
    pass


class Plain(MeasuredTAPO):
    """The slow twin: every completion behind a copy of its prompt, the loss as the paper writes it."""

    def _loss(self, micro_batch: RolloutRows) -> torch.Tensor:
        total = torch.zeros(())
        for group in self.last_rollouts.groups:  # pyright: ignore[reportOptionalMemberAccess]
            rollout = group.rollout
            for n, completion in enumerate(rollout.completions):
                if not len(completion.ids):
                    continue
                own = rollout.positive if rollout.role_of(n) == "positive" else None
                logp = self._alone(own.prompt if own else rollout.prompt, completion.ids)
                assert rollout.negative is not None
                m = self._alone(rollout.negative.prompt, completion.ids)
                m = m.detach() if self.triplet.negative == "detached" else m
                ratio = (logp - logp.detach()).exp()
                loss = -group.advantages[n] * ratio - self.triplet.gamma * divergence(logp, m)
                total = total + (loss - self.triplet.eta1 * logp - self.triplet.eta2 * m).sum()
        (tokens,) = {round(1 / float(weight), 3) for weight in micro_batch.weights}
        return total / tokens

    def _alone(self, prompt: Any, ids: torch.Tensor) -> torch.Tensor:
        rows = one_row_per_completion([prompt], [[ids]], 0)
        return self.trained_policy.completion_logprobs(rows, self.sampling.temperature)[0]


class Tempered(Plain):
    """The temperature by hand, from the logits of a plain forward."""

    def _alone(self, prompt: Any, ids: torch.Tensor) -> torch.Tensor:
        policy, row = self.trained_policy, torch.cat([prompt.input_ids, ids])[None]
        logits = policy.base(
            input_ids=row,
            mm_token_type_ids=(row == policy.processor.image_token).int(),
            pixel_values=policy.processor.pixel_values(prompt.images),
            image_grid_thw=prompt.images.grid_thw,
        ).logits[0, len(prompt.input_ids) - 1 : -1]
        logits = logits.index_fill(1, torch.as_tensor(policy.processor.vision_token_ids), -torch.inf)
        return (logits / self.sampling.temperature).log_softmax(-1).gather(1, ids[:, None])[:, 0]


def gradient(
    of: type[MeasuredTAPO] = MeasuredTAPO, triplet: Triplet = STRONG, fitting: Any = None, **options: Any
) -> torch.Tensor:
    """That of one update, before the optimiser: all of what the update is."""
    made = of(triplet=triplet, **settings(optimizer=Optimizer(max_grad_norm=1e9), **options))
    torch.manual_seed(0)  # adapters begin at random
    made.configure_model()  # here too, so that what is trained has somewhere to come back to
    trained = {f"policy.{name}" for name, _ in made.trained_policy.trainable()}
    data = Triplets(family=options.get("family", "qwen2_5_vl"))
    fitting = {"max_steps": 1, "data": data} | (fitting or {})
    state = fit_triplets(made, REPLIES, **fitting)
    return torch.cat([value.flatten() for name, value in state.items() if name in trained])


def near(one: torch.Tensor, other: torch.Tensor, bound: float = 1e-6) -> bool:
    return bool((one - other).norm() <= bound * other.norm()) and bool(other.norm() > 0)


@pytest.mark.parametrize(  # every two of these together
    ("family", "negative", "lora"),
    [
        ("qwen2_5_vl", "detached", None),
        ("qwen2_5_vl", "full", LoRA(rank=4, alpha=8.0)),
        ("qwen3_vl", "detached", LoRA(rank=4, alpha=8.0)),
        ("qwen3_vl", "full", None),
    ],
)
def test_gradients_are_those_of_plain_forwards_under_photos_of_three_sizes(family, negative, lora):
    triplet = Triplet(gamma=0.5, eta1=0.1, eta2=0.1, negative=negative)
    options = {"family": family, "lora": lora, "micro_batch_tokens": 100_000}
    assert near(gradient(triplet=triplet, **options), gradient(Plain, triplet, **options), 2e-6)


@pytest.mark.parametrize("negative", ["detached", "full"])
def test_all_log_probs_are_those_of_the_distribution_that_is_sampled(negative):
    """Both of a divergence have the temperature of sampling, so that equal photos are no apart at any."""
    warm = Sampling(group_size=4, max_new_tokens=24, positives=2, temperature=1.7)
    triplet = Triplet(gamma=0.5, eta1=0.1, eta2=0.1, negative=negative)
    found = gradient(triplet=triplet, sampling=warm, micro_batch_tokens=100_000)
    assert near(found, gradient(Tempered, triplet, sampling=warm, micro_batch_tokens=100_000), 2e-6)
    assert not near(found, gradient(triplet=triplet, micro_batch_tokens=100_000), 1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positives": 4, "triplet": Triplet(gamma=0.5, negative="full", eta2=0.1)},
        {"positives": 1, "positive_conditioning": "anchor"},
        {"freeze": ("vision", "projector"), "reduction": "sequence"},
        {"triplet": Triplet(gamma=0.5, scope="correct_only")},
    ],
)
def test_every_cut_gives_the_same_gradient(options):
    whole, *others = [gradient(micro_batch_tokens=tokens, **options) for tokens in (100_000, 300, 1)]
    assert all(near(other, whole) for other in others)


@pytest.mark.filterwarnings("ignore:.*You are using.*DDP.*")
@pytest.mark.parametrize("negative", ["detached", pytest.param("full", marks=pytest.mark.slow)])
def test_two_ranks_have_the_gradient_of_one(negative):
    triplet = Triplet(gamma=0.5, eta1=0.1, negative=negative)
    alone = gradient(triplet=triplet, micro_batch_tokens=200)
    together = gradient(triplet=triplet, micro_batch_tokens=200, fitting={"devices": 2, "strategy": ranks_strategy()})
    assert near(together, alone)


@pytest.mark.parametrize("options", [{}, {"updates": 2, "epochs": 2}])
def test_with_both_parts_off_it_is_dapo_to_the_last_bit(options):
    states = []
    for made in (Watched(**settings(positives=0, **options)), module(OFF, positives=0, **options)):
        states.append(fit_triplets(made, REPLIES, max_steps=2 * options.get("updates", 1) * options.get("epochs", 1)))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_detached_second_entropy_changes_nothing():
    states = [fit_triplets(module(Triplet(gamma=0.5, eta2=eta)), REPLIES) for eta in (0.0, 0.7)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    through = fit_triplets(module(Triplet(gamma=0.5, eta2=0.7, negative="full")), REPLIES)
    assert any(not torch.equal(states[0][name], through[name]) for name in through)


class OwnNegatives(Triplets):
    """Each example's negative is its own photo."""

    def train_dataloader(self):
        loader: Any = super().train_dataloader()
        for batch in loader.dataset.batches:
            for number in range(5):
                rows = batch.rows_of(number)
                batch.input_ids[rows["negative"]] = batch.input_ids[rows["anchor"]]
                batch.attention_mask[rows["negative"]] = batch.attention_mask[rows["anchor"]]
                batch.positions[:, rows["negative"]] = batch.positions[:, rows["anchor"]]
            images = [batch.prompt(row).images for row in range(5)]
            positives = [batch.prompt(row).images for row in range(5, 10)]
            joined = [*images, *positives, *images]
            object.__setattr__(batch.images, "patches", torch.cat([one.patches for one in joined]))
            object.__setattr__(batch.images, "grid_thw", torch.cat([one.grid_thw for one in joined]))
        return loader


def test_a_negative_that_is_the_anchor_itself_has_no_divergence_and_no_gradient():
    equal = {uid: [WRONG] * 4 for uid in REPLIES}  # nothing to learn from the reward
    tapo = module(Triplet(gamma=5.0, eta1=0.0), positives=0)
    fresh = module(positives=0)
    fresh.configure_model()
    before = fresh.state_dict()
    after = fit_triplets(tapo, equal, data=OwnNegatives())
    assert [step["divergence"] for step in tapo.logged] == [0.0, 0.0]
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("positives", range(5))
@pytest.mark.parametrize("conditioning", ["own", "anchor"])
def test_any_split_works_and_a_group_has_a_row_for_each_photo_it_is_learned_behind(positives, conditioning):
    tapo = module(positives=positives, positive_conditioning=conditioning)
    fit_triplets(tapo, REPLIES | {"u2": [RIGHT, WRONG, WRONG, RIGHT]})  # none without a token
    assert tapo.last_rollouts is not None
    (update,) = tapo.last_rollouts.updates
    rows = sum(len(entry.rows.segments) for entry in update.micro_batches)
    assert rows == 5 * (2 if conditioning == "own" and 0 < positives < 4 else 1)
    assert sum(len(entry.negative.segments) for entry in update.micro_batches if entry.negative) == 5
    assert tapo.logged[-1]["divergence"] > 0
    assert ("triplets/exact/positive" in tapo.logged[-1]) == (positives > 0)
    assert ("triplets/exact/anchor" in tapo.logged[-1]) == (0 < positives < 4)
    known = tapo.logged[0]["sampling/sampling_logp_difference/max"]
    assert (known == 0) == (conditioning == "anchor" and positives == 4)  # scripted replies have log-probs of 0


def test_the_divergence_rises_and_both_photos_are_reported_apart():
    tapo = module(Triplet(gamma=2.0, eta1=0.0), optimizer=Optimizer(lr=1e-3, schedule="constant"))
    fit_triplets(tapo, REPLIES, max_steps=3)
    first, last = tapo.logged[0], tapo.logged[-1]
    assert last["divergence"] > first["divergence"]
    assert first["triplets/gamma"] == 2.0
    assert first["triplets/entropy"] > 0 < first["triplets/negative_entropy"]
    # of each four replies the last two are the positive's: RIGHT are 1 of 2 + 0 + 1 + 1 + 1, and 0 + 0 + 1 + 0 + 0
    assert first["triplets/exact/anchor"] == pytest.approx(4 / 10)
    assert first["triplets/exact/positive"] == pytest.approx(1 / 9)  # one reply has no token, so no reward
    assert first["triplets/without_positive"] == first["triplets/without_negative"] == 0


def test_examples_without_a_partner_are_counted_and_answer_about_themselves():
    data = Triplets({0: ("positive",), 1: ("negative",), 2: ("positive", "negative")})
    tapo = module()
    fit_triplets(tapo, REPLIES, data=data)
    assert tapo.logged[0]["triplets/without_positive"] == 2
    assert tapo.logged[0]["triplets/without_negative"] == 2
    assert tapo.last_rollouts is not None
    (update,) = tapo.last_rollouts.updates
    (entry,) = update.micro_batches
    assert entry.negative is not None
    assert entry.compared is not None
    assert len(entry.rows.segments) == 5 + 3
    assert len(entry.negative.segments) == 3
    assert int(entry.compared.sum()) == len(entry.negative.target_ids) < len(entry.compared)
    assert torch.equal(entry.rows.target_ids[entry.compared], entry.negative.target_ids)


def test_data_without_partners_are_refused_with_a_sentence():
    nobody: dict[int, Sequence[Any]] = dict.fromkeys(range(5), ("positive", "negative"))
    data = Triplets(nobody)
    data.steps = 6
    with pytest.raises(UserError, match=r"with a positive .* none of the first 20 has one: use fgvr\.datamodules"):
        fit_triplets(module(), REPLIES, data=data, max_steps=6)
    with pytest.raises(UserError, match=r"with a negative .* or set triplet\.gamma and triplet\.eta2 to 0"):
        fit_triplets(module(positives=0), REPLIES, data=data, max_steps=6)
    fit_triplets(module(OFF, positives=0), REPLIES, data=data, max_steps=6)


def test_only_right_answers_are_compared_where_so_asked():
    tapo = module(Triplet(scope="correct_only"))
    fit_triplets(tapo, REPLIES)
    assert tapo.last_rollouts is not None
    (entry,) = tapo.last_rollouts.updates[0].micro_batches
    right = len(tapo.processor.encode_target(RIGHT))
    assert entry.negative is not None
    assert len(entry.negative.target_ids) == 5 * right
    assert module(Triplet(scope="correct_only"), correct="format").compare == "format"
    assert module(Triplet(scope="correct_only"), group_filter=GroupFilter("format")).compare == "format"
    assert module(Triplet(scope="all"), correct="format").compare is None


def test_gamma_is_annealed_over_the_steps_of_the_run():
    tapo = module(Triplet(gamma=0.4, annealed_over=1.0))
    fit_triplets(tapo, REPLIES, max_steps=2)
    assert [step["triplets/gamma"] for step in tapo.logged] == pytest.approx([0.4, 0.2])  # 1 - 0/2, 1 - 1/2
    tapo = module(Triplet(annealed_over=0.5), group_filter=GroupFilter())
    with pytest.raises(UserError, match=r"set trainer\.max_steps"):
        fit_triplets(tapo, REPLIES, max_steps=-1, max_epochs=1)


def test_the_negative_is_read_once_before_the_first_of_several_updates_or_in_each():
    passes = {}
    for negative in ("detached", "full"):
        tapo = module(Triplet(negative=negative), updates=2, epochs=2)
        tapo.configure_model()
        seen: list[int] = []
        read = tapo._behind_negatives
        tapo._behind_negatives = lambda rows, read=read, seen=seen: (seen.append(len(rows.segments)), read(rows))[1]
        fit_triplets(tapo, REPLIES, max_steps=4)
        passes[negative] = sum(seen)
    assert passes == {"detached": 5, "full": 10}


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="component of the reward, \\['exact', 'format'\\], got 'accuracy'"):
        module(correct="accuracy")
    with pytest.raises(UserError, match="own or anchor, got 'both'"):
        module(positive_conditioning="both")
    with pytest.raises(UserError, match="from 0 to all of them, got 5"):
        module(positives=5)
