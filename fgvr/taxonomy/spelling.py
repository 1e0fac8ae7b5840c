"""How names are written: apostrophes, list separators, articles and accents, the words of a name and their singular."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# The vowel and tone marks of Thai, Hindi and many others are letters of their words, and no regex class has them.
MARKS = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")
APOSTROPHES = "'’‘‛`´ʼʻʽʹˈ′‵＇ꞌ՚׳\x92"
APOSTROPHE = re.compile(f"[{APOSTROPHES}]")
_STRAIGHT = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))
_RUN = rf"[^\W_]+(?:[{MARKS}]+[^\W_]*)*"  # letters and digits
_RUNS = re.compile(_RUN)
WORD = re.compile(rf"{_RUN}(?:[{APOSTROPHES}]+{_RUN})*|&")

# The marks that part one name from the next in a list, and what looks like them or like nothing at all. Normalising
# drops them (it keeps the words "and", "or", "vs"), which would turn the list "red, finch" into the name "red finch".
_PARTING = (
    r",;/\\|+\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029"
    "•·・‧∙⋅●○◦▪▫■□‣⁃⁌⁍、،؛؍‚⸲⸴⸵⸝꘍⁄∕⧸⧵⟋⟍╱╲¦‖∣∥│┃║ǀǁǂǃ→⇒➜⟶←↔"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
)
SEPARATORS = re.compile(f"[{_PARTING}&]+")
_PARTS = re.compile(f"[{_PARTING}]+")
PART = "|"  # stands among the words of a name for a run of separators
ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)


# Markup, control characters, doubt and stacked accents: none of the ways in which people write a name.
UNUSUAL = re.compile(rf"[^\w\s{MARKS}{APOSTROPHES}{_PARTING}&‐‑‒–—\"“”.:!()×-]|\.\s*\.|^\s*`|`\s*$|[{MARKS}]{{5}}")
_POSSESSED = re.compile(rf"{_RUN}(?:'+{_RUN})*'?|&")
_POSSESSIVE = re.compile("'s$|'$")
_TWINS = {"grey": "gray", "st": "saint"}
_PLURALS = (
    *(("s", ""), ("ies", "y"), ("es", ""), ("ves", "f"), ("ves", "fe"), ("i", "us")),
    *(("men", "man"), ("mice", "mouse"), ("geese", "goose"), ("feet", "foot"), ("teeth", "tooth")),
)
_STROKES = str.maketrans(
    {"ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"}
)


def plain(text: str) -> str:
    """The text in NFKC, with one kind of apostrophe. Takes quadratic time on long runs of accents: bound the length."""
    return text.replace("`", "'") if text.isascii() else unicodedata.normalize("NFKC", text.translate(_STRAIGHT))


def normalise(name: str) -> str:
    """The form in which names are compared: NFKC, lower case, apostrophes dropped, other punctuation to one space."""
    text = plain(name).casefold().replace("'", "")
    return " ".join(_RUNS.findall(text))


def spelling(name: str) -> tuple[str, ...]:
    """The normalised pieces of a name between list separators: one for a plain name, none for mere punctuation."""
    pieces = (normalise(piece) for piece in SEPARATORS.split(plain(name)))
    return tuple(piece for piece in pieces if piece)


def bare(text: str) -> tuple[str, ...]:
    """The text without outer white space, and where it begins with an article, the text after that too."""
    stripped = text.strip()
    article = ARTICLE.match(stripped)
    return (stripped, stripped[article.end() :]) if article else (stripped,)


def cut(text: str) -> tuple[str, ...]:
    """The words of a name in lower case, without possessive endings and Latin accents, "and" for "&".

    A run of list separators between two words is the word `PART`.
    """
    words: list[str] = []
    for piece in _PARTS.split(plain(text).casefold()):
        found = [_word(match) for match in _POSSESSED.findall(piece)]
        words += [PART, *found] if words and found else found
    return tuple(words)


def _word(written: str) -> str:
    if written == "&":
        return "and"
    word = unaccented(_POSSESSIVE.sub("", written).replace("'", "") if "'" in written else written)
    return _TWINS.get(word, f"gray{word[4:]}" if word.startswith("grey") else word)


def unaccented(text: str) -> str:
    """Text in lower case with Latin letters bare: crème, phở, são and smørrebrød become creme, pho, sao, smorrebrod.

    The marks of other scripts stay, as they make other letters.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", without_loose_marks(unicodedata.normalize("NFD", text.translate(_STROKES))))


def without_loose_marks(text: str) -> str:
    """The text without those combining marks, of accents for instance, that follow no letter, or a Latin one."""
    if text.isascii():
        return text
    kept: list[str] = []
    carries = False  # whether a mark makes another letter of the last one
    for c in text:
        if unicodedata.category(c)[0] != "M":
            carries = c >= "\u0250" and c.isalnum()
        elif not carries:
            continue
        kept.append(c)
    return "".join(kept)


def singular(word: str) -> str:
    """An English word in the singular by the regular rules; words in -ss, -us and -is, and models, are left alone."""
    if not word.isalpha() or len(word) < 4 or not word.endswith("s"):
        return word
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


@lru_cache(maxsize=1 << 16)
def singulars(word: str) -> tuple[str, ...]:
    """All that a word may be the plural of, the likeliest first: "irises" of "irise" and of "iris", "tzus" of "tzu".

    Nothing for fewer than four letters or a word with a digit: a TTS is no TT, and a 911S no 911.
    """
    if not word.isalpha() or len(word) < 4:
        return ()
    return tuple(word.removesuffix(plural) + one for plural, one in _PLURALS if word.endswith(plural))


def mentions(text: str, name: str) -> bool:
    """Whether the words of a name stand side by side in a text, in the singular or not; False for mere punctuation."""
    said, words = _in_the_singular(text), _in_the_singular(name)
    return bool(words) and any(said[n : n + len(words)] == words for n in range(len(said) - len(words) + 1))


def _in_the_singular(text: str) -> tuple[str, ...]:
    """As `cut`, without letters that are not seen, as a soft hyphen within a word is."""
    return tuple(map(singular, cut("".join(c for c in text if unicodedata.category(c) != "Cf"))))
