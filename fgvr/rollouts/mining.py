"""Many replies to each photo of a set, into a store: batch after batch, in an order that no interruption changes."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.tasks import Task
from fgvr.errors import SampleError, UserError
from fgvr.models import PixelBudget, Policy
from fgvr.models.memory import is_out_of_memory
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import whole
from fgvr.options.store import Made, ReplyStore, Sampled, read_store
from fgvr.options.votes import Reply
from fgvr.ranks import Ranks
from fgvr.rollouts.engine import RolloutEngine
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import key_of
from fgvr.shards.reading import ShardSet
from fgvr.types import Completion, EncodedPrompt, Example, ReadRecord
from fgvr.watchdog.beats import SAMPLING, beat

DIGITS = 4  # of a log-prob that is kept, in nats: what is below differs from one batch shape to the next
ALONE = Ranks()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    """A photo's prompt, and its place in the order, which its seed is made of."""

    place: int
    example: Example
    prompt: EncodedPrompt


@dataclass(frozen=True)
class Miner:
    """Samples `sampling.group_size` replies to each photo with one reading of its prompt. Runs without a Trainer.

    `task` is bound to the taxonomy. What is sampled belongs to `seed` and the photo's place. Where memory does not hold
    a batch it is halved, down to one photo; then that one's replies are sampled in parts, each with a seed of its own,
    and the store says so. A photo for which not even one reply has room is refused, as is one that cannot be read.
    Raises UserError for positives: replies are sampled from the photo itself.
    """

    policy: Policy
    engine: RolloutEngine
    task: Task
    sampling: Sampling
    seed: int = 0
    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        refuse_positives(self.sampling)

    def mine(
        self,
        photos: ShardSet,
        numbers: Sequence[int],
        store: ReplyStore,
        tell: Callable[[int, int], None] = lambda done, planned: None,
    ) -> None:
        """Goes on where the store ends, through the photos with these numbers; tells how many are done of how many.

        `numbers` are as many as the store was made for.
        """
        self._fill(photos, numbers, store, store.made, tell)

    def mine_together(
        self, photos: ShardSet, numbers: Sequence[int], file: Path, made: Made, ranks: Ranks, rank: int
    ) -> list[Sampled]:
        """As `mine`, with each batch shared out among `ranks`, of which the first one writes; all get the replies.

        A collective call.
        """
        with ranks.agree(lambda: ReplyStore(file, made) if rank == 0 else nullcontext()) as store:
            self._fill(photos, numbers, store, made, ranks=ranks, rank=rank)
        (replies,) = ranks.gather([read_store(file)[1]] if rank == 0 else [])
        return replies

    def _fill(
        self,
        photos: ShardSet,
        numbers: Sequence[int],
        store: ReplyStore | None,
        made: Made,
        tell: Callable[[int, int], None] = lambda done, planned: None,
        ranks: Ranks = ALONE,
        rank: int = 0,
    ) -> None:
        self.engine.sync(self.policy)
        labels = photos.labels()
        (done,) = ranks.gather([] if store is None else [store.done])
        tell(done, len(numbers))
        self.policy.weights_stay(True)
        try:
            while done < len(numbers):
                places = range(done, min(done + made.at_once, len(numbers)))
                own = self.sampled(photos, {place: numbers[place] for place in places[rank :: ranks.world]})
                found = dict(ranks.gather(list(own.items())))
                if store is not None:
                    store.append([_with_class(found[place], labels[numbers[place]], made) for place in places])
                done += len(places)
                tell(done, len(numbers))
        finally:
            self.policy.weights_stay(False)

    def sampled(self, photos: ShardSet, numbers: Mapping[int, int]) -> dict[int, Sampled]:
        """One batch of photos with their replies; numbers and replies are by place in the order."""
        found: dict[int, Sampled] = {}
        questions: list[_Question] = []
        for place, number in numbers.items():
            try:
                questions.append(self._asked(photos.read(number), place))
            except SampleError as error:
                found[place] = Sampled(photos.uid(number), "", "", "", refused=str(error))
        for question, completions in zip(questions, self._replies(questions, self.sampling.group_size), strict=True):
            found[question.place] = self._kept(question.example, completions)
        for photo in found.values():
            if photo.refused:
                log.warning("left out of mining: %s: %s", photo.uid, photo.refused)
        return {place: found[place] for place in numbers}

    def _asked(self, example: Example, place: int) -> _Question:
        rng = random.Random(key_of(self.seed, "encode", 0, place))
        encode = PromptEncode(self.policy.processor, self.task, self.max_prompt_tokens)
        shown, prompt = encode(replace(example, positive=None, negative=None), rng)
        return _Question(place, shown, prompt)

    def _replies(self, questions: Sequence[_Question], count: int, part: int = 0) -> list[list[list[Completion]]]:
        """The completions of each question, in the parts that memory allows; none where it allows no reply at all."""
        if not questions:
            return []
        try:
            return [[group] for group in self._sample(questions, count, part)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
        # only here has the error let go of what filled the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(questions) // 2
        if half:
            log.warning("Memory does not hold %d photos at a time: they are halved (%s).", len(questions), said)
            return [*self._replies(questions[:half], count, part), *self._replies(questions[half:], count, part)]
        if count == 1:
            log.warning("Memory does not hold one reply to %s (%s).", questions[0].example.uid, said)
            return [[]]
        log.warning("Memory does not hold %d replies at a time: they are halved (%s).", count, said)
        first, second = (
            self._replies(questions, size, 2 * part + turn) for turn, size in ((1, count // 2), (2, count - count // 2))
        )
        return [[*first[0], *second[0]] if first[0] and second[0] else []]

    def _sample(self, questions: Sequence[_Question], count: int, part: int) -> list[list[Completion]]:
        places = tuple(question.place for question in questions)
        record = ReadRecord(0, 0, places, tuple(question.example.uid for question in questions))
        processor = self.policy.processor
        collate = PromptCollate(processor.padding_token, processor.image_token)
        batch = collate([(question.example, question.prompt) for question in questions], record)
        batch = batch.to(next(self.policy.parameters()).device)
        seeds = [key_of(self.seed, "mine", place, *([part] if part else [])) for place in places]
        sampling = replace(self.sampling, group_size=count)
        beat(SAMPLING)
        groups = self.engine.sample(self.policy, batch, sampling, seeds)
        return [group.completions for group in groups]

    def _kept(self, example: Example, parts: Sequence[Sequence[Completion]]) -> Sampled:
        refused = "" if parts else "memory does not hold one reply: lower pixels.max or max_new_tokens"
        replies = tuple(self._reply(one, example) for part in parts for one in part)
        picture = hashlib.sha256(example.images[0]).hexdigest()
        return Sampled(example.uid, example.label, example.cohort, picture, replies, refused, max(1, len(parts)))

    def _reply(self, completion: Completion, example: Example) -> Reply:
        answer = self.task.parse(completion.text, example)
        logprob = round(float(completion.logprobs.double().sum()), DIGITS)
        return Reply(completion.text, None if answer is None else answer.text, logprob, len(completion.ids))


def _with_class(photo: Sampled, label: str, made: Made) -> Sampled:
    """What the index says of a photo that could not be read, so that it counts where it belongs."""
    return replace(photo, label=label, cohort=made.classes[label])


def made_of(
    model: str,
    task: Task,
    pixels: PixelBudget | None,
    sampling: Sampling,
    seed: int,
    photos: ShardSet,
    numbers: Sequence[int],
    at_once: int,
) -> Made:
    """What a store of replies of `model`, a digest, is made with; `numbers` are the photos that are asked about."""
    manifest = load_manifest(photos.folder)
    return Made(
        model=model,
        # what decides what is asked and how large the photo is: the task's settings, its wording, the pixels
        prompt=digest_of([type(task).__name__, vars(task), task.instruction(), pixels and asdict(pixels)]),
        sampling=told(sampling),
        seed=seed,
        data=digest_of([photos.fingerprint, numbers]),
        split=photos.split,
        cohorts=photos.cohorts,
        photos=len(numbers),
        at_once=at_once,
        dataset=manifest.dataset,
        taxonomy=manifest.taxonomy,
        classes=manifest.cohorts,
    )


def refuse_positives(sampling: Sampling) -> None:
    """Raises UserError for replies that are to be sampled from another photo than the one which is asked about."""
    if sampling.positives:
        raise UserError(
            "every reply that is mined is sampled from the photo itself, so that sampling.positives must be left out, "
            f"got {sampling.positives}"
        )


def told(sampling: Sampling) -> dict[str, float]:
    """What a store says of how its replies were sampled."""
    return {
        "k": sampling.group_size,
        "temperature": sampling.temperature,
        "max_new_tokens": sampling.max_new_tokens,
    }


def digest_of(value: Any) -> str:
    """Of a value as JSON; what JSON has no word for counts by its type's name."""
    text = json.dumps(value, sort_keys=True, default=lambda other: type(other).__name__)
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(policy: Policy) -> str:
    """Of the weights as they are now: what they were made of, and each that is trained, bit by bit.

    The same however many processes share the weights. A collective call where they do.
    """
    digest = hashlib.sha256(json.dumps(policy.config.backbone.origin(), sort_keys=True).encode())
    for name, weight in policy.trainable():
        digest.update(name.encode())
        digest.update(whole(weight.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
