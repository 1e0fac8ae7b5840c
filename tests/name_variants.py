"""How people write the names of classes: for a label, what they say instead, by the kind of change."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence

APOSTROPHES = "'’´`ʼ"
BODY = re.compile(r" (?:Sedan|SUV|Coupe|Convertible|Hatchback|Wagon|Minivan|Van|Pickup)\b(?! Cab)")
YEAR = re.compile(r" ((?:19|20)\d\d)$")
SCIENTIFIC = ("Passer domesticus", "Troglodytes aedon", "Canis lupus familiaris", "Rosa × hybrida", "P. domesticus")


def article(name: str) -> str:
    return "an" if name[0].lower() in "aeiou" else "a"


def possessives(name: str) -> Iterator[str]:
    """The first of several words with 's or without, in any apostrophe; a word that ends in s with the mark alone."""
    first, _, rest = name.partition(" ")
    if not rest or not first.isalpha() or not first[0].isupper():
        return
    for mark in APOSTROPHES:
        yield f"{first}{mark}s {rest}"
        if first.endswith("s"):
            yield f"{first}{mark} {rest}"
    if len(first) > 3 and not first.endswith("s"):
        yield f"{first}s {rest}"


def dropped_possessives(name: str) -> Iterator[str]:
    if re.search("['’]s", name):
        yield re.sub("['’]s", "", name)
        yield re.sub("['’]s", "s", name)
        yield from (re.sub("['’]", mark, name) for mark in APOSTROPHES)


def plural_of(word: str) -> Iterator[str]:
    if not word.isalpha() or not word.isascii() or len(word) < 3:
        if re.fullmatch("[a-z][aeiou]", word):
            yield f"{word}s"
        return
    if word.endswith(("ss", "x", "ch", "sh", "us", "is", "z")):
        yield f"{word}es"
    if word.endswith("us"):
        yield f"{word[:-2]}i"
    elif word.endswith("y") and word[-2] not in "aeiou":
        yield f"{word[:-1]}ies"
    elif word.endswith("s"):
        pass
    elif word.endswith("o"):
        yield from (f"{word}s", f"{word}es")
    elif not word.endswith(("x", "ch", "sh", "z")):
        yield f"{word}s"


def plurals(name: str) -> Iterator[str]:
    head, _, last = name.rpartition(" ")
    for plural in plural_of(last):
        yield f"{head} {plural}".strip()
    if match := re.match(r"(\w+)((?:\s|-)(?:of|in)(?:\s|-).+)", name):
        yield from (plural + match[2] for plural in plural_of(match[1]))


def sentences(name: str, noun: str) -> Iterator[str]:
    a = article(name)
    yield from (
        f"It is {a} {name}.",
        f"It's {a} {name}",
        f"it’s {a} {name.lower()}.",
        f"This is {a} {name}",
        f"This is {a} {name}.",
        f"That is the {name}.",
        f"The {noun} is {a} {name}.",
        f"The {noun} in the image is {a} {name}.",
        f"This {noun} is {a} {name}",
        f"I think it's {a} {name}",
        f"This appears to be {a} {name}",
        f"It looks like {a} {name}.",
        f"The {noun} in the photo seems to be {a} {name}.",
        f"I think this is {a} {name}.",
        f"I believe it is {a} {name}.",
        f"A photo of {a} {name}.",
    )


def accents(name: str) -> Iterator[str]:
    strokes = str.maketrans({"đ": "d", "Đ": "D", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "ß": "ss"})
    plain = "".join(c for c in unicodedata.normalize("NFD", name.translate(strokes)) if not unicodedata.combining(c))
    if plain != name and plain.isascii():
        yield from (plain, plain.lower(), plain.upper(), unicodedata.normalize("NFD", name))


def accented(name: str) -> Iterator[str]:
    """With accents that the label lacks."""
    marked = re.sub("e(?=[a-z]*$)", "é", name, count=1)
    if marked != name:
        yield from (marked, unicodedata.normalize("NFD", marked))


