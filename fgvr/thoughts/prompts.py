"""What a teacher is asked, in fgvr's own words; what for, is Fine-R1's (arXiv 2602.07605, Table 5)."""

from __future__ import annotations

from collections.abc import Sequence

from fgvr.data.sections import MOST

STRESSES = (
    "its overall shape and proportions",
    "its colours and patterns, part by part",
    "the parts that would tell it from its closest relatives",
    "textures, markings and small details",
    "how it stands or lies, and what is around it",
)


def description(kind: str, number: int) -> str:
    """The request for one description; each stresses something else in turn."""
    return (
        f"Describe the {kind} in this photo in two or three plain English sentences, above all "
        f"{STRESSES[number % len(STRESSES)]}. Say only what can be seen. Do not guess what it is called."
    )


def concepts(kind: str, label: str, count: int) -> str:
    """The request for what the class looks like, whatever the photo."""
    return (
        f"List {count} short visual features by which a {label} can be told from other kinds of {kind} in a photo: one "
        "on each line, in English, a few words each, without numbers and without any name of a kind."
    )


def thought(kind: str, question: str, label: str, seen: Sequence[str]) -> str:
    """The request for the four parts, which tells the label and the concepts that the photo shows."""
    features = f" What is seen best: {'; '.join(seen)}." if seen else ""
    return (
        f"{question}\n\nThe right answer is {label}.{features} Write in English how an expert who does not know the "
        "answer would come to it from the photo alone, in these four parts and nothing else:\n"
        f"<analysis>what is seen of the {kind}, part by part; no name of a kind yet</analysis>\n"
        f"<options>at most {MOST} names of closely related kinds that it may be, the right one among them, separated "
        "by semicolons</options>\n"
        "<comparison>each of these held against what is seen, in detail</comparison>\n"
        "<prediction>the one name that is left, and nothing else</prediction>"
    )
