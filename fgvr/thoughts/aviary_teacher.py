"""The Aviary's own teacher: it knows the marks that the birds were drawn with, so that the whole path runs anywhere."""

from __future__ import annotations

import random

from fgvr.aviary.names import Species, catalogue
from fgvr.data.sections import MOST
from fgvr.errors import UserError, refuse_no_share
from fgvr.thoughts.teacher import Asked, Teacher

_BIRDS: dict[str, Species] = {bird.name: bird for members in catalogue().values() for bird in members}
_ASIDES = ("The light is soft.", "It sits still.", "Its bill is closed.", "Leaves are near it.")
_MISTAKES = ("wrong", "leak", "missing")


class AviaryTeacher(Teacher):
    """Describes a bird by its mark and the pattern below, and reasons from these to its species.

    It holds the bird against others, `candidates` in all, 2 to 4: with fewer a thought is shorter. `mistakes` is the
    share of replies that are wrong, name the bird too early or lack a part, as a model's do. Raises UserError for a
    number out of its range, and for a class that is no bird of the Aviary.
    """

    def __init__(self, mistakes: float = 0.0, candidates: int = MOST) -> None:
        refuse_no_share("teacher", mistakes=mistakes)
        if not 2 <= candidates <= MOST:
            raise UserError(f"teacher.candidates must be from 2 to {MOST}, got {candidates}: change it")
        self.mistakes, self.candidates = mistakes, candidates

    @property
    def identity(self) -> str:
        return f"aviary {self.mistakes} {self.candidates}"

    def reply(self, asked: Asked) -> str:
        bird = _bird(asked.photo.label)
        rng = random.Random(f"{asked.photo.uid} {asked.kind} {asked.number}")
        if asked.kind == "description":
            said = [f"The bird has {_mark(bird)}.", f"Below it is {bird.genus.plumage.pattern}."]
            return " ".join([*rng.sample(said, 2), rng.choice(_ASIDES)])
        if asked.kind == "concepts":
            return "\n".join(
                [_mark(bird), f"{bird.genus.plumage.pattern} below", "a closed bill", "leaves", "soft light"]
            )
        return self._thought(bird, asked, rng)

    def _thought(self, bird: Species, asked: Asked, rng: random.Random) -> str:
        mistake = rng.choice(_MISTAKES) if rng.random() < self.mistakes else ""
        fewest = min(self.candidates - 1, len(asked.photo.siblings))
        others = [_bird(name) for name in rng.sample(asked.photo.siblings, fewest)]
        candidates = rng.sample([bird, *others], 1 + len(others))
        said = rng.choice(others) if mistake == "wrong" and others else bird
        analysis = f"The bird has {_mark(bird)}; below it is {bird.genus.plumage.pattern}."
        if mistake == "leak":
            analysis += f" It is the {bird.name}."
        comparison = " ".join(
            f"{one.name} has {_mark(one)}, {'as here' if one is bird else 'which is not seen'}." for one in candidates
        )
        names = "; ".join(one.name for one in candidates)
        parts = [f"<analysis>{analysis}</analysis>", f"<options>{names}</options>"]
        parts += [] if mistake == "missing" else [f"<comparison>{comparison}</comparison>"]
        return "\n".join([*parts, f"<prediction>{said.name}</prediction>"])


def _bird(name: str) -> Species:
    if name not in _BIRDS:
        raise UserError(f"the Aviary's teacher knows the birds of the Aviary, but not {name!r}: give a served teacher")
    return _BIRDS[name]


def _mark(bird: Species) -> str:
    vowel = bird.mark_colour[0] in "AEIOU"
    return f"{'an' if vowel else 'a'} {bird.mark_colour.lower()} {bird.mark_place}"
