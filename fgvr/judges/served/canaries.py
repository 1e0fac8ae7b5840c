"""Known-wrong pairs that ride among the real ones, and what becomes of a judge that finds them right."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from fgvr.errors import UserError
from fgvr.taxonomy.spelling import normalise
from fgvr.types import Verdict

WINDOW = 100  # canaries that are remembered
FIRST = 20  # canaries before the first verdict, and after one that passed
EVERY = 20  # requests to each canary
MOST = 0.05  # share of the remembered canaries that may pass

THINGS = (
    "bicycle pump", "tax return", "wedding anniversary", "elevator button", "chess opening", "tennis umpire",
    "parking ticket", "dentist's drill", "sheet music", "traffic jam", "library card", "rubber stamp",
    "piano stool", "income statement", "laser printer", "shoelace", "snowboard binding", "door hinge",
    "wallpaper paste", "postal code", "curtain rail", "ballpoint pen", "fire hydrant", "kitchen sponge",
    "paper clip", "swimming goggles", "telephone directory", "tuning fork", "umbrella stand", "vacuum cleaner",
    "window putty", "yoga mat", "zip fastener", "alarm clock", "birthday candle", "coat hanger",
    "drawing pin", "extension lead", "filing cabinet", "garden hose",
)  # fmt: skip

# Labels to try a judge on before there are any.
LABELS = ("Northern Cardinal", "Boeing 737-800", "Labrador Retriever", "Granny Smith", "Oxeye Daisy", "Audi A4")


def unrelated(label: str, hint: str, draw: random.Random) -> str:
    """A thing that shares no word with the label or what is said of it, so that as an answer to it, it is wrong."""
    known = _words(f"{label} {hint}")
    for thing in draw.sample(THINGS, len(THINGS)):
        if not known & _words(thing):
            return thing
    raise UserError(f"a label must leave some word unsaid, but {label!r} and its hint have them all: shorten the label")


def _words(text: str) -> set[str]:
    return {word.removesuffix("s") for word in normalise(text).split()}


class Watch:
    """The last hundred canaries that were judged."""

    def __init__(self) -> None:
        self._passed: deque[bool] = deque(maxlen=WINDOW)
        self._last = ("", "")

    def clear(self) -> None:
        self._passed.clear()

    def add(self, pairs: Sequence[tuple[str, str]], verdicts: Sequence[Verdict]) -> int:
        """Remembers what was judged of (label, thing) pairs; returns how many passed as right."""
        for pair, verdict in zip(pairs, verdicts, strict=True):
            self._passed.append(verdict.correct)
            if verdict.correct:
                self._last = pair
        return sum(verdict.correct for verdict in verdicts)

    def refuse_if_bad(self, model: str) -> None:
        """Raises UserError when more than one in twenty passed."""
        passed = sum(self._passed)
        if passed > MOST * len(self._passed):
            label, thing = self._last
            raise UserError(
                f"the judge {model} must find known-wrong answers wrong, but of the last {len(self._passed)} it found "
                f"{passed} right, such as {thing!r} for {label!r}: set judge.model to one that can judge, and see that "
                "its server applies the model's own chat template"
            )
