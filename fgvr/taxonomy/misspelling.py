"""Misspelt names: near enough to one name, and to no other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations, product

from rapidfuzz import process
from rapidfuzz.distance import OSA

from fgvr.taxonomy.forms import MIN_LETTERS, Forms, key
from fgvr.taxonomy.spelling import PART, cut, singular

MARGIN = 0.05  # another node's name as similar as this, or more so, leaves it open which one was meant
MIN_WORD = 5  # of a word that may be misspelt
LONG_WORD = 8  # of one that may differ in its first letter too: Tern and Fern, Tanager and Manager are other words
TWO_EDITS = 9  # of one that may differ by two edits


class Misspellings:
    """Names as they may be misspelt; `names` maps the words of each, as `Forms` has them, to its nodes.

    A misspelt name is at least `similarity` like the name meant, by the normalised Damerau-Levenshtein similarity, 1 -
    edits / letters of the longer (optimal string alignment): at 0.9 a name of ten letters may have one edit. None is
    found when digits differ, when another node's name is within 0.05 of it, when a word of it is another word of the
    names ("Tree Sparrow" for "Tree Swallow") or as near to one, when a word of fewer than 5 letters is changed, or the
    first letter of one of fewer than 8.
    """

    def __init__(self, names: Mapping[tuple[str, ...], set[str]], similarity: float) -> None:
        self.similarity = similarity
        self._names = {words: frozenset(nodes) for words, nodes in names.items()}
        self._words = sorted({word for words in names for word in words})
        self._known = frozenset(self._words)
        grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for words in names:
            grouped[key(words)[1]].append(" ".join(words))
        self._by_digits = dict(grouped)  # names with other numbers are never compared

    def find(self, words: tuple[str, ...]) -> str | None:
        """The node whose name, misspelt, these words are; None too where it could be two."""
        text, digits = key(words)
        if len(text) < MIN_LETTERS:
            return None
        near = process.extract(
            " ".join(words),
            self._by_digits.get(digits, []),
            scorer=OSA.normalized_similarity,
            score_cutoff=self.similarity - MARGIN,
            limit=None,
        )
        if not near or near[0][1] < self.similarity:
            return None
        name, best, _ = near[0]
        rivals = [tuple(other.split()) for other, score, _ in near if score >= best - MARGIN]
        nodes = frozenset().union(*(self._names[rival] for rival in rivals))
        return next(iter(nodes)) if len(nodes) == 1 and self._slips(words, tuple(name.split())) else None

    def _slips(self, words: tuple[str, ...], name: tuple[str, ...]) -> bool:
        """Whether every word that differs is a slip of the pen, and not another word."""
        return len(words) == len(name) and all(
            self._slip(word, meant) for word, meant in zip(words, name, strict=True) if word != meant
        )

    def _slip(self, word: str, meant: str) -> bool:
        short = min(len(word), len(meant))
        edits = OSA.distance(word, meant)
        if not (word + meant).isalpha() or short < MIN_WORD or edits > (2 if short >= TWO_EDITS else 1):
            return False
        if (word[0] != meant[0] and short < LONG_WORD) or word in self._known:
            return False
        others: Iterable[tuple[str, float, int]] = process.extract(
            word, self._words, scorer=OSA.distance, score_cutoff=edits, limit=None
        )
        return {singular(other) for other, _, _ in others} == {singular(meant)}


def nearly_one_name(names: Collection[str], similarity: float = 0.9) -> list[tuple[str, str]]:
    """Pairs of names of which one may be a slip of the pen for the other, sorted; nobody but their owner can tell.

    They are one past plurals, accents, spaces and "grey" (see `Forms`), or have the same digits, are `similarity` alike
    as `Misspellings` counts it, and each word of one is that of the other or a single slip away from it.
    """
    forms = Forms({name: name for name in names})
    pairs = {pair for nodes in forms.one_by_rule() for pair in combinations(sorted(nodes), 2)}
    spelt = {words: {*nodes} for words, nodes in forms.words.items()}
    for name in names:  # what ends in "s" may be a slip of the pen and no plural
        spelt.setdefault(tuple(word for word in cut(name) if word != PART), set()).add(name)
    slips = _slips_apart({word for words in spelt for word in words})
    for words, found in spelt.items():
        for other in product(*((word, *slips.get(word, ())) for word in words)):
            if other > words and other in spelt and _alike(words, other) >= similarity:
                pairs |= {(min(pair), max(pair)) for pair in product(found, spelt[other]) if len({*pair}) > 1}
    return sorted(pairs)


def _alike(words: tuple[str, ...], other: tuple[str, ...]) -> float:
    return OSA.normalized_similarity(" ".join(words), " ".join(other))


def _slips_apart(words: Iterable[str]) -> dict[str, set[str]]:
    """For each word those that one edit makes of it, by the rules of `Misspellings` for a slip of the pen.

    Two words that are one edit apart have a form in common, which is one of them or has a letter less.
    """
    by_form: dict[str, list[str]] = defaultdict(list)
    for word in words:
        if word.isalpha() and len(word) >= MIN_WORD:
            for form in {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}:
                by_form[form].append(word)
    slips: dict[str, set[str]] = defaultdict(set)
    for alike in by_form.values():
        for one, other in combinations(alike, 2):
            if OSA.distance(one, other) == 1 and (one[0] == other[0] or min(len(one), len(other)) >= LONG_WORD):
                slips[one].add(other)
                slips[other].add(one)
    return slips
