"""Which of the options shown a reply chooses: the one parser, of rewards as of evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from fgvr.taxonomy.spelling import spelling

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NONE = "none of these"  # an option that says that the right one is not among the others

CONTRADICTION: Final = "contradiction"  # a letter with the name of another option

Same = Callable[[str, str], bool]
Chosen = int | Literal["contradiction"] | None

_WORD = r"(?:(?i:option|choice)\s+)?"
EMPHASIS = re.compile(r"[*`]+|(?<![^\W_])_+|_+(?![^\W_])")
LETTER = re.compile(rf"{_WORD}[(\[]?\s*([A-Za-z])\s*[)\]]?[.,:;!]?")
MARKED = re.compile(rf"{_WORD}(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z])[).:\]])\s*(?:[-–—]\s*)?(\S.*)", re.DOTALL)
SPACED = re.compile(rf"{_WORD}([A-Za-z])(?:\s+[-–—])?\s+(\S.*)", re.DOTALL)


def chosen_option(text: str, shown: Sequence[str], letters: bool, same: Same) -> Chosen:
    """The place of the one option that an answer chooses, None where it chooses none or several, or a contradiction.

    `same` says whether a text, said in whatever way, means an option. With `letters` the k-th option may be called by
    the k-th letter. In this order:

    - a letter that was offered and nothing else is that option, in brackets, in bold, with a full stop or behind the
      word "option" as well ("A", "a", "(A)", "A.", "**A**", "[A]", "Option A"), even where another option bears that
      letter as its name; one with any other marks about it chooses none (“A”, "A?", "{A}"), for it might be either
    - the name of an option as it is written is that option, past case and punctuation ("B-2", "A. americana")
    - behind a letter the name of that very option may follow ("A) Red Finch", "A Red Finch"); the name of another one
      is a contradiction, so that "a" before a name is never an article
    - any other way of saying an option's name is that option
    """
    plain = EMPHASIS.sub("", text).strip()
    offered = LETTERS[: len(shown)] if letters else ""
    alone = LETTER.fullmatch(plain)
    if alone is not None and alone[1].upper() in offered:
        return offered.index(alone[1].upper())
    written = spelling(text)
    if len(written) == 1 and written[0].upper() in [*offered]:
        return None
    for place, option in enumerate(shown):
        if written and spelling(option) == written:
            return place
    if letters and (found := MARKED.fullmatch(plain) or SPACED.fullmatch(plain)):
        *letter, name = (part for part in found.groups() if part is not None)
        own, meant = LETTERS.index(letter[0].upper()), _meant(name, shown, same)
        if meant:
            return own if meant == [own] else CONTRADICTION
    meant = _meant(text, shown, same)
    return meant[0] if len(meant) == 1 else None


def _meant(text: str, shown: Sequence[str], same: Same) -> list[int]:
    return [place for place, option in enumerate(shown) if same(text, option)]
