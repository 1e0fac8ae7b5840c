"""From labelled photos to thoughts that end in their labels: described, concepts chosen, reasoned, checked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from fgvr.data.sections import Sections
from fgvr.errors import SampleError, UserError, refuse_below
from fgvr.taxonomy.names import Names
from fgvr.thoughts import prompts
from fgvr.thoughts.checks import Limits, checked
from fgvr.thoughts.concepts import Encoder, count_words, rivals, scores, select
from fgvr.thoughts.kept import KeptReplies
from fgvr.thoughts.teacher import Asked, Photo, Teacher

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
        refuse_below(0, "recipe", descriptions=self.descriptions, concepts=self.concepts, least=self.least)
        refuse_below(1, "recipe", attempts=self.attempts)
        if not 0 < self.temperature < math.inf:
            raise UserError(f"recipe.temperature must be above 0 and finite, got {self.temperature}")
        if not math.isfinite(self.width):
            raise UserError(f"recipe.width counts standard deviations and must be finite, got {self.width}")


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: its thought, or None; why each attempt was refused; the concepts that were told.

    `instead` is the uid of the photo that it stands in for; empty where it was asked about from the start.
    """

    photo: Photo
    thought: Sections | None
    refused: tuple[str, ...]
    concepts: tuple[str, ...]
    instead: str = ""


