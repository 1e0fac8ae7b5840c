"""What needs no model to be judged: blank answers, the label itself, several names, and text that is no name at all.

It stands between the untrusted text of a policy and a judge that can be talked into anything. Where it is in doubt it
refuses: an odd phrase refused costs little, a hedge or a phrase that is rewarded is soon all that a policy says.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from fgvr.data.names import MAX_CHARACTERS, SEPARATORS, Lexicon, Names, Spot, Written, bare, spelling
from fgvr.data.taxonomy import Taxonomy, normalise
from fgvr.judges.base import Judgement
from fgvr.judges.phrases import (
    ABBREVIATIONS,
    ABSTENTION,
    ALSO,
    ASIDES,
    BETWEEN,
    CORE,
    EITHER,
    FILLERS,
    LEADS,
    PAIRED,
    PHRASES,
    SHORT_ALSO,
    TALK,
    TALK_WHOLE,
    TALK_WITHIN,
    WITHIN,
)
from fgvr.types import Verdict

MAX_WORDS = 12  # or three times the label's
MAX_LETTERS = 40  # of one word
PUNCTUATION = frozenset(" -‐‑‒–'’‘ʼ._()×\"“”,!&/")
ENDS = (",", "-", "‐", "–", "—", "..", "…", "&", "/", "(", "+")  # of what is to go on
HYPHEN = re.compile("[-‐‑‒–−]")
# Letters and marks that show nothing.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0e\uffa0]")
ASIDE = re.compile(r"([^()]+)\(([^()]+)\)[\s.!,]*")
# "Cardinalis cardinalis", "C. cardinalis", a subspecies; and the names of families and orders.
SCIENTIFIC = re.compile(
    r"(?:[^\W\d_]+(?:us|a|um|is|es|as|os|ops|[iy]s|x|o|ion|sser|nser|iter|ys|en)|[^\W\d_]\.)"
    r"(?: [^\W\d_]+(?:us|a|um|is|i|ae|ns|x|es|os|ior|jor|nor|lor|tor|ense|[^h]ale|are)){1,2}"
    r"|[^\W\d_]{3,}(?:idae|inae|aceae|oideae|formes|ales)",
    re.IGNORECASE,
)
MODEL = re.compile(r"(?:an? |the )?(?:[a-z]{1,2}-\d{2,4}|\d{3}-\d{2,3})", re.IGNORECASE)  # Il-76, 707-320
# What is neither a name nor a model's number: "aZZb", "spec1fic", "5pecific", "0x73".
CODED = re.compile(r"^[a-z]+[A-Z]{2,}[a-z]|[^\W\d]{3}\d[^\W\d]{2}|^\d[^\W\d]{7}|^0x\d")
YEAR = re.compile(r"(?:19|20)\d\d")
NUMBERED = re.compile(r"(?:^|[\s(\[])(?:(?P<n>\d{1,2})[.):\]]|(?P<c>[a-z]|[ivx]{1,4})[):\]])(?=\D)", re.IGNORECASE)
LETTERED = re.compile(r"(?:^|\s)(?:a[.:] .*\sb[.:] |1 \D.*\s2 \D)", re.IGNORECASE | re.DOTALL)


def _cut(word: str) -> set[str]:
    """The word, and the word less any one letter: two words that share one of these are a slip of the pen apart."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


MISSPELT = frozenset(cut for word in CORE for cut in _cut(word))


def screen(label: str, answer: str, known: Names | None = None) -> Judgement | None:
    """The judgement of an answer that needs no model, else None. `known` are the names and synonyms of the classes.

    Blank text or words of abstention are ABSTAIN, the label (by synonym too) SPECIFIC. WRONG are several names in one
    answer, and text that is no name: longer than 512 characters, or than 12 words and three times the label's; with
    markup, or characters that do not show; with words of instructions or of judging; of such words alone as name
    nothing. What the label or a name in `known` contains is not held against an answer, save in the last case.
    """
    if len(answer) > MAX_CHARACTERS:
        return Judgement(Verdict.WRONG)
    if not answer.strip():
        return Judgement(Verdict.ABSTAIN)
    if _names_label(label, answer):
        return Judgement(Verdict.SPECIFIC, label)
    if known is not None:
        node = known.find(answer) or finer_of_aside(answer, known.find, known.taxonomy)
        if node is not None:
            return Judgement(Verdict.SPECIFIC, node) if node == known.find(label) else None
    if abstains(answer):
        return Judgement(Verdict.ABSTAIN)
    reading = _read(label, answer, known)
    if _several(reading):
        return Judgement(Verdict.WRONG, several=True)
    return None if _is_name(reading) else Judgement(Verdict.WRONG)


