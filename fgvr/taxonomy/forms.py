"""The names of a taxonomy in a form in which their regular spellings are one, and what each such form names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

from fgvr.taxonomy.spelling import PART, cut, normalise, singular, singulars, unaccented
from fgvr.taxonomy.vehicles import has_digit, maker_in_full, shortened, without_year, year_last, yearless

MIN_LETTERS = 6  # of a name without digits that may be written with other spaces, or misspelt

_SHORT_PLURAL = re.compile("[a-z][aeiou]s")  # banh mis; a TTS is no TT

Key = tuple[str, tuple[str, ...]]


@lru_cache(maxsize=1 << 12)  # one text is looked up in several ways
def key(words: tuple[str, ...]) -> Key:
    """Words without their spaces, the maker in full and the year last; and the numbers in them, each apart.

    Fewer than `MIN_LETTERS` letters without a digit keep their spaces.
    """
    ordered = maker_in_full(year_last(words))
    spaced = " ".join(ordered)
    digits = tuple(re.findall(r"\d+", spaced))
    text = "".join(ordered)
    return (text if digits or len(text) >= MIN_LETTERS else spaced), digits


def key_apart(words: tuple[str, ...]) -> Key:
    """As `key`, with the spaces where no digit tells words apart: a pine and its apple are no pineapple."""
    text, digits = key(words)
    return (text if digits else " ".join(words)), digits


class Forms:
    """Names, each with the node it belongs to, as they may be spelt by rule.

    `find` sees past possessives, Latin accents, "&", plurals of any word, "grey", spaces and hyphens, and a year that
    stands elsewhere; `find_shortened` past a maker or a body type left out as well. Both know separators: a text that
    has some is only a name that has them in the same places. `makers` are the leading words by which the taxonomy's
    own makers are known, `numbered` says that most of its names hold digits, and `above` gives the nodes above one.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        makers: Collection[tuple[str, ...]] = (),
        numbered: bool = False,
        above: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self._cut = {name: cut(name) for name in names}
        self._owners = dict(names)
        self._makers, self._numbered, self._above = frozenset(makers), numbered, above
        self._singular = {word: singular(word) for words in self._cut.values() for word in words}
        self._known = frozenset(self._singular.values())
        self._ends = frozenset(self._singular[words[-1]] for words in self._cut.values() if words)
        self.words: dict[tuple[str, ...], set[str]] = defaultdict(set)  # of every name, to its nodes
        self._nodes: dict[Key, set[str]] = defaultdict(set)
        for name, node in names.items():
            words = self.regular(self._cut[name])
            together = _together(name)
            for form in {words, _joined(words), together} - {()}:
                self._nodes[key(form)].add(node)
            for form in {_joined(words), (*together[:-1], *map(singular, together[-1:]))} - {()}:
                self.words[form].add(node)

    def one_by_rule(self) -> Iterator[set[str]]:
        """Nodes of which a name is, past what `find` sees past, a name of the others too."""
        yield from (nodes for nodes in self._nodes.values() if len(nodes) > 1)

    def regular(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Each word (by `cut`) in the singular where the names have it so; a word they lack is left alone."""
        return tuple(self._regular(word) for word in words)

    def ends_a_name(self, word: str) -> bool:
        """Whether a name ends in this word, or in what it may be the plural of: the warbler of "Canada warbler"."""
        return not self._ends.isdisjoint((singular(word), *singulars(word), word))

    def find(self, words: tuple[str, ...]) -> str | None:
        """The one node whose name, in the form of `regular`, this is; None where it could be two."""
        return self._look_up(self._nodes, words)

    def find_below(self, words: tuple[str, ...]) -> str | None:
        """The one node whose name, behind that of a node above it, this is: the M3 of BMW is a "BMW M3"."""
        return self._look_up(self._below, words, key_apart)

    def find_shortened(self, words: tuple[str, ...]) -> str | None:
        """The one node that these words name with its maker or its body type left out."""
        return self._look_up(self._shortened, words)

    def find_yearless(self, words: tuple[str, ...]) -> str | None:
        """The one node that these words name with its year left out, be its maker or its body type too.

        They must not be the start of another year's or model's name as well: a Corvette may be a Corvette ZR1.
        """
        return self._look_up(self._yearless, words)

    def _look_up(
        self, nodes: Mapping[Key, set[str]], words: tuple[str, ...], key: Callable[[tuple[str, ...]], Key] = key
    ) -> str | None:
        if not words:
            return None
        for last in (words[-1], *self._ones(words)):  # of words run together too: "Shihtzus"
            if found := nodes.get(key((*words[:-1], last))):
                return next(iter(found)) if len(found) == 1 else None
        return None

    @staticmethod
    def _ones(words: tuple[str, ...]) -> Iterator[str]:
        last = words[-1]
        yield from singulars(last)
        if len(words) > 1 and _SHORT_PLURAL.fullmatch(last):
            yield last[:-1]

    def _regular(self, word: str) -> str:
        if word in self._singular:
            return self._singular[word]
        return next((one for one in singulars(word) if one in self._known), word)

    @cached_property
    def _below(self) -> dict[Key, set[str]]:
        nodes: dict[Key, set[str]] = defaultdict(set)
        for name, node in self._owners.items():
            words = self.regular(self._cut[name])
            for other in self._above.get(node, ()):
                before = self.regular(cut(other))
                if not {*before} <= {*words}:  # no finch red finch
                    nodes[key_apart(before + words)].add(node)
        return nodes

    @cached_property
    def _shortened(self) -> dict[Key, set[str]]:
        nodes: dict[Key, set[str]] = defaultdict(set)
        for name, node in self._owners.items():
            for rest in shortened(self._cut[name], self._makers, self._numbered):
                self._add(nodes, rest, node)
        return nodes

    @cached_property
    def _yearless(self) -> dict[Key, set[str]]:
        nodes: dict[Key, set[str]] = defaultdict(set)
        rivals: dict[Key, set[str]] = defaultdict(set)
        for name, node in self._owners.items():
            for rest in yearless(self._cut[name], self._makers, self._numbered):
                self._add(nodes, rest, node)
            for rest in without_year(self._cut[name], self._makers):
                for length in range(1, len(rest)):
                    self._add(rivals, rest[:length], node)
        for others in (self._nodes, self._shortened, rivals):
            for form in nodes.keys() & others.keys():
                nodes[form] |= others[form]
        return nodes

    def _add(self, nodes: dict[Key, set[str]], name: tuple[str, ...], node: str) -> None:
        words = self.regular(name)
        for form in {words, _joined(words)} - {()}:
            nodes[key(form)].add(node)


def _together(name: str) -> tuple[str, ...]:
    """The words with their possessive "s" and as they are spelt, for who runs them together: "coltsfoot"."""
    return () if "&" in name else tuple(map(unaccented, normalise(name).split()))


def _joined(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word != PART)


def mostly_numbered(names: Collection[str]) -> bool:
    """Whether at least half of the names hold a digit, as those of vehicles do."""
    return 2 * sum(has_digit((name,)) for name in names) >= len(names)
