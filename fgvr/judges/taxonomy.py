"""The judge that needs no model: the answer is looked up in the taxonomy, whole, and its place compared."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import yaml
from rapidfuzz import process
from rapidfuzz.distance import OSA

from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement
from fgvr.judges.screen import abstains, finer_of_aside, gives_several
from fgvr.taxonomy.names import MAX_CHARACTERS, Names, bare, spelling
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

MARGIN = 0.05  # another node's name as similar as this, or more so, leaves it open which one was meant
MIN_LETTERS = 6  # of a whole name that may be misspelt
MIN_WORD = 5  # of a word that may be misspelt
LONG_WORD = 8  # of one that may differ in its first letter too: Tern and Fern, Tanager and Manager are other words
TWO_EDITS = 9  # of one that may differ by two edits
REMEMBERED = 65536  # answers whose node is kept, for each judge

Key = tuple[str, tuple[str, ...]]


class TaxonomyJudge(Judge):
    """The answer's place in the taxonomy beside the label's. The same pair always gets one verdict.

    The label itself is SPECIFIC, a name below it MORE_SPECIFIC, an ancestor at most `close` steps up LESS_SPECIFIC, one
    further up or the root GENERIC, words of abstention (or nothing at all) ABSTAIN, and everything else WRONG: another
    class, a name the taxonomy lacks, several names in one answer (`several` then says so), more than 512 characters. A
    leading article and closing punctuation are passed over. "Common name (Scientific name)" is the finer of the two
    where one stands above the other, and several names where they contradict each other.

    Names and synonyms match whole. So do spelling variants: a regular plural, "grey" for "gray", other spaces
    ("F16", "Yellow Throat"), and misspelt names of at least `similarity`, from 0.5 to 1. That is the normalised
    Damerau-Levenshtein similarity, 1 - edits / letters of the longer (optimal string alignment), so that at 0.9 a name
    of ten letters may have one edit; 1 leaves no variants. A misspelt name is not accepted when digits differ, when
    another node's name is within 0.05 of it, when a word of it is another word of the taxonomy ("Tree Sparrow" for
    "Tree Swallow") or as near to one, when a word of fewer than 5 letters is changed, or the first letter of one of
    fewer than 8.

    `taxonomy` names a yaml or json file that takes the place of the data's own taxonomy; it must hold all its classes.
    """

    def __init__(self, close: int = 2, taxonomy: Path | None = None, similarity: float = 0.9) -> None:
        if close < 0:
            raise UserError(f"close must be 0 steps or more, got {close}")
        if not 0.5 <= similarity <= 1:
            raise UserError(
                f"similarity must lie between 0.5 and 1 (which accepts no spelling variant), got {similarity}"
            )
        self.close, self.file, self.similarity = close, taxonomy, similarity
        self._names = Names(_read(taxonomy)) if taxonomy is not None else None
        self._variants = _Variants(self._names, similarity) if self._names is not None else None

    def bind(self, taxonomy: Taxonomy) -> TaxonomyJudge:
        bound = copy.copy(self)
        if self.file is None or self._names is None:
            bound._names = Names(taxonomy)
            bound._variants = _Variants(bound._names, self.similarity)
        else:
            missing = sorted(set(taxonomy.paths) - set(self._names.taxonomy.lineage))
            if missing:
                raise UserError(f"{self.file} must hold every class of the data, but it lacks {missing[:5]}: add them")
        return bound

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement]:
        if self._names is None or self._variants is None:
            raise ValueError("this judge needs a taxonomy: call bind(taxonomy) and use the judge it returns")
        return [self._judge(self._names, self._variants, label, answer) for label, answer in pairs]

    def _judge(self, names: Names, variants: _Variants, label: str, answer: str) -> Judgement:
        taxonomy = names.taxonomy
        if label not in taxonomy.lineage:
            raise UserError(f"a label must be a name of the taxonomy, got {label!r}: use the taxonomy of the data")
        if len(answer) > MAX_CHARACTERS:
            return Judgement(Verdict.WRONG)
        node = names.find(answer)
        if node is None and abstains(answer):
            return Judgement(Verdict.ABSTAIN)
        node = node or finer_of_aside(answer, variants.find, taxonomy)
        if node is None and not gives_several(label, answer.casefold(), names):  # so that case decides nothing
            node = variants.find(answer)
        if node is None:
            return Judgement(Verdict.WRONG, several=gives_several(label, answer, names))
        if node == label:
            return Judgement(Verdict.SPECIFIC, node)
        if taxonomy.is_ancestor(label, node):
            return Judgement(Verdict.MORE_SPECIFIC, node)
        if taxonomy.is_ancestor(node, label):
            near = node != taxonomy.root and taxonomy.distance_up(node, label) <= self.close
            return Judgement(Verdict.LESS_SPECIFIC if near else Verdict.GENERIC, node)
        return Judgement(Verdict.WRONG, node)


class _Variants:
    """The names of a taxonomy as they may be spelt otherwise."""

    def __init__(self, names: Names, similarity: float) -> None:
        self.names, self.similarity = names, similarity
        self._found: dict[str, str | None] = {}

    def find(self, answer: str) -> str | None:
        """The node that the whole answer names, exactly or by a variant; None too where it could be two."""
        if answer not in self._found:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[answer] = self.names.find(answer) or (self._variant(answer) if self.similarity < 1 else None)
        return self._found[answer]

    def _variant(self, answer: str) -> str | None:
        for text in bare(answer):
            pieces = spelling(text)
            if len(pieces) == 1:
                regular, written = _regular(pieces[0]), tuple(pieces[0].split())
                # as written too: what ends in "s" may be a slip of the pen and no plural
                node = self._respaced(regular) or self._misspelt(regular) or self._misspelt(written)
                if node is not None:
                    return node
        return None

    @cached_property
    def _regular_names(self) -> dict[tuple[str, ...], set[str]]:
        """The words of every name in their regular form, to the nodes that go by them."""
        regular: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for name, node in self.names.taxonomy.by_normalised_name.items():
            if name:
                regular[_regular(name)].add(node)
        return dict(regular)

    @cached_property
    def _by_key(self) -> dict[Key, set[tuple[str, ...]]]:
        keyed: dict[Key, set[tuple[str, ...]]] = defaultdict(set)
        for words in self._regular_names:
            keyed[_key(words)].add(words)
        return dict(keyed)

    @cached_property
    def _by_digits(self) -> dict[tuple[str, ...], list[str]]:
        """The names as text, by the numbers in them: names with other numbers are never compared."""
        grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for words in self._regular_names:
            grouped[_key(words)[1]].append(" ".join(words))
        return dict(grouped)

    @cached_property
    def _words(self) -> list[str]:
        return sorted({word for words in self._regular_names for word in words})

    @cached_property
    def _known_words(self) -> frozenset[str]:
        return frozenset(self._words)

    def _respaced(self, words: tuple[str, ...]) -> str | None:
        """By a plural, a twin spelling or other spaces. Fewer than 6 letters without a digit keep their spaces."""
        text, digits = key = _key(words)
        alike = self._by_key.get(key, set())
        if len(text) < MIN_LETTERS and not digits:
            alike = {other for other in alike if other == words}
        nodes = {node for other in alike for node in self._regular_names[other]}
        return nodes.pop() if len(nodes) == 1 else None

    def _misspelt(self, words: tuple[str, ...]) -> str | None:
        text, digits = _key(words)
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
        nodes = {
            node
            for other, score, _ in near
            if score >= best - MARGIN
            for node in self._regular_names[tuple(other.split())]
        }
        return nodes.pop() if len(nodes) == 1 and self._slips(words, tuple(name.split())) else None

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
        if (word[0] != meant[0] and short < LONG_WORD) or {word, _singular(word)} & self._known_words:
            return False
        others = process.extract(word, self._words, scorer=OSA.distance, score_cutoff=edits, limit=None)
        return {_singular(other) for other, _, _ in others} == {_singular(meant)}


def _regular(name: str) -> tuple[str, ...]:
    """The words of a normalised name, the last in the singular, "gray" for "grey"."""
    words = [re.sub("^grey", "gray", word) for word in name.split()]
    return (*words[:-1], _singular(words[-1]))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _key(words: tuple[str, ...]) -> Key:
    """A name without its spaces, and the numbers in it, each apart."""
    return "".join(words), tuple(re.findall(r"\d+", " ".join(words)))


def _read(file: Path) -> Taxonomy:
    try:
        data = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"a judge's taxonomy must be a readable yaml or json file, {file} is not: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("paths"), dict):
        raise UserError(
            f"a judge's taxonomy must have the key paths (class: [names from coarse to fine]), {file} has not"
        )
    return Taxonomy.from_dict(data)
