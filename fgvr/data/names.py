"""Which node of the taxonomy an answer names, without being taken in by a list of names."""

from __future__ import annotations

import re
import unicodedata

from fgvr.data.taxonomy import Taxonomy, normalise

# The marks that part one name from the next in a list. Normalising drops them (it keeps the words "and", "or", "vs"),
# which would turn the list "red, finch" into the name "red finch".
SEPARATORS = re.compile(r"[,;/\\|&+•·、\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)


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
