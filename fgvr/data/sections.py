"""The four parts of a structured thought (Fine-R1, arXiv 2602.07605, Table 5), as a teacher and a model write them.

What is seen is analysed, at most four sub-categories are candidates, these are compared, and one is predicted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fgvr.errors import SampleError

TAGS = ("analysis", "options", "comparison", "prediction")
HEADINGS = ("Visual analysis", "Candidates", "Comparison", "Prediction")  # of the same parts, once they are a thought
MOST = 4  # candidates
_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}): *", re.MULTILINE)
_TAG = re.compile(rf"<\s*/?\s*(?:think|answer|{'|'.join(TAGS)})\s*>", re.IGNORECASE)
_NUMBER = re.compile(r"^\s*(?:[-*•]|\(?(?:\d{1,2}|[A-Za-z])[.)])\s+")


@dataclass(frozen=True)
class Sections:
    """The parts of a structured thought, none of which is blank."""

    analysis: str
    candidates: tuple[str, ...]
    comparison: str
    prediction: str

    def thought(self) -> str:
        """The parts under their headings, as they stand between <think> and </think>."""
        bodies = (self.analysis, "; ".join(self.candidates), self.comparison, self.prediction)
        return "\n".join(f"{heading}: {body}" for heading, body in zip(HEADINGS, bodies, strict=True))


def read_reply(text: str) -> Sections:
    """The parts of a teacher's reply, each in its tag, in order. Raises SampleError for the first that is not so, or
    says nothing, and for one that would not be read back as it was meant: with a tag or a heading inside."""
    bodies: list[str] = []
    start = 0
    for tag in TAGS:
        found = re.compile(rf"<{tag}>(.*?)</{tag}>", re.DOTALL | re.IGNORECASE).search(text, start)
        body = "" if found is None else _without_tags(found[1]).strip()
        if found is None or not re.search(r"\w", body):
            raise SampleError(f"missing section: {tag}")
        if _TAG.search(body) or _HEADING.search(body, 1):  # from its second line on
            raise SampleError(f"tag or heading within a section: {tag}")
        bodies.append(body)
        start = found.end()
    return Sections(bodies[0], candidates_in(bodies[1]), bodies[2], bodies[3].strip(" ."))


def candidates_in(text: str) -> tuple[str, ...]:
    """Names as a list has them: by lines and semicolons, else by commas; numbers and dots aside."""
    parts = re.split(r"[;\r\n]", text.strip())
    parts = parts if len(parts) > 1 else text.split(",")
    names = (_NUMBER.sub("", part).strip(" .\t") for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def sections_of(thought: str) -> dict[str, str]:
    """What stands under each heading that a thought has; empty where a heading stands twice or out of its order."""
    found = list(_HEADING.finditer(thought))
    names = [match[1] for match in found]
    if names != [heading for heading in HEADINGS if heading in names]:
        return {}
    ends = [*(match.start() for match in found[1:]), len(thought)]
    return {match[1]: thought[match.end() : end].strip() for match, end in zip(found, ends, strict=False)}


def _without_tags(text: str) -> str:
    """Of the grammar of replies, which a thought may not hold."""
    return re.sub(r"</?(?:think|answer)>", "", text, flags=re.IGNORECASE)
