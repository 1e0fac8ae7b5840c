"""The names of a taxonomy as they are found within longer text: cut into words, side by side, or run together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from fgvr.taxonomy.spelling import APOSTROPHE, SEPARATORS, WORD, without_loose_marks

CLICKS = str.maketrans("ǀǁǂǃ", "||||")  # letters by their category, lines by their looks
PLAIN = re.compile(r"[ \u00a0_'’‘‐‑‒–-]*")


@dataclass(frozen=True)
class Written:
    """A text cut into words, with what stands around them as it was written: `gaps[k]` stands before `words[k]`.

    Words are in lower case, without apostrophes or accents that stand apart from their letter; "&" is the word "and".
    `raw` are the same words as written. There is one gap more than there are words.
    """

    words: tuple[str, ...]
    raw: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Written:
        whole = without_loose_marks(unicodedata.normalize("NFKC", text.replace("´", "'")).translate(CLICKS))
        found = list(WORD.finditer(whole))
        ends = [0, *(match.end() for match in found)]
        starts = [*(match.start() for match in found), len(whole)]
        raw = tuple(match.group() for match in found)
        words = tuple("and" if word == "&" else APOSTROPHE.sub("", word).casefold() for word in raw)
        return cls(words, raw, tuple(whole[end:start] for end, start in zip(ends, starts, strict=True)))


@dataclass(frozen=True)
class Spot:
    """The words from `start` up to `end` (exclusive) of a text are a name of `node`."""

    start: int
    end: int
    node: str


class Lexicon:
    """What a set of names is made of, `names` mapping each name to its node.

    `words` and `characters` are all that occur in them, `pairs` the words that stand side by side, and `joins` those
    of them with more than spaces, hyphens and apostrophes between.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        written = {name: Written.of(name) for name in names}
        self.words = frozenset(word for entry in written.values() for word in entry.words)
        self.characters = frozenset(c for name in names for c in unicodedata.normalize("NFKC", name) + name)
        beside = [
            (before, after, gap)
            for entry in written.values()
            for before, after, gap in zip(entry.words, entry.words[1:], entry.gaps[1:-1], strict=False)
        ]
        self.pairs = frozenset((before, after) for before, after, _ in beside)
        self.joins = frozenset((before, after) for before, after, gap in beside if not PLAIN.fullmatch(gap))
        self._nodes: dict[tuple[str, ...], tuple[str, Written]] = {
            entry.words: (names[name], entry) for name, entry in written.items() if entry.words
        }
        self._holders: dict[str, set[tuple[str, ...]]] = {}
        for words in self._nodes:
            for word in words:
                self._holders.setdefault(word, set()).add(words)
        self._longest = max(map(len, self._nodes), default=0)
        self._squeezed = {"".join(words): node for words, (node, _) in self._nodes.items() if len("".join(words)) > 2}
        self._lengths = sorted(set(map(len, self._squeezed)), reverse=True)

    def spots(self, text: Written) -> list[Spot]:
        """The names in the text from left to right, the longest first where several begin at one word.

        A name with list separators between its words is found only where the name itself has them.
        """
        found: list[Spot] = []
        start = 0
        while start < len(text.words):
            spot = self._longest_from(text, start)
            if spot is not None:
                found.append(spot)
            start = spot.end if spot else start + 1
        return found

    def holds(self, words: tuple[str, ...]) -> bool:
        """Whether one name has all these words, in their order and with others between or not."""
        holders = [self._holders.get(word, set()) for word in set(words)]
        candidates = min(holders, key=len, default=set())
        return any(_in_order(words, name) for name in candidates)

    def run_together(self, text: Written) -> list[str]:
        """The nodes of the names that make up the whole text without spaces between, in order; empty where none do.

        Names of at least three letters and digits, the longest first where several begin at one place.
        """
        whole = "".join(text.words)
        nodes: list[str] = []
        ends, dead = [0], set[int]()  # where the names found so far end, and the places from which no name leads on
        while ends[-1] < len(whole):
            place = ends[-1]
            step = next(
                (
                    length
                    for length in self._lengths
                    if place + length <= len(whole)
                    and place + length not in dead
                    and whole[place : place + length] in self._squeezed
                ),
                None,
            )
            if step is not None:
                nodes.append(self._squeezed[whole[place : place + step]])
                ends.append(place + step)
            elif not nodes:
                return []
            else:
                dead.add(ends.pop())
                nodes.pop()
        return nodes

    def _longest_from(self, text: Written, start: int) -> Spot | None:
        for end in range(min(start + self._longest, len(text.words)), start, -1):
            node, name = self._nodes.get(text.words[start:end], ("", None))
            if name is None:
                continue
            gaps = zip(text.gaps[start + 1 : end], name.gaps[1:], strict=False)
            if all(not SEPARATORS.search(gap) or SEPARATORS.search(own) for gap, own in gaps):
                return Spot(start, end, node)
        return None


def _in_order(words: tuple[str, ...], name: tuple[str, ...]) -> bool:
    rest = iter(name)
    return all(word in rest for word in words)
