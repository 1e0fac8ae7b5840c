"""What a teacher's reply must keep to before anybody learns from it; each way to fail has a name that is counted."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from fgvr.data.control_tokens import known_control_tokens_in
from fgvr.data.sections import MOST, Sections, read_reply
from fgvr.errors import SampleError, UserError, refuse_below, refuse_no_share, unseen
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import mentions
from fgvr.thoughts.teacher import Photo

COMMON = frozenset(
    [
        "the",
        "of",
        "and",
        "is",
        "in",
        "with",
        "it",
        "that",
        "its",
        "this",
        "to",
        "on",
        "are",
        "be",
        "has",
        "not",
        "as",
        "which",
        "from",
        "by",
        "at",
        "but",
        "an",
        "than",
    ]
)
LOST = "\ufffd"  # stands for what could not be decoded
REFUSALS = re.compile(r"\b(?:i(?:'m| am) (?:sorry|unable)|i can(?:no|')t|as an ai)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """Characters of a whole thought, from `shortest` to `longest`; `foreign` is the share of its letters that may be of
    another script than the one most are of. `english` is the share of its words that must be among the commonest of
    English, which no text in English lacks: 0 for a teacher that is to write another language. Raises UserError for
    numbers that no thought could keep to."""

    shortest: int = 80
    longest: int = 6000
    foreign: float = 0.02
    english: float = 0.1

    def __post_init__(self) -> None:
        refuse_below(0, "recipe.limits", shortest=self.shortest)
        refuse_no_share("recipe.limits", foreign=self.foreign, english=self.english)
        if self.longest < max(1, self.shortest):
            raise UserError(
                f"recipe.limits.longest must be at least 1 and at least shortest, which is {self.shortest}, got "
                f"{self.longest}"
            )


def checked(text: str, photo: Photo, names: Names, limits: Limits) -> Sections:
    """The parts of a reply that can be learned from, the names spelt as the taxonomy spells them.

    Raises SampleError whose words are one of: "refused", "control token", "unreadable characters", "missing section:
    ...", "tag or heading within a section: ...", "too many candidates", "label not among the candidates", "candidate of
    another parent", "wrong prediction", "label in the analysis", "mixed language", "another language", "too short",
    "too long".
    """
    if known_control_tokens_in(text):
        raise SampleError("control token")
    if LOST in text or any(unseen(letter) for letter in text if letter not in "\n\r\t"):
        raise SampleError("unreadable characters")
    try:
        parts = read_reply(text)
    except SampleError:
        if REFUSALS.search(text):
            raise SampleError("refused") from None
        raise
    if len(parts.thought()) > limits.longest:  # before anything that takes long for what is far too long
        raise SampleError("too long")
    candidates = tuple(dict.fromkeys(names.find(name) or name for name in parts.candidates))
    whole = Sections(parts.analysis, candidates, parts.comparison, names.find(parts.prediction) or parts.prediction)
    thought = whole.thought()
    for failed, reason in (
        (len(candidates) > MOST, "too many candidates"),
        (whole.prediction != photo.label, "wrong prediction"),
        (photo.label not in candidates, "label not among the candidates"),
        (_strays(candidates, photo, names), "candidate of another parent"),
        (_names_label(parts.analysis, photo.label, names), "label in the analysis"),
        (foreign_share(thought) > limits.foreign, "mixed language"),
        (len(thought) < limits.shortest, "too short"),
        (len(thought) > limits.longest, "too long"),
        (english_share(f"{parts.analysis} {parts.comparison}") < limits.english, "another language"),
    ):
        if failed:
            raise SampleError(reason)
    return whole


def foreign_share(text: str) -> float:
    """The share of letters that are not of the script that most of them are of; 0 for a text without letters."""
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    return 1 - max(scripts.values()) / scripts.total() if scripts else 0.0


def english_share(text: str) -> float:
    """The share of words that are among the commonest of English; 1 for a text without words."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return sum(word in COMMON for word in words) / len(words) if words else 1.0


def _strays(candidates: tuple[str, ...], photo: Photo, names: Names) -> bool:
    """Whether a class that the taxonomy knows elsewhere is among the candidates; a class alone below its parent has no
    others, so any will do. Names that the taxonomy lacks are nobody's."""
    own = {photo.label, *photo.siblings}
    return bool(photo.siblings) and any(name in names.taxonomy.paths and name not in own for name in candidates)


def _names_label(analysis: str, label: str, names: Names) -> bool:
    """Whether the label or a synonym of it stands somewhere in the text."""
    return any(mentions(analysis, name) for name in (label, *names.taxonomy.synonyms.get(label, ())))
