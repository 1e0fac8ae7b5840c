"""Which node of the taxonomy an answer names, without being taken in by a list of names; and the names in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fgvr.taxonomy.tree import Taxonomy, normalise

MAX_CHARACTERS = 512  # of an answer that is read: normalising long runs of accents takes quadratic time

# The marks that part one name from the next in a list, and what looks like them or like nothing at all. Normalising
# drops them (it keeps the words "and", "or", "vs"), which would turn the list "red, finch" into the name "red finch".
SEPARATORS = re.compile(
    "["
    + r",;/\\|&+\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029"
    + "•·・‧∙⋅●○◦▪▫■□‣⁃⁌⁍、،؛؍‚⸲⸴⸵⸝꘍⁄∕⧸⧵⟋⟍╱╲¦‖∣∥│┃║ǀǁǂǃ→⇒➜⟶←↔"
    + r"\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    + "]+"
)
ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)
CLICKS = str.maketrans("ǀǁǂǃ", "||||")  # letters by their category, lines by their looks
PLAIN = re.compile(r"[ \u00a0_'’‘‐‑‒–-]*")
WORD = re.compile(r"[^\W_]+(?:['’`]+[^\W_]+)*|&")


def spelling(name: str) -> tuple[str, ...]:
    """The normalised pieces of a name between list separators: one for a plain name, none for mere punctuation."""
    pieces = (normalise(piece) for piece in SEPARATORS.split(unicodedata.normalize("NFKC", name)))
    return tuple(piece for piece in pieces if piece)


def bare(text: str) -> tuple[str, ...]:
    """The text without outer white space, and where it begins with an article, the text after that too."""
    stripped = text.strip()
    article = ARTICLE.match(stripped)
    return (stripped, stripped[article.end() :]) if article else (stripped,)


class Names:
    """All names and synonyms of a taxonomy, each to be matched whole."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        synonyms = {spelling(other): node for node, others in taxonomy.synonyms.items() for other in others}
        self._nodes = synonyms | {spelling(node): node for node in taxonomy.lineage}
        longest = max(len(name) for names in ((*taxonomy.lineage,), *taxonomy.synonyms.values()) for name in names)
        self._limit = max(MAX_CHARACTERS, longest)
        self._nodes.pop((), None)  # a name of mere punctuation would be every answer of mere punctuation

    def find(self, text: str) -> str | None:
        """The node that the whole text names, or None. A leading article and closing punctuation are passed over.

        Text with list separators matches only a name that has them in the same places. Text of more than 512 characters
        is no name, unless the taxonomy has one as long.
        """
        if len(text) > self._limit:
            return None
        for candidate in bare(text):
            pieces = spelling(candidate)
            node = self._nodes.get(pieces) or (self.taxonomy.find(pieces[0]) if len(pieces) == 1 else None)
            if node is not None:
                return node
        return None

    @cached_property
    def lexicon(self) -> Lexicon:
        """The names and synonyms as they are to be found within longer text."""
        synonyms = {other: node for node, others in self.taxonomy.synonyms.items() for other in others}
        return Lexicon(synonyms | {node: node for node in self.taxonomy.lineage})


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
        plain = unicodedata.normalize("NFKC", text).translate(CLICKS)
        whole = "".join(c for c in plain if unicodedata.category(c)[0] != "M")
        found = list(WORD.finditer(whole))
        ends = [0, *(match.end() for match in found)]
        starts = [*(match.start() for match in found), len(whole)]
        raw = tuple(match.group() for match in found)
        words = tuple("and" if word == "&" else re.sub("['’`]", "", word).casefold() for word in raw)
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
