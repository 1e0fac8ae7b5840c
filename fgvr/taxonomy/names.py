"""Which node of the taxonomy an answer names, without being taken in by a list of names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property

from fgvr.taxonomy.forms import Forms, mostly_numbered
from fgvr.taxonomy.lexicon import Lexicon
from fgvr.taxonomy.makers import makers_among, of_aircraft, without_maker
from fgvr.taxonomy.misspelling import Misspellings
from fgvr.taxonomy.phrasing import (
    aside,
    beside,
    genus,
    has_genera,
    kind_length,
    kinds,
    one_of,
    said,
    same_species,
    scientific,
    surely_scientific,
)
from fgvr.taxonomy.spelling import PART, UNUSUAL, bare, cut, normalise, singular, spelling
from fgvr.taxonomy.tree import Taxonomy

MAX_CHARACTERS = 512  # of an answer that is read: normalising long runs of accents takes quadratic time

REMEMBERED = 65536  # texts whose node is kept

Find = Callable[[str], str | None]


class Names:
    """All names and synonyms of a taxonomy, each to be matched whole.

    This is the one matcher of judges, rewards and tasks: what `find` finds is right for all of them. `similarity`,
    from 0.5 to 1, is how much of a name must stay in `find_misspelt`; at 1 that finds nothing more.
    """

    def __init__(self, taxonomy: Taxonomy, similarity: float = 0.9) -> None:
        self.taxonomy, self.similarity = taxonomy, similarity
        synonyms = {spelling(other): node for node, others in taxonomy.synonyms.items() for other in others}
        self._nodes = synonyms | {spelling(node): node for node in taxonomy.lineage}
        self._nodes.pop((), None)  # a name of mere punctuation would be every answer of mere punctuation
        longest = max(len(name) for names in ((*taxonomy.lineage,), *taxonomy.synonyms.values()) for name in names)
        self._limit = max(MAX_CHARACTERS, longest)
        self._found: dict[str, str | None] = {}
        self._guessed: dict[str, str | None] = {}
        self._kinds = kinds(taxonomy.root)
        self._root_words = frozenset(map(one_of, cut(taxonomy.root)))

    def find(self, text: str) -> str | None:
        """The node that the whole text names, or None where it names none, several, or could be either of two.

        A name or synonym as it is written counts before all else, past case, punctuation and a leading article. Then
        come the ways in which names are said:

        - by another spelling: a possessive with or without its "s" ("Brandt's" for "Brandt"), accents of Latin
          letters, "&", a plural of any word, "grey" for "gray", other spaces ("F16", "Yellow Throat"), a year in front
        - in a sentence ("It is a X.", "I think it's an X", "The bird in the photo appears to be a X"), or as
          "Species: X"
        - with what it is ("Bengal cat", "Beagle dogs", "Boxer (dog breed)")
        - "Common name (Scientific name)" or with a comma, of which the finer counts where one stands above the other; a
          scientific name that the taxonomy lacks is passed over, unless the node has another one
        - behind the name of a node above it ("BMW M3" for the M3 of BMW)
        - vehicles without their maker, body type or year, where what is left is one class alone ("737-800", "BMW M3"),
          and with the maker's short name ("VW Golf")
        - aircraft behind a maker who may have built them ("Boeing 737-800" for "737-800", but no "Boeing A320")

        Text with list separators matches only a name that has them in the same places. Nothing is guessed: a misspelt
        name is none (see `find_misspelt`). Text of more than 512 characters is no name, unless the taxonomy has one as
        long.
        """
        if len(text) > self._limit:
            return None
        return self._remember(self._found, text, lambda: self._said(text) or self.of_aside(text, self._said))

    def find_misspelt(self, text: str) -> str | None:
        """The node that the text names by `find`, else the one whose name it misspells (see `Misspellings`)."""
        if len(text) > self._limit:
            return None
        return self.find(text) or self._remember(
            self._guessed, text, lambda: self._misspelt(text) or self.of_aside(text, self.find_misspelt)
        )

    def of_aside(self, text: str, find: Find) -> str | None:
        """The node of "Name (other name)" or "Name, Scientific name", each by `find`.

        None for other text, and where the two contradict.
        """
        parts = aside(text) or self._beside(text)
        if parts is None:
            return None
        outer, inner = find(parts[0]), find(parts[1])
        if outer is None or inner is None:
            node, other = (inner, parts[0]) if outer is None else (outer, parts[1])
            return node if node is not None and (self._is_kind(other, node) or self._may_be(other, node)) else None
        if outer == inner or self.taxonomy.is_ancestor(inner, outer):
            return outer
        return inner if self.taxonomy.is_ancestor(outer, inner) else None

    def readings(self, text: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """The words that may be the name in a text, in the form of `Forms.regular`, with those that say its kind."""
        if UNUSUAL.search(text):
            return
        name = said(text, self._root_words)
        for reading in (text, name) if name is not None else (text,):
            for bared in bare(reading):
                words = self.forms.regular(cut(bared))
                yield words, ()
                if length := kind_length(words, self._kinds):
                    yield words[:-length], words[-length:]

    def fits(self, kind: tuple[str, ...], node: str) -> bool:
        """Whether the words for a kind are not the name of a node that does not stand above this one."""
        starts = [kind[:count] for count in range(1, len(kind) + 1)]
        named = (self._nodes.get((" ".join(start),)) or self.forms.find(start) for start in starts)
        return all(other is None or self.taxonomy.is_ancestor(other, node) for other in named)

    @cached_property
    def forms(self) -> Forms:
        """The names and synonyms as they may be spelt by rule."""
        makers = {cut(node) for path in self.taxonomy.paths.values() for node in path[:-1]}
        above = {node: line[:-1] for node, line in self.taxonomy.lineage.items()}
        return Forms(self._owners, makers, self._numbered, above)

    @cached_property
    def _ways(self) -> tuple[Callable[[tuple[str, ...]], str | None], ...]:
        """The ways to find words, the surest first. Where the classes are years, one is not named without it."""
        years = self.taxonomy.ranks[-1:] and "year" in cut(self.taxonomy.ranks[-1])
        ways = (self.forms.find, self.forms.find_below, self.forms.find_shortened, self._find_made)
        return ways if years else (*ways, self.forms.find_yearless)

    def _find_made(self, words: tuple[str, ...]) -> str | None:
        """The aircraft that these words name with a maker before it, unless it stands below another one."""
        parts = without_maker(words, self._of_aircraft)
        node = self.forms.find(parts[1]) if parts is not None else None
        if parts is None or node is None:
            return None
        above = makers_among(self.taxonomy.lineage[node][:-1])
        return node if not above or parts[0] in above else None

    @cached_property
    def _numbered(self) -> bool:
        return mostly_numbered(self.taxonomy.paths)

    @cached_property
    def _of_aircraft(self) -> bool:
        return of_aircraft(self.taxonomy.paths)

    @cached_property
    def misspellings(self) -> Misspellings:
        return Misspellings(self.forms.words, self.similarity)

    @cached_property
    def lexicon(self) -> Lexicon:
        """The names and synonyms as they are to be found within longer text."""
        return Lexicon(self._owners)

    @cached_property
    def _owners(self) -> dict[str, str]:
        synonyms = {other: node for node, others in self.taxonomy.synonyms.items() for other in others}
        return synonyms | {node: node for node in self.taxonomy.lineage}

    @staticmethod
    def _remember(found: dict[str, str | None], text: str, look: Callable[[], str | None]) -> str | None:
        if text not in found:
            if len(found) >= REMEMBERED:
                found.clear()
            found[text] = look()
        return found[text]

    def _said(self, text: str) -> str | None:
        if (node := self._written(text)) is not None:
            return node
        readings = list(self.readings(text))
        for find in self._ways:
            for words, kind in readings:
                node = find(words)
                if node is not None and self.fits(kind, node):
                    return node
        return None

    def _misspelt(self, text: str) -> str | None:
        if self.similarity >= 1:
            return None
        for words, kind in self.readings(text):
            if PART in words or not words:
                continue
            for last in (singular(words[-1]), words[-1]):  # what ends in "s" may be a slip of the pen and no plural
                node = self.misspellings.find((*words[:-1], last))
                if node is not None and self.fits(kind, node):
                    return node
        return None

    def _written(self, text: str) -> str | None:
        """The node whose name or synonym this is as it stands, past a leading article and closing punctuation."""
        for candidate in bare(text):
            pieces = spelling(candidate)
            node = self._nodes.get(pieces) or (self.taxonomy.find(pieces[0]) if len(pieces) == 1 else None)
            if node is not None:
                return node
        return None

    def _beside(self, text: str) -> tuple[str, str] | None:
        """By `beside`; None among vehicles, and where it ends as another name does: a Canada warbler is no Passer."""
        parts = beside(text)
        if parts is None or self.find(parts[1]) is not None:
            return parts
        other = self._numbered or self.forms.ends_a_name(cut(parts[1])[-1])
        return None if other else parts

    def _is_kind(self, text: str, node: str) -> bool:
        words = tuple(map(one_of, cut(bare(text)[-1])))
        return 0 < len(words) == kind_length(words, self._kinds) and self.fits(words, node)

    def _may_be(self, text: str, node: str) -> bool:
        """Whether the text is a scientific name, or a genus, that the node may have: none of its own says otherwise."""
        synonyms = map(scientific, self.taxonomy.synonyms.get(node, ()))
        own = [words for words in (surely_scientific(node), *synonyms) if words]
        latin = scientific(text) or self._genus(text, {words[0] for words in own})
        if not latin or (own and not any(same_species(latin, words) for words in own)):
            return False
        group = self._nodes.get((latin[0],))
        return group in (None, node) or self.taxonomy.is_ancestor(group, node)

    def _genus(self, text: str, own: Collection[str]) -> tuple[str, ...]:
        """One of its own genera, or by `genus` where the names are of living things and none ends in it."""
        if (word := normalise(text)) in own:
            return (word,)
        words = genus(text)
        if not has_genera(self.taxonomy.root) or self._numbered:
            return ()
        return () if any(map(self.forms.ends_a_name, words)) else words