class Builder:
    """Asks one teacher about all photos; a reply that is kept is not asked for again.

    `kind` is what all classes are ("bird"), `question` what a policy will be asked. `counts` has "asked" and "kept"
    replies and those that there were none of, by kind of question; `silence` is why there was none, at last. All that
    is asked together is asked in one order, so that a teacher who answers in batches meets the same ones after a kill.
    """

    def __init__(
        self, teacher: Teacher, kept: KeptReplies, names: Names, recipe: Recipe, kind: str, question: str,
        encode: Encoder = count_words,
    ) -> None:  # fmt: skip
        self.teacher, self.kept, self.names, self.recipe = teacher, kept, names, recipe
        self.kind, self.question, self.encode = kind, question, encode
        self.counts, self.silence = Counter[str](), ""
        self._listed: dict[str, list[str]] = {}  # what each class looks like
        self._described: list[Float[np.ndarray, "n d"]] = []  # the descriptions of each photo, as vectors

    def build(
        self,
        photos: Sequence[Photo],
        spares: Mapping[str, Iterator[Photo]] = {},
        progress: Progress = lambda what, done, planned: None,
    ) -> list[Outcome]:
        """One outcome for each photo, in their order; then for those of `spares` that stood in for one, in theirs.

        `spares` are further photos of a class. One stands in for a photo whose replies were all refused, but not where
        there was none: another photo would not bring the teacher back. Raises UserError as the teacher does.
        """
        outcomes: list[Outcome] = []
        wave = [(photo, "") for photo in photos]
        while wave:
            told = self._concepts([photo for photo, _ in wave], progress)
            found = self._reason(wave, told, progress)
            outcomes += found
            failed = [one for one in found if one.thought is None and set(one.refused) != {NO_REPLY}]
            others = ((next(spares.get(one.photo.label, iter(())), None), one.photo.uid) for one in failed)
            wave = [(photo, instead) for photo, instead in others if photo is not None]
        return outcomes

    def _concepts(self, photos: Sequence[Photo], progress: Progress) -> list[tuple[str, ...]]:
        """What each photo shows of what its class looks like; nothing where either was not to be had."""
        if not (self.recipe.descriptions and self.recipe.concepts):
            return [()] * len(photos)
        self._list({photo.label: photo for photo in reversed(photos) if photo.label not in self._listed})
        said: dict[tuple[int, int], str] = {}
        asked = [
            (place, number, Asked("description", prompts.description(self.kind, number), photo, number))
            for place, photo in enumerate(photos)
            for number in range(self.recipe.descriptions)
        ]
        done = 0

        def hear(which: int, reply: str | None) -> None:
            nonlocal done
            done += 1
            progress("describing photos", done, len(asked))
            if reply:
                said[asked[which][:2]] = reply

        self._ask([one for _, _, one in asked], hear)
        first = len(self._described)
        for place in range(len(photos)):
            texts = [said[key] for key in ((place, n) for n in range(self.recipe.descriptions)) if key in said]
            self._described.append(self.encode(texts) if texts else np.zeros((0, 1)))
        return [self._selected(photo, first + place) for place, photo in enumerate(photos)]

    def _list(self, first: Mapping[str, Photo]) -> None:
        """Has the teacher list what these classes look like; each by a photo of it, which is not shown."""
        asked = [
            Asked("concepts", prompts.concepts(self.kind, label, self.recipe.concepts), photo, 0)
            for label, photo in sorted(first.items())
        ]

        def hear(which: int, reply: str | None) -> None:
            lines = (line.strip(" -*•.\t") for line in (reply or "").splitlines())
            found = list(dict.fromkeys(line for line in lines if line))[: 2 * self.recipe.concepts]
            self._listed[asked[which].photo.label] = found

        self._ask(asked, hear)

    def _selected(self, photo: Photo, place: int) -> tuple[str, ...]:
        concepts, own = self._listed[photo.label], self._described[place]
        if not concepts or not len(own):
            return ()
        others = rivals(self._described, place)
        told = scores(self.encode(concepts), own, others, self.recipe.temperature)
        return tuple(concepts[number] for number in select(told, self.recipe.width, self.recipe.least))

    def _reason(
        self, wave: Sequence[tuple[Photo, str]], told: Sequence[tuple[str, ...]], progress: Progress
    ) -> list[Outcome]:
        """Round after round, of those alone that have no thought yet."""
        thoughts: dict[int, Sections] = {}
        refused: list[list[str]] = [[] for _ in wave]
        texts = [
            prompts.thought(self.kind, self.question, photo.label, seen)
            for (photo, _), seen in zip(wave, told, strict=True)
        ]
        for number in range(self.recipe.attempts):
            left = [place for place in range(len(wave)) if place not in thoughts]

            def hear(which: int, reply: str | None, left: list[int] = left) -> None:
                place = left[which]
                try:
                    if reply is None:
                        raise SampleError(NO_REPLY)
                    thoughts[place] = checked(reply, wave[place][0], self.names, self.recipe.limits)
                except SampleError as error:
                    refused[place].append(str(error))
                settled = len(thoughts) + sum(len(reasons) == self.recipe.attempts for reasons in refused)
                progress("reasoning about photos", settled, len(wave))

            self._ask([Asked("thought", texts[n], wave[n][0], number, told[n]) for n in left], hear)
        return [
            Outcome(photo, thoughts.get(place), tuple(refused[place]), told[place], instead)
            for place, (photo, instead) in enumerate(wave)
        ]

    def _ask(self, asked: Sequence[Asked], hear: Callable[[int, str | None], None]) -> None:
        """Lets `hear` know of the reply to each, in whatever order they come; None where there is none."""
        missing: dict[str, list[int]] = {}  # by key: what is alike is asked once
        for place, one in enumerate(asked):
            key = one.key(self.teacher.identity)
            known = self.kept.get(key)
            if known is None:
                missing.setdefault(key, []).append(place)
            else:
                self.counts[f"{one.kind} kept"] += 1
                hear(place, spoken(known))
        keys = list(missing)
        for heard in self.teacher.replies([asked[missing[key][0]] for key in keys]):
            part = [(number, decoded(said) if isinstance(said, str) else said) for number, said in heard]
            self.kept.put((keys[number], said) for number, said in part if isinstance(said, str))
            for number, said in part:
                places = missing[keys[number]]
                kind, had = asked[places[0]].kind, isinstance(said, str)
                self.counts[f"{kind} asked" if had else f"{kind} without reply"] += 1
                self.silence = self.silence if had else str(said)
                for place in places:
                    hear(place, spoken(said) if isinstance(said, str) else None)


def spoken(reply: str) -> str:
    """A reply without the thoughts before it, if the teacher thinks aloud up to a </think>."""
    return reply.rpartition("</think>")[2].strip()


def decoded(reply: str) -> str:
    """A reply as UTF-8 can hold it: half of a letter, as JSON can spell one, is the sign for what was lost."""
    return reply.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
