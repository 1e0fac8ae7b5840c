"""What people write around a name: a sentence that says it, the kind of thing it is, its scientific name beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fgvr.taxonomy.spelling import cut, plain, singular

# Words for one kind of thing: what all names of a taxonomy are may be said by any of its words.
_KINDS = (
    frozenset({"bird"}),
    frozenset({"dog"}),
    frozenset({"cat"}),
    frozenset({"flower", "plant", "blossom"}),
    frozenset({"car", "vehicle", "automobile"}),
    frozenset({"aircraft", "airplane", "aeroplane", "plane", "airliner", "jet"}),
    frozenset({"food", "dish"}),
    frozenset({"fish"}),
    frozenset({"insect"}),
    frozenset({"butterfly", "moth"}),
    frozenset({"mushroom", "fungus"}),
    frozenset({"tree"}),
)
_EVERYDAY = frozenset().union(*_KINDS[:7])  # a tiger moth, a lion fish and a tulip tree are no tiger, lion and tulip
_WIDER = {"pet": ("cat", "dog"), "animal": ("bird", "dog", "cat", "fish", "insect", "butterfly")}
_RANKS = frozenset({"breed", "species", "variety", "cultivar"})
_SUBJECTS = frozenset({"animal", "object", "subject", "pet", "thing"}).union(*_KINDS, _RANKS)

_PHOTO = r"(?:photo|photograph|picture|image)"
_SHOWN = r"(?:shown|seen|pictured|depicted)"
_SENTENCE = re.compile(
    rf"""(?:i\s+(?:think|believe)\s+(?:that\s+)?)?
    (?: (?:the|this)\s+{_PHOTO}\s+(?:shows|is\s+of)
      | (?:a|an|the|this\s+is\s+an?)\s+{_PHOTO}\s+of
      | (?:it|this|that)(?:'s|\s+is)
      | (?:the|this|that)\s+(?P<subject>[^\W\d_]+(?:\s+(?!{_SHOWN}|in\s|of\s)[^\W\d_]+)?)
        (?:\s+{_SHOWN})? (?:\s+(?:in|of)\s+(?:the|this)\s+{_PHOTO})? (?:'s|\s+is)
    )\s+(?P<name>\S.*)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ASIDE = re.compile(r"([^()]+)\(([^()]+)\)[\s.!,]*")

# The endings of scientific names. One of a name's words must have one that hardly any English word has.
_LATIN = re.compile(
    r"[a-z-]{2,}(?:us|um|is|ae|ii|ops|os|ens|ans|oides|ytes|ypes|ys|[dn]ias|oeas|ilio|yle|[aeiou]x|[a-z]a|[lnrst]i)",
    re.IGNORECASE,
)
_LATINATE = re.compile(r"[a-z-]*(?:us|um|is|ae|i|ops|os|ens|ans|es|ys|x|a|o|e|on|or|er|en|ur|as|ps)", re.IGNORECASE)
_ENGLISH = frozenset(
    cut(
        """
        a also am an are asia basis be bus can could different extra female haves he her his idea is its juvenile
        like maria maybe me more none not oasis one or other others perhaps photo plus possible possibly probable
        probably see she some sure than the these this thus unsure us was we whereas wise you
        """
    )
)


def said(text: str, subjects: frozenset[str] = frozenset()) -> str | None:
    """The name in "It is a X.", "I think it's an X", "The bird in the photo is a X"; None where it is no such sentence.

    `subjects` are further words for what is shown.
    """
    sentence = _SENTENCE.fullmatch(plain(text).strip())
    if sentence is None:
        return None
    subject = sentence["subject"]
    if subject is not None and not {one_of(word) for word in cut(subject)} <= _SUBJECTS | subjects:
        return None
    return sentence["name"]


def one_of(kind: str) -> str:
    """The singular of a word for a kind: species are a species."""
    return kind if kind in _RANKS else singular(kind)


def kinds(root: str) -> frozenset[str]:
    """The words that may follow a name to say what it is, where all are `root`: the usual ones if it says nothing."""
    own = {one_of(word) for word in cut(root)}
    own |= {word for wide in own & _WIDER.keys() for word in _WIDER[wide]}
    fitting = [words for words in _KINDS if words & own]
    return frozenset(own).union(*fitting) if fitting else frozenset(own | _EVERYDAY)


def kind_length(words: tuple[str, ...], kinds: Iterable[str]) -> int:
    """How many words at the end only say what kind of thing it is: "cat", "dog breed", "species"; 0 for none."""
    rank = 1 if words and words[-1] in _RANKS else 0
    rest = words[: len(words) - rank]
    return rank + (1 if rest and rest[-1] in kinds else 0)


def aside(text: str) -> tuple[str, str] | None:
    """What stands before the parentheses that end the text, and what stands in them."""
    parts = _ASIDE.fullmatch(plain(text).strip())
    return (parts[1], parts[2]) if parts else None


def scientific(text: str) -> tuple[str, ...]:
    """The words of a scientific name of a species or a lower rank, without the sign of a hybrid; empty for other text.

    It goes by the endings of the words, as a list of all scientific names is out of reach.
    """
    written = re.sub(r"(?<=\s)(?:×|x|var\.|subsp\.|ssp\.|f\.|cf\.)\s+", "", plain(text).strip().rstrip("."))
    words = tuple(written.casefold().split())
    if not 2 <= len(words) <= 4 or _ENGLISH & {*words} or not re.fullmatch(r"[a-z.\s-]+", written, re.IGNORECASE):
        return ()
    genus, *epithets = words
    short = re.fullmatch(r"[a-z]{1,2}\.", genus) is not None
    if not all(re.fullmatch(r"[a-z]\.", word) or _latinate(word) for word in epithets):
        return ()
    if not (short or _latinate(genus)):
        return ()
    return words if genus == epithets[0] or any(map(_LATIN.fullmatch, words)) else ()


def _latinate(word: str) -> bool:
    return len(word) > 2 and _LATINATE.fullmatch(word) is not None


def surely_scientific(name: str) -> tuple[str, ...]:
    """As `scientific`, of a class name, which may sound so: "Cactus Wren", "Chili con carne", "garden phlox"."""
    lower = name.partition(" ")[2].islower()
    return scientific(name) if lower and all(map(_LATIN.fullmatch, name.split())) else ()


def same_species(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two scientific names agree as far as both go, past an abbreviated genus."""
    return all(
        first == second or (place == 0 and "." in first + second and first[0] == second[0])
        for place, (first, second) in enumerate(zip(one, other, strict=False))
    )
