"""What people write around a name: a sentence that says it, the kind of thing it is, its scientific name beside it."""

from __future__ import annotations

import re
from collections.abc import Collection

from fgvr.taxonomy.spelling import cut, plain, singular, singulars

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
_IS = r"(?:is|(?:appears|seems|looks)\s+to\s+be|looks\s+like)"
_SENTENCE = re.compile(
    rf"""(?:i\s+(?:think|believe)\s+(?:that\s+)?)?
    (?: (?:the|this)\s+{_PHOTO}\s+(?:shows|is\s+of)
      | (?:a|an|the|this\s+is\s+an?)\s+{_PHOTO}\s+of
      | (?:it|this|that)(?:'s|\s+{_IS})
      | (?:the|this|that)\s+(?P<subject>[^\W\d_]+(?:\s+(?!{_SHOWN}|in\s|of\s)[^\W\d_]+)?)
        (?:\s+{_SHOWN})? (?:\s+(?:in|of)\s+(?:the|this)\s+{_PHOTO})? (?:'s|\s+{_IS})
    )\s+(?P<name>\S.*)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_TITLED = re.compile(r"(?P<subject>[^\W\d_]+(?:\s+[^\W\d_]+)?)\s*:\s*(?P<name>\S.*)", re.DOTALL)
_ASIDE = re.compile(r"([^()]+)\(([^()]+)\)[\s.!,]*")
_BESIDE = re.compile(r"([^,()]+),([^,()]+)")

# The endings of scientific names. One of a name's words must have one that hardly any English word has.
_LATIN = re.compile(
    r"[a-z-]{2,}(?:us|um|is|ae|ii|ops|os|ens|ans|oides|ytes|ypes|ys|[dn]ias|oeas|ilio|yle|[aeiou]x|[a-z]a|[lnrst]i)",
    re.IGNORECASE,
)
_LATINATE = re.compile(r"[a-z-]*(?:us|um|is|ae|i|ops|os|ens|ans|es|ys|x|a|o|e|on|or|er|en|ur|as|ps)", re.IGNORECASE)
_GENUS = re.compile(r"[A-Z][a-z]{2,}(?:(?<!o)us|um|ia|(?<!o)is|yx)")
# Words that end so too, and genera that flowers are called by, which would be a second name.
_NO_GENUS = frozenset(
    cut(
        """
        album analysis asparagus australia basis bonus cactus california campus census circus colombia consensus
        criteria diagnosis emphasis focaccia focus genesis genus hummus hypothesis india lexus maximum media medium
        minimum museum nucleus octavia optimum paris plus premium prius rhesus russia serbia stratus status taurus
        tennis thesis trivia versus victoria virginia virus
        adenium amaryllis anthurium begonia bromelia camellia chrysanthemum clematis crocus dahlia eucalyptus freesia
        fuchsia gardenia gazania geranium gladiolus hibiscus hippeastrum iris lotus magnolia narcissus nasturtium
        osteospermum oxalis pelargonium petunia poinsettia ranunculus wisteria zinnia
        """
    )
)
_NO_EPITHET = frozenset(  # what English names end in
    cut(
        """
        anemone aster boxer carbonara carne chicken cotta creeper cuckoo dahlia dipper falcon flamingo flycatcher heron
        iris junco kingfisher lotus magnolia merganser nutcracker panda pasta petunia phlox pigeon pinscher pizza
        plover pointer pepper puma quesadilla rancheros raven retriever roadrunner salsa setter sapsucker swan tanager
        tartare bolognese terrier thrasher tiger vireo warbler woodpecker wren
        """
    )
)
_UNSCIENTIFIC = frozenset({"pet"}).union(*_KINDS[1:3], *_KINDS[4:7])  # breeds, makes and dishes have no genera
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
    """The name in "It is a X.", "I think it's an X", "The bird appears to be a X", "Species: X"; None for other text.

    `subjects` are further words for what is shown.
    """
    sentence = _SENTENCE.fullmatch(plain(text).strip()) or _TITLED.fullmatch(plain(text).strip())
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


def kind_length(words: tuple[str, ...], kinds: Collection[str]) -> int:
    """How many words at the end only say what kind of thing it is: "cats", "dog breed", "species"; 0 for none."""
    rank = 1 if words and _one_among(_RANKS, words[-1]) else 0
    rest = words[: len(words) - rank]
    return rank + (1 if rest and _one_among(kinds, rest[-1]) else 0)


def _one_among(kinds: Collection[str], word: str) -> bool:
    """Whether the word, or what it may be the plural of, is among the kinds."""
    return any(one in kinds for one in (word, one_of(word), *singulars(word)))


def aside(text: str) -> tuple[str, str] | None:
    """What stands before the parentheses that end the text, and what stands in them."""
    parts = _ASIDE.fullmatch(plain(text).strip())
    return (parts[1], parts[2]) if parts else None


def beside(text: str) -> tuple[str, str] | None:
    """The common and the scientific name in "X, Passer domesticus", in either order; None for other text.

    It must look so by its capital or, all in lower case, by the endings of all its words.
    """
    parts = _BESIDE.fullmatch(plain(text).strip().rstrip("."))
    if parts is None:
        return None
    one, other = parts[1].strip(), parts[2].strip()
    return next(((name, latin) for name, latin in ((one, other), (other, one)) if _written_as_species(latin)), None)


def _written_as_species(text: str) -> bool:
    latin = scientific(text) if text[:1].isupper() and text[1:].islower() else surely_scientific(text)
    return bool(latin) and latin[-1] not in _NO_EPITHET


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


def genus(text: str) -> tuple[str, ...]:
    """The one word of what looks like a genus by its capital and its ending ("Aquilegia"); empty for other text."""
    word = plain(text).strip().rstrip(".")
    return (word.lower(),) if _GENUS.fullmatch(word) and word.lower() not in _NO_GENUS else ()


def has_genera(root: str) -> bool:
    """Whether things that are called so may belong to a genus."""
    return not {one_of(word) for word in cut(root)} & _UNSCIENTIFIC


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
