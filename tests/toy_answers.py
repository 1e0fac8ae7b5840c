"""Answers about four birds, judged by the taxonomy, and examples of any number of datasets."""

from __future__ import annotations

from fgvr.judges.base import Judged, Judgement
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.metrics import PARSE_FAILURE, UNJUDGED
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example, Verdict

BIRDS = Taxonomy(
    {
        "Ruby": ("Songbirds", "Finches", "Ruby"),
        "Ash": ("Songbirds", "Finches", "Ash"),
        "Barred": ("Songbirds", "Wrens", "Barred"),
        "Emu": ("Ratites", "Emu"),
    },
    ("order", "family", "species"),
    "bird",
)
ANSWERS = [None, "Ruby", "Ash", "Barred", "Emu", "finches", "Songbirds", "bird", "unknown", "Ruby or Ash", "dodo"]
BINS = [UNJUDGED, PARSE_FAILURE, *map(int, Verdict)]
JUDGE = TaxonomyJudge(close=1).bind(BIRDS)


def example(label: str, dataset: str = "birds", uid: str = "x", photo: bytes = b"") -> Example:
    return Example(uid, (photo,), label, BIRDS.paths[label], "val", "seen", dataset)


def judged(label: str, answer: str | None, dataset: str = "birds") -> Judged:
    """What the taxonomy says of an answer; None is a reply that did not parse."""
    if answer is None:
        return Judged(example(label, dataset), "no tags", None, None)
    (judgement,) = JUDGE.verdicts([(label, answer)])
    return Judged(example(label, dataset), answer, Answer(answer), judgement)


def answered(value: int, dataset: str = "birds", several: bool = False) -> Judged:
    """An answer about Ruby that has this verdict, or PARSE_FAILURE, or UNJUDGED."""
    if value < 0:
        lost = None if value == PARSE_FAILURE else "time-out"
        return Judged(example("Ruby", dataset), "", Answer("x") if lost else None, None, lost)
    return Judged(example("Ruby", dataset), "", Answer("x"), Judgement(Verdict(value), several=several))