def _names_label(label: str, answer: str) -> bool:
    """Whether the answer is the label as `Names.find` finds it: whole, past an article and closing punctuation."""
    names = {spelling(label), (normalise(label),)}
    return any(spelling(text) in names for text in bare(answer) if spelling(text))


def abstains(answer: str) -> bool:
    """Whether the answer is blank or words of abstention. It must not be longer than MAX_CHARACTERS."""
    return not answer.strip() or ABSTENTION.fullmatch(normalise(answer)) is not None


def gives_several(label: str, answer: str, known: Names | None = None) -> bool:
    """Whether the answer, as it was written, holds more names than one, by `known` or by the marks of a list.

    It must not be longer than MAX_CHARACTERS. Raises nothing for any text.
    """
    return _several(_read(label, answer, known))


def finer_of_aside(answer: str, find: Callable[[str], str | None], taxonomy: Taxonomy) -> str | None:
    """The node of "Common name (Scientific name)": both must be names of one node, or the finer one's ancestor's."""
    parts = ASIDE.fullmatch(unicodedata.normalize("NFKC", answer).strip())
    outer, inner = (find(parts[1]), find(parts[2])) if parts else (None, None)
    if outer is None or inner is None:
        return None
    if outer == inner or taxonomy.is_ancestor(inner, outer):
        return outer
    return inner if taxonomy.is_ancestor(outer, inner) else None


@dataclass(frozen=True)
class _Reading:
    """An answer beside its label: `own` is what the label is made of, `known` all names; `inside` holds the places of
    the words that belong to a name that was found, `joined` those whose gap to the word before lies inside one."""

    answer: str
    text: Written
    label_text: str
    label: Written
    own: Lexicon
    known: Names | None
    spots: list[Spot]
    inside: frozenset[int]
    joined: frozenset[int]

    def excused(self, word: str) -> bool:
        return word in self.own.words or (self.known is not None and word in self.known.lexicon.words)


@lru_cache(maxsize=4096)
def _lexicon(label: str) -> Lexicon:
    return Lexicon({label: label})


def _read(label: str, answer: str, known: Names | None) -> _Reading:
    text, own = Written.of(answer), _lexicon(label)
    spots = known.lexicon.spots(text) if known is not None else []
    taken = {place for spot in spots for place in range(spot.start, spot.end)}
    spots += [spot for spot in own.spots(text) if not taken & set(range(spot.start, spot.end))]
    inside = frozenset(place for spot in spots for place in range(spot.start, spot.end))
    joined = frozenset(place for spot in spots for place in range(spot.start + 1, spot.end))
    return _Reading(
        answer, text, unicodedata.normalize("NFKC", label), Written.of(label), own, known, spots, inside, joined
    )


def _several(reading: _Reading) -> bool:
    return _unrelated(reading) or _parted(reading) or _listed(reading) or _odd_aside(reading)


def _unrelated(reading: _Reading) -> bool:
    """Names of two nodes of which neither stands above the other; also where they are run together ("robinwren")."""
    if reading.known is None:
        return False
    taxonomy = reading.known.taxonomy
    together = reading.known.lexicon.run_together(reading.text)
    return any(
        first != second and not taxonomy.is_ancestor(first, second) and not taxonomy.is_ancestor(second, first)
        for nodes in ({spot.node for spot in reading.spots} & taxonomy.lineage.keys(), set(together))
        for first, second in combinations(nodes, 2)
    )


