"""Which node of the taxonomy an answer names, without being taken in by a list of names; and the names in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fgvr.data.taxonomy import Taxonomy, normalise

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
WORD = re.compile(r"[^\W_]+(?:['’`]+[^\W_]+)*|&")


def spelling(name: str) -> tuple[str, ...]:
    """The normalised pieces of a name between list separators: one for a plain name, none for mere punctuation."""
    pieces = (normalise(piece) for piece in SEPARATORS.split(unicodedata.normalize("NFKC", name)))
    return tuple(piece for piece in pieces if piece)


class Names:
    """All names and synonyms of a taxonomy, each to be matched whole."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        synonyms = {spelling(other): node for node, others in taxonomy.synonyms.items() for other in others}
        self._nodes = synonyms | {spelling(node): node for node in taxonomy.lineage}
        self._nodes.pop((), None)  # a name of mere punctuation would be every answer of mere punctuation

    def find(self, text: str) -> str | None:
        """The node that the whole text names, or None. A leading article and closing punctuation are passed over.

        Text with list separators matches only a name that has them in the same places.
        """
        stripped = text.strip()
        for candidate in (stripped, ARTICLE.sub("", stripped, count=1) if ARTICLE.match(stripped) else ""):
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
        whole = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] != "M")
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

    `words` and `characters` are all that occur in them, `joins` the pairs of words with more than a space between
    them, or with "and" or the like as one of the two.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        written = {name: Written.of(name) for name in names}
        self.words = frozenset(word for entry in written.values() for word in entry.words)
        self.characters = frozenset(c for name in names for c in unicodedata.normalize("NFKC", name) + name)
        self.joins = frozenset(
            pair
            for entry in written.values()
            for pair, gap in zip(zip(entry.words, entry.words[1:], strict=False), entry.gaps[1:], strict=False)
            if not gap.isspace()
        )
        self._nodes: dict[tuple[str, ...], tuple[str, Written]] = {
            entry.words: (names[name], entry) for name, entry in written.items() if entry.words
        }
        self._longest = max(map(len, self._nodes), default=0)

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

    def _longest_from(self, text: Written, start: int) -> Spot | None:
        for end in range(min(start + self._longest, len(text.words)), start, -1):
            node, name = self._nodes.get(text.words[start:end], ("", None))
            if name is None:
                continue
            gaps = zip(text.gaps[start + 1 : end], name.gaps[1:], strict=False)
            if all(not SEPARATORS.search(gap) or SEPARATORS.search(own) for gap, own in gaps):
                return Spot(start, end, node)
        return None