def spaces(name: str) -> Iterator[str]:
    words = re.split("[ -]", name)
    if len(words) < 2:
        return
    for joint in (" ", "-", "  ", "\u00a0", " - ", "–"):
        yield joint.join(words)
    for place in range(1, len(words)):
        numbers = words[place - 1][-1:].isdigit() and words[place][:1].isdigit()  # "737800" could be 7378-00
        if not numbers and len("".join(words)) > 5:
            yield " ".join((*words[: place - 1], words[place - 1] + words[place], *words[place + 1 :]))


def ampersands(name: str) -> Iterator[str]:
    for said, written in ((" and ", " & "), ("-and-", " & "), (" And ", " & "), (" & ", " and ")):
        if said in name:
            yield name.replace(said, written)


def slashes(name: str) -> Iterator[str]:
    if "/" in name:
        yield from (name.replace("/", ""), name.replace("/", "-"), name.replace("-", ""), name.replace("-", " "))
        yield name.replace("/", "").replace("-", "")


def years_in_front(name: str) -> Iterator[str]:
    match = YEAR.search(name)
    if match and name.count(" ") > 1:  # the 2000 of a Saab 2000 is none
        yield from (f"{match[1]} {name[: match.start()]}", f"a {match[1]} {name[: match.start()]}.")
        yield f"{name[: match.start()]}, {match[1]}"
        yield f"{name[: match.start()]} ({match[1]})"
        yield f"{name[: match.start()]} from {match[1]}"


def cases(name: str) -> Iterator[str]:
    yield from (name.lower(), name.upper(), name.title(), f" {name}\n", f"{name}.", f"the {name}", f'"{name}"')
    yield from (name.replace(" ", "_"), name.replace(" ", "  "))


def unique(change: Callable[[str], str | None], names: Sequence[str]) -> dict[str, str]:
    """Each name's form by `change`, where no other name has it too, or is it."""
    changed = {name: new for name in names if (new := change(name)) and new != name}
    forms = [*changed.values(), *names]
    return {name: new for name, new in changed.items() if forms.count(new) == 1}


def without_body(name: str) -> str | None:
    return BODY.sub("", name, count=1)


def without_year(name: str) -> str | None:
    return YEAR.sub("", name) if name.count(" ") > 1 else None


def without_body_and_year(name: str) -> str | None:
    return YEAR.sub("", BODY.sub("", name, count=1)) if YEAR.search(name) and name.count(" ") > 1 else None


def short_makers(name: str) -> Iterator[str]:
    for full, short in (("Chevrolet", "Chevy"), ("Volkswagen", "VW"), ("Mercedes-Benz", "Mercedes")):
        if name.startswith(f"{full} "):
            yield name.replace(full, short)
            yield from (year.replace(full, short) for year in years_in_front(name))


def without_maker(makers: Sequence[str]) -> Callable[[str], str | None]:
    def change(name: str) -> str | None:
        rest = next((name[len(maker) + 1 :] for maker in makers if name.startswith(f"{maker} ")), None)
        return rest if rest and len(rest) > 2 and not re.fullmatch(r"\d*00", rest) else None

    return change


def makers_added(built: Mapping[str, Sequence[str]]) -> Callable[[str], Iterator[str]]:
    def change(name: str) -> Iterator[str]:
        for maker, starts in built.items():
            if name.startswith(tuple(starts)):
                yield from (f"{maker} {name}", f"It is {article(maker)} {maker} {name}.", f"the {maker.upper()} {name}")

    return change


def slips(name: str) -> Iterator[str]:
    """One letter left out, doubled, replaced or changed with the next."""
    for at in range(len(name)):
        yield name[:at] + name[at + 1 :]
        yield name[: at + 1] + name[at:]
        yield name[:at] + ("x" if name[at].isalpha() else "7") + name[at + 1 :]
        yield name[:at] + name[at : at + 2][::-1] + name[at + 2 :]