def _parted(reading: _Reading) -> bool:
    """List separators, or words like "or" and "and", that are not part of a name."""
    words, raw, gaps = reading.text.words, reading.text.raw, reading.text.gaps
    if WITHIN.search(reading.answer) and not WITHIN.search(" ".join(reading.label.raw)):
        return True
    for place in range(1, len(words)):
        pair = (words[place - 1], words[place])
        part = place in reading.joined or pair in reading.own.joins or all(word in ASIDES for word in words[place:])
        if not part and _separates(gaps[place], raw, place):
            return True
    for place, word in enumerate(words):
        if place in reading.inside:
            continue
        before, after = words[place - 1 : place], words[place + 1 : place + 2]
        own = any(pair in reading.own.pairs for pair in (*zip(before, (word,)), *zip((word,), after)))  # noqa: B905
        between = bool(before and after)
        if own:
            continue
        if word in EITHER or (between and word in BETWEEN):
            return True
        if word in ALSO and not (between and before[0] in PAIRED and after[0] in PAIRED and words[place + 2 :]):
            return True
        lone = between and gaps[place].isspace() and gaps[place + 1].isspace() and before[0] != "model"
        if lone and raw[place] in SHORT_ALSO and min(len(before[0]), len(after[0])) > 2:
            return True
    return False


def _separates(gap: str, raw: tuple[str, ...], place: int) -> bool:
    """Whether what stands between two words makes a list of them."""
    before, after, mark = raw[place - 1], raw[place], gap.strip()
    if gap == "/":  # F/A-18, C/V
        return not (len(before) == 1 or len(after) == 1) or len(raw) == 2
    if SEPARATORS.search(gap) or "—" in gap or "―" in gap or any(unicodedata.category(c) == "So" for c in gap):
        return True
    if any(c in '!?~>=*…"“”' for c in gap) or sum(c in "'‘’" for c in gap) > 1:
        return True
    if HYPHEN.search(gap):
        return mark != gap or HYPHEN.fullmatch(gap.strip("'’‘ʼ")) is None
    if "." not in gap:
        return False
    if gap == ".":  # U.S., 3.0, 001.Sparrow
        return not (len(before) == 1 or len(after) == 1 or before[-1].isdigit() or after[0].isdigit())
    return gap.strip(" _()\"'’‘“”") != "." or not (len(before) == 1 or before.lower() in ABBREVIATIONS)


def _listed(reading: _Reading) -> bool:
    """Numbered names, a word again and again, one name of several words twice, two years, a cross of three."""
    text, free = reading.text, [word for word in reading.text.words if word not in reading.own.words]
    plain = unicodedata.normalize("NFKC", reading.answer)
    marks = Counter(bool(match["n"]) for match in NUMBERED.finditer(plain))
    if max(marks.values(), default=0) > 1 or ({"1", "2", "a", "b"} & set(free) and LETTERED.search(plain)):
        return True
    if max(Counter(text.words).values(), default=0) > 3:
        return True
    years = {word for word in text.words if YEAR.fullmatch(word)}
    if (len(years) > 1 and not years <= reading.own.words) or sum("×" in gap for gap in text.gaps) > 1:
        return True
    long = Counter(text.words[spot.start : spot.end] for spot in reading.spots if spot.end - spot.start > 1)
    return max(long.values(), default=0) > 1


def _odd_aside(reading: _Reading) -> bool:
    """Parentheses that hold another name, not the scientific one, or the word that tells male from female."""
    if not {"(", ")"} & set(reading.answer) or {"(", ")"} <= reading.own.characters:
        return False
    words = reading.text.words
    if all(place in reading.inside or words[place] in FILLERS for place in range(len(words))):
        return False
    parts = ASIDE.fullmatch(unicodedata.normalize("NFKC", reading.answer).strip())
    if parts is None:
        return True
    outer, inner = (bare(" ".join(part.split()))[-1].strip(" .,") for part in parts.groups())
    if (SCIENTIFIC.fullmatch(outer) is None) != (SCIENTIFIC.fullmatch(inner) is None):
        return False
    said, aside = Written.of(outer).words, Written.of(inner).words
    if not said or not aside or all(word in ASIDES or _talk(word) or word in FILLERS for word in aside):
        return False
    if YEAR.fullmatch(inner):
        return any(YEAR.fullmatch(word) for word in said)
    return not reading.own.words.issuperset((*said, *aside))


