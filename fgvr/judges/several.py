"""Whether an answer holds several names: rival names of the taxonomy, or the marks and words of a list.

In doubt it is one name where a judge can still be asked; what joins names by "or" and its like is always a list.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from fgvr.judges.phrases import (
    ABBREVIATIONS,
    ALSO,
    ASIDES,
    BETWEEN,
    BINOMIAL,
    EITHER,
    FILLERS,
    LETTERED,
    NUMBERED,
    PAIRED,
    SCIENTIFIC,
    SHORT_ALSO,
    VOWELLESS,
    WITHIN,
    WITHIN_ASIDE,
    YEAR,
)
from fgvr.taxonomy.lexicon import Lexicon, Spot, Written
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import SEPARATORS, bare, normalise, spelling
from fgvr.taxonomy.vehicles import year_last

PASSING = FILLERS | ASIDES
HYPHEN = re.compile("[-‐‑‒–−]")


def names_label(label: str, answer: str) -> bool:
    """Whether the answer is the label as `Names.find` finds it: whole, past an article and closing punctuation."""
    names = {spelling(label), (normalise(label),)}
    return any(spelling(text) in names for text in bare(answer) if spelling(text))


def gives_several(label: str, answer: str, known: Names | None = None) -> bool:
    """Whether the answer, as it was written, holds more names than one, by `known` or by the marks of a list.

    It must not be longer than MAX_CHARACTERS. Raises nothing for any text.
    """
    return several(Reading.of(label, answer, known))


@lru_cache(maxsize=4096)
def _lexicon(label: str) -> Lexicon:
    return Lexicon({label: label})


@dataclass(frozen=True)
class Reading:
    """An answer beside its label: `own` is what the label is made of, `known` all names; `inside` holds the places of
    the words that belong to a name that was found, `joined` those whose gap to the word before lies inside one."""

    answer: str
    text: Written
    label_text: str
    label: Written
    own: Lexicon
    known: Names | None
    spots: list[Spot]
    inside: frozenset[int]
    joined: frozenset[int]

    @classmethod
    def of(cls, label: str, answer: str, known: Names | None) -> Reading:
        text, own = Written.of(answer), _lexicon(label)
        spots = known.lexicon.spots(text) if known is not None else []
        taken = {place for spot in spots for place in range(spot.start, spot.end)}
        spots += [spot for spot in own.spots(text) if not taken & set(range(spot.start, spot.end))]
        inside = frozenset(place for spot in spots for place in range(spot.start, spot.end))
        joined = frozenset(place for spot in spots for place in range(spot.start + 1, spot.end))
        plain = unicodedata.normalize("NFKC", label)
        return cls(answer, text, plain, Written.of(label), own, known, spots, inside, joined)

    def excused(self, word: str) -> bool:
        return word in self.own.words or (self.known is not None and word in self.known.lexicon.words)


def several(reading: Reading) -> bool:
    return _unrelated(reading) or _parted(reading) or _listed(reading) or _odd_aside(reading)


def _unrelated(reading: Reading) -> bool:
    """Names of two nodes of which neither stands above the other; also where they are run together ("robinwren").

    What stands in parentheses is held against the rest only where both are such names whole: "Gyoza (Japanese
    dumplings)" is one dish.
    """
    if reading.known is None or reading.known.lexicon.holds(year_last(_without_article(reading.text.words))):
        return False  # one name may be made of others': the Hummer of AM General
    text, aside = reading.text, _aside(reading)
    nodes = {spot.node for spot in reading.spots if spot.start not in aside}
    within = {spot.node for spot in reading.spots if spot.start in aside}
    loose = {place for place, word in enumerate(text.words) if word not in PASSING} - reading.inside
    groups = [nodes, within] if loose else [nodes | within]
    groups.append(set(reading.known.lexicon.run_together(text)))
    return any(
        _rivals(reading, first, second)
        for group in groups
        for first, second in combinations(group & reading.known.taxonomy.lineage.keys(), 2)
    )


def _without_article(words: tuple[str, ...]) -> tuple[str, ...]:
    return words[1:] if words[:1] in (("a",), ("an",), ("the",)) else words


def _aside(reading: Reading) -> range:
    """The places of the words in the one pair of parentheses; none where there is not just one."""
    parts = WITHIN_ASIDE.fullmatch(unicodedata.normalize("NFKC", reading.answer).strip())
    if parts is None:
        return range(0)
    start = len(Written.of(parts[1]).words)
    return range(start, start + len(Written.of(parts[2]).words))


def _rivals(reading: Reading, first: str, second: str) -> bool:
    """Whether the nodes differ and neither stands above the other, as far as the taxonomy has them."""
    taxonomy = reading.known.taxonomy if reading.known is not None else None
    if first == second or taxonomy is None or not {first, second} <= taxonomy.lineage.keys():
        return first != second
    return not taxonomy.is_ancestor(first, second) and not taxonomy.is_ancestor(second, first)


def _parted(reading: Reading) -> bool:
    """List separators, or words like "or" and "and", that are not part of a name."""
    words, raw, gaps = reading.text.words, reading.text.raw, reading.text.gaps
    if WITHIN.search(reading.answer) and not WITHIN.search(" ".join(reading.label.raw)):
        return True
    commas: list[int] = []
    for place in range(1, len(words)):
        pair = (words[place - 1], words[place])
        part = place in reading.joined or pair in reading.own.joins or all(word in ASIDES for word in words[place:])
        if not part and _separates(gaps[place], raw, place):
            if gaps[place].strip() != ",":
                return True
            commas.append(place)
    ands = [place for place, word in enumerate(words) if word in ALSO and not _own(reading, place)]
    if any(_parts(reading, place) for place in range(len(words)) if not _own(reading, place)):
        return True
    ands = [place for place in ands if not {words[place - 1], words[place + 1]} <= PAIRED or not words[place + 2 :]]
    if len(commas) + len(ands) > 1:
        return True
    return any(_comma_lists(reading, place) for place in commas) or any(_and_lists(reading, place) for place in ands)


def _own(reading: Reading, place: int) -> bool:
    """Whether the word belongs to a name that was found, or stands beside its neighbour in the label too."""
    words = reading.text.words
    return place in reading.inside or any(
        pair in reading.own.pairs for pair in pairwise(words[max(place - 1, 0) : place + 2])
    )


def _parts(reading: Reading, place: int) -> bool:
    """Whether the word stands between names and cannot be part of one."""
    words, raw, gaps = reading.text.words, reading.text.raw, reading.text.gaps
    word, between = words[place], 0 < place < len(words) - 1
    if word in EITHER or (between and word in BETWEEN):
        return True
    if word in ALSO:
        return not between or "(" in gaps[place]
    lone = between and gaps[place].isspace() and gaps[place + 1].isspace() and words[place - 1] != "model"
    return lone and raw[place] in SHORT_ALSO and min(len(words[place - 1]), len(words[place + 1])) > 2


def _piece(text: Written, start: int, end: int) -> str:
    return "".join((text.gaps[place] if place > start else "") + text.raw[place] for place in range(start, end))


def _node(reading: Reading, text: str) -> str | None:
    """The node that the whole text names, be it the label alone."""
    node = reading.known.find(text) if reading.known is not None else None
    return reading.label_text if node is None and names_label(reading.label_text, text) else node


def _and_lists(reading: Reading, place: int) -> bool:
    """Whether "and" stands between two names: "fish and chips" is one unless what is known says otherwise."""
    text, end = reading.text, len(reading.text.words)
    first, second = _node(reading, _piece(text, 0, place)), _node(reading, _piece(text, place + 1, end))
    if text.words[place - 1] == text.words[-1]:  # "song sparrow and house sparrow"
        return True
    if first is not None and second is not None:
        return _rivals(reading, first, second)
    return reading.known is None and (first is not None or second is not None)


def _comma_lists(reading: Reading, place: int) -> bool:
    """Whether a comma parts two names, and not one from its scientific name, a number or what explains it."""
    text = reading.text
    before, after = _piece(text, 0, place), _piece(text, place, len(text.words))
    if _node(reading, f"{after} {before}") is not None:  # "Oriole, Baltimore"
        return False
    first, second = _node(reading, before), _node(reading, after)
    if first is not None and second is not None:
        return _rivals(reading, first, second)
    if any(" " not in side and any(c.isdigit() for c in side) for side in (before, after)):  # "Saab, 1994"
        return False
    if text.words[place - 1] == text.words[-1] or _node(reading, f"{before} {after}") is not None:
        return True
    named, name, other = (first, before, after) if first is not None else (second, after, before)
    if named is None:
        return False
    if reading.known is not None and named != reading.label_text and named not in reading.known.taxonomy.paths:
        return False  # "Warbler, Golden-cheeked"
    latin = BINOMIAL.fullmatch(other) or SCIENTIFIC.fullmatch(other) or SCIENTIFIC.fullmatch(name)
    return not (latin or len(bare(other)) > 1)


def _separates(gap: str, raw: tuple[str, ...], place: int) -> bool:
    """Whether what stands between two words makes a list of them."""
    before, after, mark = raw[place - 1], raw[place], gap.strip()
    if gap == "/":  # F/A-18, C/V
        return not (len(before) == 1 or len(after) == 1) or len(raw) == 2
    if SEPARATORS.search(gap) or "—" in gap or "―" in gap or any(unicodedata.category(c) == "So" for c in gap):
        return True
    if any(c in '!?~>=*…"“”' for c in gap) or sum(c in "'‘’" for c in gap) > 1:
        return True
    if HYPHEN.search(gap):
        return mark != gap or HYPHEN.fullmatch(gap.strip("'’‘ʼ")) is None
    if "." not in gap:
        return False
    short = len(before) == 1 or before.lower() in ABBREVIATIONS or VOWELLESS.fullmatch(before) is not None
    if gap == ".":  # U.S., 3.0, 001.Sparrow
        return not (short or len(after) == 1 or before[-1].isdigit() or after[0].isdigit())
    return gap.strip(" _()\"'’‘“”") != "." or not short


def _listed(reading: Reading) -> bool:
    """Numbered names, a word again and again, one name of several words twice, two years, a cross of three."""
    text, free = reading.text, [word for word in reading.text.words if word not in reading.own.words]
    plain = unicodedata.normalize("NFKC", reading.answer)
    marks = Counter(bool(match["n"]) for match in NUMBERED.finditer(plain))
    if max(marks.values(), default=0) > 1 or ({"1", "2", "a", "b"} & set(free) and LETTERED.search(plain)):
        return True
    if any(max(Counter(Written.of(part).words).values(), default=0) > 3 for part in re.split("[()]", plain)):
        return True  # but "Gorilla (Gorilla gorilla gorilla)"
    years = {word for word in text.words if YEAR.fullmatch(word)}
    if (len(years) > 1 and not years <= reading.own.words) or sum("×" in gap for gap in text.gaps) > 1:
        return True
    long = Counter(text.words[spot.start : spot.end] for spot in reading.spots if spot.end - spot.start > 1)
    return max(long.values(), default=0) > 1


def _odd_aside(reading: Reading) -> bool:
    """Parentheses that open nothing, stand nested or more than once, or hold a list."""
    if not {"(", ")"} & set(reading.answer) or {"(", ")"} <= reading.own.characters:
        return False
    words = reading.text.words
    if all(place in reading.inside or words[place] in FILLERS for place in range(len(words))):
        return False
    parts = WITHIN_ASIDE.fullmatch(unicodedata.normalize("NFKC", reading.answer).strip())
    return parts is None or "," in parts[2]
