"""The judge that needs no model: the answer is looked up in the taxonomy, whole, and its place compared."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from fgvr.data.names import Names
from fgvr.data.taxonomy import Taxonomy, normalise
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement
from fgvr.types import Verdict

# Matched against the whole normalised answer (so "don't" is "dont" and "N/A" is "n a").
ABSTENTION = re.compile(
    r"""
    none (\ of\ (the\ above|these|them))? | abstain | idk | n\ a | no\ (answer|idea)
    | unknown | unsure | uncertain | unclear | unidentified | unidentifiable | undetermined | indeterminate
    | ((i\ am|im)\ )? not\ (sure|certain)
    | (i\ )? (do\ not|dont)\ know
    | (i\ )? (cannot|can\ not|cant|could\ not|couldnt)\ (tell|say|determine|identify) (\ (it|this|that))?
    | (it\ )? cannot\ be\ (determined|identified)
    | (unable|impossible|hard)\ to\ (tell|say|determine|identify)
    """,
    re.VERBOSE,
)


class TaxonomyJudge(Judge):
    """Exact match after normalisation, synonyms included; no fuzzy matching. The same pair always gets one verdict.

    The label itself is SPECIFIC, a name below it MORE_SPECIFIC, an ancestor at most `close` steps up LESS_SPECIFIC, one
    further up or the root GENERIC, words of abstention (or nothing at all) ABSTAIN, and everything else WRONG: another
    class, a name the taxonomy lacks, several names in one answer. A leading article and closing punctuation are passed
    over.

    `taxonomy` names a yaml or json file that takes the place of the data's own taxonomy; it must hold all its classes.
    """

    def __init__(self, close: int = 2, taxonomy: Path | None = None) -> None:
        if close < 0:
            raise UserError(f"close must be 0 steps or more, got {close}")
        self.close, self.file = close, taxonomy
        self._names = Names(_read(taxonomy)) if taxonomy is not None else None

    def bind(self, taxonomy: Taxonomy) -> TaxonomyJudge:
        bound = copy.copy(self)
        if self.file is None or self._names is None:
            bound._names = Names(taxonomy)
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
        node = names.find(answer)
        if node is None:
            blank = not answer.strip() or ABSTENTION.fullmatch(normalise(answer)) is not None
            return Judgement(Verdict.ABSTAIN if blank else Verdict.WRONG)
        if node == label:
            return Judgement(Verdict.SPECIFIC, node)
        if taxonomy.is_ancestor(label, node):
            return Judgement(Verdict.MORE_SPECIFIC, node)
        if taxonomy.is_ancestor(node, label):
            near = node != taxonomy.root and taxonomy.distance_up(node, label) <= self.close
            return Judgement(Verdict.LESS_SPECIFIC if near else Verdict.GENERIC, node)
        return Judgement(Verdict.WRONG, node)


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
