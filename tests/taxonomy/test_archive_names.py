"""The class lists of six benchmarks, whole, as their archives spell them and as their sources then call the classes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from more_class_names import BENCHMARKS
from name_variants import article, plurals

from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

NOUNS = {"aircraft": "aircraft", "bird": "bird", "car": "car", "dog": "dog", "flower": "flower", "pet": "pet"}
ENOUGH = 0.99  # of each spelling must find its own label


def archived(kind: str, name: str) -> str:
    """A class as a source names it from its archive: CUB and Pets have underscores for blanks, CUB for hyphens too."""
    if kind == "bird":
        return name.replace("-", " ")
    if kind == "pet":  # cats begin with a capital, dogs do not
        return (
            name
            if name in ("Abyssinian", "Bengal", "Birman", "Bombay", "Persian", "Ragdoll", "Siamese")
            else name.lower()
        )
    return name.lower() if kind == "flower" else name


def last_word(change: Callable[[str], str]) -> Callable[[str, str], str]:
    return lambda name, noun: " ".join([*name.split(" ")[:-1], change(name.split(" ")[-1])])


def plural(name: str, noun: str) -> str:
    """A name that ends in letters as a plural; years and models have none."""
    return next(plurals(name), name) if re.search(r"[a-z]{3}$", name) else name


SPELLINGS: dict[str, Callable[[str, str], str]] = {
    "lower case": lambda name, noun: name.lower(),
    "upper case": lambda name, noun: name.upper(),
    "title case": lambda name, noun: name.title().replace("'S", "'s"),
    "underscores": lambda name, noun: name.replace(" ", "_"),
    "hyphens": lambda name, noun: name.replace(" ", "-"),
    "no hyphens": lambda name, noun: name.replace("-", " "),
    "a dot behind it": lambda name, noun: f"{name}.",
    "an article": lambda name, noun: f"{article(name)} {name}",
    "the": lambda name, noun: f"The {name}",
    "in quotes": lambda name, noun: f'"{name}"',
    "wide blanks": lambda name, noun: f"  {name.replace(' ', '  ')}\n",
    "another apostrophe": lambda name, noun: name.replace("'", "’"),
    "no apostrophe": lambda name, noun: name.replace("'", ""),
    "another hyphen": lambda name, noun: name.replace("-", "‑"),
    "a plural": plural,
    "a sentence": lambda name, noun: f"It is {article(name)} {name}.",
    "the photo shows": lambda name, noun: f"The photo shows {article(name)} {name}.",
    "what it is": lambda name, noun: f"{name} {noun}",
    "what it is, in brackets": lambda name, noun: f"{name} ({noun})",
    "a title": lambda name, noun: f"Species: {name}",
    "accents": lambda name, noun: re.sub("e(?=[a-z]*$)", "é", name, count=1),
    "a full-width form": lambda name, noun: name.replace(" ", "\u3000"),
}


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_every_class_is_itself_however_it_is_spelt_and_never_another(kind: str):
    labels = [archived(kind, name) for name in BENCHMARKS[kind]]
    assert len({normalise(label) for label in labels}) == len(labels)
    names = Names(Taxonomy.flat(labels, root=NOUNS[kind]))
    assert [label for label in labels if names.find(label) != label or names.find_misspelt(label) != label] == []
    assert len(SPELLINGS) >= 20
    for spelling, change in SPELLINGS.items():
        found = {label: names.find(change(label, NOUNS[kind])) for label in labels}
        wrong = {label: node for label, node in found.items() if node not in (None, label)}
        missed = [label for label, node in found.items() if node is None]
        assert wrong == {}, spelling
        assert len(missed) <= (1 - ENOUGH) * len(labels), (spelling, missed)


def neighbours(kind: str, label: str) -> set[str]:
    """What might be taken for the class: a year or a digit apart, or with the first word of another of its kind."""
    found: set[str] = set()
    for digits in re.finditer(r"\d", label):
        for step in (1, 9):
            found.add(f"{label[: digits.start()]}{(int(digits[0]) + step) % 10}{label[digits.end() :]}")
    words = label.split(" ")
    like = [other for name in BENCHMARKS[kind] if (other := archived(kind, name).split(" "))[-1] == words[-1]]
    return found | {" ".join([other[0], *words[1:]]) for other in like if len(words) > 1}


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_a_year_a_digit_or_a_first_word_apart_is_no_match(kind: str):
    labels = [archived(kind, name) for name in BENCHMARKS[kind]]
    known = {normalise(label) for label in labels}
    names = Names(Taxonomy.flat(labels, root=NOUNS[kind]))
    accepted: list[tuple[str, str]] = []
    tried = 0
    for label in labels:
        for other in neighbours(kind, label):
            if normalise(other) not in known:
                tried += 1
                accepted += [
                    (other, node) for node in (names.find(other), names.find_misspelt(other)) if node is not None
                ]
    assert tried > len(labels) / 10
    assert accepted == []
