"""The judge that needs no model: the answer is looked up in the taxonomy, whole, and its place compared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement
from fgvr.judges.screen import abstains, gives_several
from fgvr.taxonomy.names import MAX_CHARACTERS, Names
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict


class TaxonomyJudge(Judge):
    """The answer's place in the taxonomy beside the label's. The same pair always gets one verdict.

    The label itself is SPECIFIC, a name below it MORE_SPECIFIC, an ancestor at most `close` steps up LESS_SPECIFIC, one
    further up or the root GENERIC, words of abstention (or nothing at all) ABSTAIN, and everything else WRONG: another
    class, a name the taxonomy lacks, several names in one answer (`several` then says so; "Common name (Scientific
    name)" are several where they contradict each other), more than 512 characters.

    Names and synonyms match whole, in the ways in which they are said (`Names.find`); so do misspelt names of at least
    `similarity`, from 0.5 to 1 (`Misspellings`): at 0.9 a name of ten letters may have one edit, and 1 accepts none.

    `taxonomy` names a yaml or json file that takes the place of the data's own taxonomy; it must hold all its classes.
    """

    def __init__(self, close: int = 2, taxonomy: Path | None = None, similarity: float = 0.9) -> None:
        if close < 0:
            raise UserError(f"close must be 0 steps or more, got {close}")
        if not 0.5 <= similarity <= 1:
            raise UserError(f"similarity must lie between 0.5 and 1 (which accepts no misspelling), got {similarity}")
        self.close, self.file, self.similarity = close, taxonomy, similarity
        self._names = Names(read_taxonomy(Path(taxonomy)), similarity) if taxonomy is not None else None

    def bind(self, taxonomy: Taxonomy) -> TaxonomyJudge:
        bound = copy.copy(self)
        if self.file is None or self._names is None:
            bound._names = Names(taxonomy, self.similarity)
        else:
            missing = sorted(set(taxonomy.paths) - set(self._names.taxonomy.lineage))
            if missing:
                raise UserError(f"{self.file} must hold every class of the data, but it lacks {missing[:5]}: add them")
        return bound

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement]:
        if self._names is None:
            raise ValueError("this judge needs a taxonomy: call bind(taxonomy) and use the judge it returns")
        return [self._judge(self._names, label, answer) for label, answer in pairs]

    def _judge(self, names: Names, label: str, answer: str) -> Judgement:
        taxonomy = names.taxonomy
        if label not in taxonomy.lineage:
            raise UserError(f"a label must be a name of the taxonomy, got {label!r}: use the taxonomy of the data")
        if len(answer) > MAX_CHARACTERS:
            return Judgement(Verdict.WRONG)
        node = names.find(answer)
        if node is None and abstains(answer):
            return Judgement(Verdict.ABSTAIN)
        node = node or names.of_aside(answer, names.find_misspelt)
        if node is None and not gives_several(label, answer.casefold(), names):  # so that case decides nothing
            node = names.find_misspelt(answer)
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
