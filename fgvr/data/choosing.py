"""Which of the options shown a reply chooses: the one parser, of rewards as of evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fgvr.taxonomy.spelling import spelling

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NONE = "none of these"  # an option that says that the right one is not among the others

Same = Callable[[str, str], bool]

_WORD = r"(?:(?i:option|choice)\s+)?"
EMPHASIS = re.compile(r"[*`]+|(?<![^\W_])_+|_+(?![^\W_])")
LETTER = re.compile(rf"{_WORD}[(\[]?\s*([A-Za-z])\s*[)\]]?[.,:;!]?")
MARKED = re.compile(rf"{_WORD}(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z])[).:\]])\s*(?:[-–—]\s*)?(\S.*)", re.DOTALL)
SPACED = re.compile(rf"{_WORD}([A-Za-z])(?:\s+[-–—])?\s+(\S.*)", re.DOTALL)


def chosen_option(text: str, shown: Sequence[str], letters: bool, same: Same) -> int | None:
    """The place of the one option that an answer chooses, None where it chooses none or several.

    `same` says whether a text, said in whatever way, means an option. With `letters` the k-th option may be called by
    the k-th letter. In this order:

    - a letter that was offered and nothing else is that option, in brackets, in bold, with a full stop or behind the
      word "option" as well ("A", "a", "(A)", "A.", "**A**", "[A]", "Option A"), even where another option bears that
      letter as its name
    - the name of an option as it is written is that option, past case and punctuation ("B-2", "A. americana")
    - behind a letter the name of that very option may follow ("A) Red Finch"): of another one, it contradicts itself
    - any other way of saying an option's name is that option
    """
    plain = EMPHASIS.sub("", text).strip()
    offered = LETTERS[: len(shown)] if letters else ""
    alone = LETTER.fullmatch(plain)
    if alone is not None and alone[1].upper() in offered:
        return offered.index(alone[1].upper())
    written = spelling(text)
    for place, option in enumerate(shown):
        if written and spelling(option) == written:
            return place
    if not letters:
        return _said(text, shown, same)
    if marked := MARKED.fullmatch(plain):
        return _agreeing(marked[1] or marked[2], marked[3], shown, same)
    said = _said(text, shown, same)
    if said is None and (spaced := SPACED.fullmatch(plain)):
        return _agreeing(spaced[1], spaced[2], shown, same)
    return said


def _agreeing(letter: str, name: str, shown: Sequence[str], same: Same) -> int | None:
    """The option under the letter, if it was offered and is what the name behind it means."""
    place = LETTERS.index(letter.upper())
    return place if place < len(shown) and _said(name, [shown[place]], same) == 0 else None


def _said(text: str, shown: Sequence[str], same: Same) -> int | None:
    meant = [place for place, option in enumerate(shown) if same(text, option)]
    return meant[0] if len(meant) == 1 else None
