"""Two-step inference: sample names, then choose among the likeliest of them (DiVE-k, arXiv 2511.18305)."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from fgvr.data.choosing import LETTERS, NONE
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import Task, format_answer, parse_completion
from fgvr.errors import SampleError, UserError, refuse_below
from fgvr.kernels.group_packing import join_features, join_images, pack_groups, split_features
from fgvr.models import Policy
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import ReadPrompts, Written
from fgvr.options.votes import Reply, Tally, cut, tally
from fgvr.shards.order import key_of
from fgvr.taxonomy.names import Names
from fgvr.types import EncodedPrompt, Example, ImageFeatures, PromptBatch

Gate = Literal["asked", "unanimous", "margin", "one name", "nothing read"]
Source = Literal["choice", "vote", "abstain"]


@dataclass(frozen=True)
class TwoStep:
    """How a photo is named in two steps.

    `samples` replies are drawn at `temperature`, up to `max_new_tokens` each (None takes the module's), and their
    `options` most voted names make the question. It is not asked where all replies agree, nor, with a `margin`, where
    the first name leads the second by at least that share of all replies. It is asked in `rotations` orders, each name
    once at each place when there are as many as options (None): so no letter is favoured. Options that are not told
    have no order, and it is asked once. `seed` and a photo's uid decide what is drawn. At most `max_rows` replies are
    written at a time, or the `samples` of one photo where these are more. Raises UserError outside the ranges.
    """

    samples: int = 20
    options: int = 5
    temperature: float = 1.0
    max_new_tokens: int | None = None
    margin: float | None = None
    rotations: int | None = None
    seed: int = 0
    max_rows: int = 512

    def __post_init__(self) -> None:
        if self.samples < 2 or self.max_rows < 1:
            raise UserError(
                f"two steps need samples of at least 2 and max_rows of at least 1, got {self.samples}, {self.max_rows}"
            )
        ClosedWorld(self.options, letters=True)  # as many as there are letters
        if self.margin is not None and not 0 < self.margin <= 1:
            raise UserError(f"margin is a share of the replies, above 0 and at most 1, or null, got {self.margin}")
        if self.rotations is not None and not 1 <= self.rotations <= self.options:
            raise UserError(
                f"rotations lie between 1 and the {self.options} options, or are null, got {self.rotations}"
            )
        refuse_below(1, "two steps", max_new_tokens=self.max_new_tokens)
        self.sampling(1)

    def sampling(self, max_new_tokens: int) -> Sampling:
        return Sampling(self.samples, self.temperature, self.longest(max_new_tokens))

    def longest(self, max_new_tokens: int) -> int:
        """How many tokens a reply may have, where others have `max_new_tokens`."""
        return max_new_tokens if self.max_new_tokens is None else self.max_new_tokens

    def fits(self, choice: ClosedWorld) -> None:
        """Raises UserError for more options than a choice has letters for."""
        shown = self.options + bool(choice.none_of_these)
        if choice.letters and shown > len(LETTERS):
            raise UserError(
                f"the plan's {self.options} options and {NONE!r} need {shown} letters, but there are {len(LETTERS)}: "
                "lower plan.options, or set the choice's none_of_these to 0 or its letters to false"
            )


@dataclass(frozen=True)
class Question:
    """One order of the options, the reply to it, and what it says.

    `chosen` is None where it names no option. `probabilities` are those of the options' answers behind the reply's own
    thought, among themselves, in the order shown; empty where the reply broke the grammar.
    """

    shown: tuple[str, ...]
    reply: str
    chosen: str | None
    probabilities: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Decision:
    """How one photo got its name, or None where nobody could say: by the choice, else by the vote, else not at all.

    `confidence` is the share of all replies that gave the name, times its probability among the options, averaged over
    the questions that were answered, 1/m where none of those asked was; 0 without a name. `votes` accounts for every
    reply; `vote` is the most voted name.
    """

    example: Example
    replies: list[Reply]
    votes: Tally
    options: list[str]
    gate: Gate
    answer: str | None
    by: Source
    confidence: float
    questions: list[Question] = field(default_factory=list[Question])

    @property
    def vote(self) -> str | None:
        return self.votes.ranked[0].name if self.votes.ranked else None

    @property
    def sampled_tokens(self) -> int:
        return sum(reply.tokens for reply in self.replies)

    @property
    def choosing_tokens(self) -> int:
        return sum(question.tokens for question in self.questions)


@torch.no_grad()
def two_step(
    policy: Policy,
    batch: PromptBatch,
    task: Task,
    choice: ClosedWorld,
    plan: TwoStep,
    max_new_tokens: int = 64,
    scope: Collection[str] | None = None,
) -> list[Decision]:
    """One decision for each example, in order. `task` asks for the names, `choice` among them; both are bound.

    `scope` has the names that may be options, None is any; how many are shown is the plan's, not the choice's own
    `options`. Labels are never looked at. Each photo goes through the
    vision tower once for both steps, and what the two ask in the same words, up to the options, is read once.
    """
    if choice.names is None:
        raise ValueError("the choice must know the names: call bind(taxonomy), use what it returns")
    plan.fits(choice)
    was_training = policy.training
    policy.eval()
    try:
        photos, at_a_time = _photos(policy, batch), max(1, plan.max_rows // plan.samples)
        steps = _Steps(policy, policy.decoder(), task, choice, choice.names, plan, max_new_tokens, scope)
        starts = range(0, len(photos), at_a_time)
        return [decision for start in starts for decision in steps.decisions(photos[start : start + at_a_time])]
    finally:
        policy.train(was_training)


def read_reply(task: Task, example: Example, text: str, logprobs: Tensor) -> Reply:
    """A sampled reply as it votes; `logprobs` are those of its tokens, in nats."""
    answer = task.parse(text, example)
    return Reply(text, None if answer is None else answer.text, float(logprobs.double().sum()), len(logprobs))


def voted(
    example: Example, replies: list[Reply], names: Names, plan: TwoStep, scope: Collection[str] | None = None
) -> Decision:
    """The decision as the vote alone would make it; its gate says whether a question is to follow."""
    votes = tally(replies, names, scope)
    gate = gate_of(votes, plan.margin)
    if not votes.ranked:
        return Decision(example, replies, votes, [], gate, None, "abstain", 0.0)
    first, options = votes.ranked[0], cut(votes.ranked, plan.options)
    return Decision(example, replies, votes, options, gate, first.name, "vote", first.votes / votes.replies)


def gate_of(votes: Tally, margin: float | None) -> Gate:
    """Why the question is not asked, or "asked"."""
    if not votes.ranked:
        return "nothing read"
    if len(votes.ranked) == 1:
        return "unanimous" if votes.unanimous else "one name"
    return "margin" if margin is not None and votes.margin >= margin else "asked"


def decide(before: Decision, questions: Sequence[Question]) -> Decision:
    """The choice of the questions that were answered; the vote stands where none was, or "none of these" abstains.

    Where one question was asked its own choice counts; of several orders, the option with the highest mean probability
    over those that were answered, the better ranked of equals. An answer that cannot be read is worth no more than a
    guess: the vote's confidence is then divided by the number of options.
    """
    read = [question for question in questions if question.chosen is not None]
    if not read:
        guessed = before.confidence / max(len(question.shown) for question in questions)
        return replace(before, questions=list(questions), confidence=guessed)
    names = [*before.options, *(NONE for one in read[:1] if NONE in one.shown)]
    mean = {name: math.fsum(q.probabilities[q.shown.index(name)] for q in read) / len(read) for name in names}
    name = read[0].chosen if len(questions) == 1 else max(names, key=mean.__getitem__)
    if name is None or name == NONE:
        return replace(before, questions=list(questions), answer=None, by="abstain", confidence=0.0)
    votes = next(one.votes for one in before.votes.ranked if one.name == name)
    confidence = votes / before.votes.replies * mean[name]
    return replace(before, questions=list(questions), answer=name, by="choice", confidence=confidence)


@dataclass(frozen=True)
class _Photo:
    """A photo and what is asked about it."""

    example: Example
    prompt: EncodedPrompt
    features: ImageFeatures


def _photos(policy: Policy, batch: PromptBatch) -> list[_Photo]:
    prompts = [batch.prompt(row) for row in range(len(batch.examples))]
    if not prompts:
        return []
    image = policy.processor.image_token
    tokens = [int((prompt.input_ids == image).sum()) for prompt in prompts]
    features = split_features(policy.image_features(join_images([prompt.images for prompt in prompts])), tokens)
    return [_Photo(*each) for each in zip(batch.examples, prompts, features, strict=True)]


@dataclass(frozen=True)
class _Steps:
    """Both steps with some photos, whose prompts' keys and values are kept from the first to the second."""

    policy: Policy
    decoder: Decoder
    task: Task
    choice: ClosedWorld
    names: Names
    plan: TwoStep
    max_new_tokens: int
    scope: Collection[str] | None

    def decisions(self, photos: Sequence[_Photo]) -> list[Decision]:
        read = self._read(photos)
        replies = self._replies(photos, read.kept())
        voted = [self._voted(photo.example, own) for photo, own in zip(photos, replies, strict=True)]
        return self._choose(photos, read, voted)

    def _read(self, photos: Sequence[_Photo]) -> ReadPrompts:
        return self.policy.read([photo.prompt for photo in photos], join_features([photo.features for photo in photos]))

    def _replies(self, photos: Sequence[_Photo], read: ReadPrompts) -> list[list[Reply]]:
        seeds = [key_of(self.plan.seed, "two steps", photo.example.uid) for photo in photos]
        sampling = self.plan.sampling(self.max_new_tokens)
        found = dict(self.policy.write_after(self.decoder, read, sampling, seeds))
        return [[self._reply(photo.example, one) for one in found[n]] for n, photo in enumerate(photos)]

    def _reply(self, example: Example, written: Written) -> Reply:
        assert written.logprobs is not None  # as it was drawn
        text = self.policy.processor.decode(written.ids.tolist())
        return read_reply(self.task, example, text, written.logprobs)

    def _voted(self, example: Example, replies: list[Reply]) -> Decision:
        """The decision as the vote alone would make it, and whether a question is to follow."""
        return voted(example, replies, self.names, self.plan, self.scope)

    def _choose(self, photos: Sequence[_Photo], read: ReadPrompts, voted: Sequence[Decision]) -> list[Decision]:
        orders = [(n, order) for n, one in enumerate(voted) if one.gate == "asked" for order in self._orders(one)]
        questions: dict[int, list[Question]] = {}
        for start in range(0, len(orders), self.plan.max_rows):
            part = orders[start : start + self.plan.max_rows]
            asked = [self._asked(photos[n], order) for n, order in part]
            written = self._answers(read, [n for n, _ in part], asked)
            for (n, _), photo, own in zip(part, asked, written, strict=True):
                questions.setdefault(n, []).append(self._question(photo, own))
        return [decide(one, questions[n]) if n in questions else one for n, one in enumerate(voted)]

    def _answers(self, read: ReadPrompts, of: Sequence[int], asked: Sequence[_Photo]) -> list[Written]:
        """The likeliest reply to each question; `of` says about which of the photos read it is."""
        greedy = Sampling(group_size=1, max_new_tokens=self.plan.longest(self.max_new_tokens))
        further = self.policy.read_on(read, of, [photo.prompt for photo in asked]) or self._read(asked)
        found = dict(self.policy.write_after(self.decoder, further, greedy))
        return [found[n][0] for n in range(len(asked))]

    def _orders(self, decision: Decision) -> list[tuple[str, ...]]:
        """The options in an order that the photo's uid draws, then turned on by one place for each further question."""
        drawn, names = random.Random(key_of(self.plan.seed, "options", decision.example.uid)), list(decision.options)
        drawn.shuffle(names)
        last = (NONE,) if self.choice.none_of_these else ()
        count = min(self.plan.rotations or len(names), len(names)) if self.choice.told else 1
        return [(*names[turn:], *names[:turn], *last) for turn in range(count)]

    def _asked(self, photo: _Photo, order: tuple[str, ...]) -> _Photo:
        example = replace(photo.example, extra=photo.example.extra | {"shown": list(order)})
        messages = self.choice.messages(example, random.Random(self.plan.seed))
        prompt = self.policy.processor.ask_again(messages, photo.prompt.images).to(photo.prompt.input_ids.device)
        return replace(photo, example=example, prompt=prompt)

    def _question(self, photo: _Photo, written: Written) -> Question:
        shown, text = self.choice.shown(photo.example), self.policy.processor.decode(written.ids.tolist())
        answer = self.choice.parse(text, photo.example)
        chosen = answer.text if answer is not None and answer.text in shown else None
        probabilities = () if chosen is None else self._probabilities(photo, text)
        return Question(shown, text, chosen if probabilities else None, probabilities, len(written.ids))

    def _probabilities(self, photo: _Photo, text: str) -> tuple[float, ...]:
        """Of each option's answer behind this reply's thought, among themselves; empty where one cannot be written."""
        said, shown = parse_completion(text), self.choice.shown(photo.example)
        assert said is not None
        thought = said.thought if said.thought or self.choice.think or self.choice.always_thinks else None
        encode = self.policy.processor.encode_target
        try:
            targets = [encode(format_answer(mark, thought)) for mark in self.choice.marks(shown)]
        except SampleError:  # a thought that spells a control token, or breaks off
            return ()
        alike = next(n for n, ids in enumerate(zip(*targets, strict=False)) if len({*ids}) > 1)  # the thought, mostly
        prompt, rest = _behind(photo.prompt, targets[0][:alike]), [torch.tensor(ids[alike:]) for ids in targets]
        rows = pack_groups([prompt], [rest], [photo.features], self.policy.processor.padding_token)
        rows = rows.to(prompt.input_ids.device)
        logprobs, _ = self.policy.completion_logprobs(rows)
        sums = torch.zeros(len(shown), dtype=torch.float64, device=logprobs.device)
        sums.index_add_(0, rows.target_sequence, logprobs.double())
        return tuple(sums.softmax(0).tolist())


def _behind(prompt: EncodedPrompt, ids: Sequence[int]) -> EncodedPrompt:
    """The prompt with the beginning of its answer, which is read once for all that go on from there."""
    after, device = int(prompt.positions.max()) + 1, prompt.input_ids.device
    tokens = torch.tensor(ids, dtype=torch.long, device=device)
    places = torch.arange(after, after + len(ids), device=device).expand(3, -1)
    together = torch.cat([prompt.input_ids, tokens]), torch.cat([prompt.positions, places], 1)
    return EncodedPrompt(*together, prompt.images)