def _is_name(reading: _Reading) -> bool:
    words = reading.text.words
    if (
        not words
        or reading.answer.rstrip().endswith(ENDS)
        or len(words) > max(MAX_WORDS, 3 * len(reading.label.words))
        or not _shows(reading)
    ):
        return False
    lead = next((len(lead) for lead in LEADS if words[: len(lead)] == lead), 0)
    free = [word for place, word in enumerate(words) if place >= lead and place not in reading.inside]
    if any(_talk(word) and not reading.excused(word) for word in free):
        return False
    if any(first + second in CORE for first, second in pairwise(free)):
        return False
    named = any(words[place] not in FILLERS for place in reading.inside)
    if not (named or any(_says(reading, word) for word in free) or MODEL.fullmatch(reading.answer.strip())):
        return False
    phrase = PHRASES.search(" ".join(free))
    if phrase and phrase.group() not in " ".join(reading.label.words):
        return False
    whole = "".join(words)
    within = TALK_WITHIN.search(unicodedata.normalize("NFKC", reading.answer))
    if within and within.group() not in reading.label_text:
        return False
    if sum(len(word) == 1 and not reading.excused(word) for word in free) > 3:  # spelt out
        return False
    return named or len(set(whole)) > 1 or not whole.isascii()


def _says(reading: _Reading, word: str) -> bool:
    """Whether the word tells one name from another; a number does where the label holds it."""
    if word.isdecimal():
        return word in reading.own.words
    return not (_talk(word) or word in FILLERS or word in TALK_WHOLE)


def _talk(word: str) -> bool:
    return word in TALK or (len(word) > 5 and not MISSPELT.isdisjoint(_cut(word)))


def _shows(reading: _Reading) -> bool:
    """Whether the text consists of letters, digits and the marks of names, in one script, and does not look coded."""
    answer, plain = reading.answer.strip(), unicodedata.normalize("NFKC", reading.answer.strip())
    own = reading.own.characters | (reading.known.lexicon.characters if reading.known else frozenset())
    marks = sum(unicodedata.category(c)[0] == "M" for c in plain)
    if marks * 2 > len(plain) or not all(_shown(c) or c in own for c in answer + plain):
        return False
    free = [word for place, word in enumerate(reading.text.raw) if place not in reading.inside]
    if any(_coded(word) and not reading.excused(word.casefold()) for word in free):
        return False
    scripts = [{_script(c) for c in word if c.isalpha()} - {"MODIFIER"} for word in free]
    if any(len(used) > 1 and "EAST" not in used for used in scripts):
        return False
    everywhere = set().union(*scripts)
    return len(everywhere) < 2 or any(_script(c) == "EAST" for c in own if c.isalpha())


def _shown(c: str) -> bool:
    if UNSEEN.match(c):
        return False
    return c.isalnum() or c in PUNCTUATION or unicodedata.category(c) in ("Mn", "Mc", "Zs")


def _coded(word: str) -> bool:
    """Base64, hexadecimal and the like: letters and digits, upper and lower case in no order of a name."""
    letters = re.sub(r"\d", "", word)
    rises = sum(a.islower() and b.isupper() for a, b in pairwise(letters))
    switches = sum(a.isdigit() != b.isdigit() for a, b in pairwise(word))
    mixed = len(word) > 5 and rises > 0 and re.search(r"[^\W\d_]\d+[^\W\d_]", word) is not None
    return len(word) > MAX_LETTERS or rises > 1 or switches > 4 or mixed or CODED.search(word) is not None


def _script(c: str) -> str:
    first = unicodedata.name(c, "UNNAMED").split()[0].split("-")[0]
    return "EAST" if first in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC") else first
