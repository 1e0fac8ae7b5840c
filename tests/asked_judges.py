"""Made-up birds that a judge is asked about, and what became of the pairs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from judge_server import right

from fgvr.judges.base import Judgement, Unjudged
from fgvr.judges.screen import screen
from fgvr.judges.served.llm import LLMJudge
from fgvr.taxonomy.tree import Taxonomy

KEY = "sk-planted-0123456789abcdef"
BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Songbirds", "Finches", "Ruby Finch"),
        "Ash Finch": ("Songbirds", "Finches", "Ash Finch"),
        "Barred Wren": ("Songbirds", "Wrens", "Barred Wren"),
        "Snowy Owl": ("Owls", "True Owls", "Snowy Owl"),
    },
    root="bird",
    synonyms={"Ruby Finch": ("Rubra vulgaris",)},
)
Pairs = list[tuple[str, str]]
Make = Callable[..., LLMJudge]


def names(number: int) -> list[str]:
    """Different made-up bird names, such as "Tobela Finch"."""
    draw = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < number:
        word = "".join(draw.choice("bdfgklmprtv") + draw.choice("aeiou") for _ in range(4)).title()
        found[f"{word} {draw.choice(('Finch', 'Wren', 'Owl', 'Heron'))}"] = None
    return list(found)


def different(number: int) -> Pairs:
    """So many different pairs that a model must be asked about."""
    some = names(200 + -(-number // 200))
    pairs = list(itertools.islice(((label, answer) for answer in some[200:] for label in some[:200]), number))
    assert all(screen(*pair) is None for pair in pairs[::97])
    return pairs


def wrongly_judged(pairs: Pairs, found: Sequence[Judgement | Unjudged]) -> Pairs:
    return [
        pair
        for pair, entry in zip(pairs, found, strict=True)
        if isinstance(entry, Judgement) and str(entry.verdict) != right(*pair)
    ]


def lost(found: Sequence[Judgement | Unjudged]) -> int:
    return sum(isinstance(entry, Unjudged) for entry in found)
