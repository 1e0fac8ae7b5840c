"""What needs no model to be judged: blank answers, the label itself, several names, and text that is no name at all.

It stands between the untrusted text of a policy and a judge that can be talked into anything. Where it is in doubt it
refuses: an odd phrase refused costs little, a hedge or a phrase that is rewarded is soon all that a policy says.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from fgvr.judges.base import Judgement
from fgvr.judges.phrases import (
    ABSTENTION,
    CODED,
    CORE,
    FILLERS,
    LEADS,
    MODEL,
    NO_WORD,
    PHRASES,
    TALK,
    TALK_WHOLE,
    TALK_WITHIN,
)
from fgvr.judges.several import Reading, names_label, several
from fgvr.judges.several import gives_several as gives_several
from fgvr.taxonomy.names import MAX_CHARACTERS, Names
from fgvr.taxonomy.spelling import normalise
from fgvr.types import Verdict

MAX_WORDS = 12  # or three times the label's
MAX_LETTERS = 40  # of one word
PUNCTUATION = frozenset(" -‐‑‒–'’‘ʼ._()×\"“”,!&/")
ENDS = (",", "-", "‐", "–", "—", "..", "…", "&", "/", "(", "+")  # of what is to go on
# Letters and marks that show nothing.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0e\uffa0]")


def _cut(word: str) -> set[str]:
    """The word, and the word less any one letter: two words that share one of these are a slip of the pen apart."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


MISSPELT = frozenset(cut for word in CORE for cut in _cut(word))


def screen(label: str, answer: str, known: Names | None = None) -> Judgement | None:
    """The judgement of an answer that needs no model, else None. `known` are the names and synonyms of the classes.

    Blank text, a dash, a question mark and words of abstention are ABSTAIN, the label (by synonym too) SPECIFIC. WRONG
    are several names in one answer, and text that is no name: longer than 512 characters, or than 12 words and three
    times the label's; with markup, or characters that do not show; with words of instructions or of judging; of such
    words alone as name nothing. What the label or a name in `known` contains is not held against an answer, save in
    the last case.
    """
    if len(answer) > MAX_CHARACTERS:
        return Judgement(Verdict.WRONG)
    if NO_WORD.fullmatch(answer):
        return Judgement(Verdict.ABSTAIN)
    if names_label(label, answer):
        return Judgement(Verdict.SPECIFIC, label)
    if known is not None:
        node = known.find(answer)
        if node is not None:
            return Judgement(Verdict.SPECIFIC, node) if node == known.find(label) else None
    if abstains(answer, known.taxonomy.root if known is not None else ""):
        return Judgement(Verdict.ABSTAIN)
    reading = Reading.of(label, answer, known)
    if several(reading):
        return Judgement(Verdict.WRONG, several=True)
    return None if _is_name(reading) else Judgement(Verdict.WRONG)


def abstains(answer: str, root: str = "") -> bool:
    """Whether the answer is blank or words of abstention; `root` is what all the classes are.

    It must not be longer than MAX_CHARACTERS.
    """
    text, whole = normalise(answer), normalise(root)
    if whole:
        text = re.sub(rf"\b{re.escape(whole)}\b", "thing", text)
    return not answer.strip() or ABSTENTION.fullmatch(text) is not None


def _is_name(reading: Reading) -> bool:
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


def _says(reading: Reading, word: str) -> bool:
    """Whether the word tells one name from another; a number does where the label holds it."""
    if word.isdecimal():
        return word in reading.own.words
    return not (_talk(word) or word in FILLERS or word in TALK_WHOLE)


def _talk(word: str) -> bool:
    return word in TALK or (len(word) > 5 and not MISSPELT.isdisjoint(_cut(word)))


def _shows(reading: Reading) -> bool:
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
