"""From labelled photos to thoughts that end in their labels: described, concepts chosen, reasoned, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fgvr.data.sections import Sections
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.names import Names
from fgvr.thoughts import prompts
from fgvr.thoughts.checks import Limits, checked
from fgvr.thoughts.concepts import Encoder, count_words, scores, select
from fgvr.thoughts.kept import KeptReplies
from fgvr.thoughts.teacher import Asked, Kind, NoReply, Photo, Teacher

OTHERS = 256  # descriptions of other photos that a concept is held against, evenly from all
NO_REPLY = "no reply"
Progress = Callable[[str, int, int], None]  # what is done, how many are, of how many


@dataclass(frozen=True)
class Recipe:
    """How much is asked of the teacher, and what is kept (Fine-R1, arXiv 2602.07605, section 3.2).

    `descriptions` of each photo, 0 for none and no concepts; `concepts` of each class; of these a photo's are those
    above the mean by `width` standard deviations, `least` at the least, at `temperature` of the score. A thought is
    asked for up to `attempts` times until it passes the checks of `limits`.
    """

    descriptions: int = 5
    concepts: int = 12
    width: float = 0.4
    least: int = 3
    temperature: float = 0.1
    attempts: int = 4
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        least = {"descriptions": 0, "concepts": 0, "least": 0, "attempts": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise UserError(f"recipe.{name} must be at least {lowest}, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise UserError(f"recipe.temperature must be above 0, got {self.temperature}")


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: its thought, or None; why each attempt was refused; the concepts that were told."""

    photo: Photo
    thought: Sections | None
    refused: tuple[str, ...]
    concepts: tuple[str, ...]


class Builder:
    """Asks one teacher about all photos, as many at once as it takes; a reply that is kept is not asked for again.

    `kind` is what all classes are ("bird"), `question` what a policy will be asked. `counts` has "asked" and "kept"
    replies and those that there were none of, by kind of question;
    `silence` is why there was none, at last.
    """

    def __init__(
        self, teacher: Teacher, kept: KeptReplies, names: Names, recipe: Recipe, kind: str, question: str,
        encode: Encoder = count_words,
    ) -> None:  # fmt: skip
        self.teacher, self.kept, self.names, self.recipe = teacher, kept, names, recipe
        self.kind, self.question, self.encode = kind, question, encode
        self.counts, self.silence = Counter[str](), ""

    def build(self, photos: Sequence[Photo], progress: Progress = lambda what, done, planned: None) -> list[Outcome]:
        """One outcome for each photo, in their order. Raises UserError as the teacher does."""
        with ThreadPoolExecutor(self.teacher.concurrency) as pool:
            told = self._concepts(pool, photos, progress)
            found = pool.map(self._reason, photos, told)
            outcomes: list[Outcome] = []
            try:
                for outcome in found:
                    outcomes.append(outcome)
                    progress("reasoning about photos", len(outcomes), len(photos))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return outcomes

    def _concepts(self, pool: ThreadPoolExecutor, photos: Sequence[Photo], progress: Progress) -> list[tuple[str, ...]]:
        """What each photo shows of what its class looks like; nothing where either was not to be had."""
        if not (self.recipe.descriptions and self.recipe.concepts):
            return [()] * len(photos)
        first = list({photo.label: photo for photo in photos}.values())
        listed = dict(zip((photo.label for photo in first), pool.map(self._listed, first), strict=True))
        described: list[list[str]] = []
        for one in pool.map(self._described, photos):
            described.append(one)
            progress("describing photos", len(described), len(photos))
        vectors = [self.encode(texts) if texts else np.zeros((0, 1)) for texts in described]
        return [self._selected(listed[photo.label], place, vectors) for place, photo in enumerate(photos)]

    def _selected(self, concepts: list[str], place: int, described: list[np.ndarray]) -> tuple[str, ...]:
        if not concepts or not len(described[place]):
            self.counts["without concepts"] += 1
            return ()
        others = _others(described, place)
        told = scores(self.encode(concepts), described[place], others, self.recipe.temperature)
        return tuple(concepts[number] for number in select(told, self.recipe.width, self.recipe.least))

    def _listed(self, photo: Photo) -> list[str]:
        text = prompts.concepts(self.kind, photo.label, self.recipe.concepts)
        reply = self._reply("concepts", text, photo, 0)
        lines = (line.strip(" -*•.\t") for line in (reply or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))[: 2 * self.recipe.concepts]

    def _described(self, photo: Photo) -> list[str]:
        asked = (
            self._reply("description", prompts.description(self.kind, number), photo, number)
            for number in range(self.recipe.descriptions)
        )
        return [text for text in asked if text]

    def _reason(self, photo: Photo, concepts: tuple[str, ...]) -> Outcome:
        text = prompts.thought(self.kind, self.question, photo.label, concepts)
        refused: list[str] = []
        for number in range(self.recipe.attempts):
            reply = self._reply("thought", text, photo, number, concepts)
            try:
                if reply is None:
                    raise SampleError(NO_REPLY)
                return Outcome(photo, checked(reply, photo, self.names, self.recipe.limits), tuple(refused), concepts)
            except SampleError as error:
                refused.append(str(error))
        return Outcome(photo, None, tuple(refused), concepts)

    def _reply(self, kind: Kind, text: str, photo: Photo, number: int, concepts: tuple[str, ...] = ()) -> str | None:
        asked = Asked(kind, text, photo, number, concepts)
        key = asked.key(self.teacher.identity)
        known = self.kept.get(key)
        if known is not None:
            self.counts[f"{kind} kept"] += 1
            return known
        try:
            said = self.teacher.reply(asked)
        except NoReply as failure:
            self.counts[f"{kind} without reply"] += 1
            self.silence = str(failure)
            return None
        self.kept.put(key, said)
        self.counts[f"{kind} asked"] += 1
        return said


def _others(described: Sequence[np.ndarray], place: int) -> np.ndarray:
    """Descriptions of all photos but the one at `place`, or OTHERS of them, evenly from all, picked without a copy of
    the rest: thousands of photos are each held against the others."""
    sizes = np.array([0 if number == place else len(one) for number, one in enumerate(described)])
    ends = sizes.cumsum()
    count = int(ends[-1])
    picked = range(count) if count <= OTHERS else [number * count // OTHERS for number in range(OTHERS)]
    rows = []
    for number in picked:
        photo = int(np.searchsorted(ends, number, side="right"))
        rows.append(described[photo][number - ends[photo] + sizes[photo]])
    return np.stack(rows) if rows else np.zeros((0, described[place].shape[1]))
