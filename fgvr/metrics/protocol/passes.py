"""One pass over photos in which each is asked about under every variant of the protocol. Runs without a Trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fgvr.errors import SampleError
from fgvr.metrics.protocol.audit import BLANK, FIRST_STATED, encoder_named, strength_of
from fgvr.metrics.protocol.encoders import Heads
from fgvr.metrics.protocol.questions import Questions, without_photo
from fgvr.metrics.protocol.replies import OUTSIDE, Reply, read_reply
from fgvr.types import Example

Answers = Callable[[Sequence[Example]], list[str]]  # one reply to each example with its options shown


@dataclass(frozen=True)
class Variant:
    """One way to ask: whose distractors, the order's seed (None: the label first), and whether there is a photo."""

    name: str
    strength: str
    seed: int | None
    photo: bool = True


def variants(main: str, strengths: Sequence[str], seeds: Sequence[int], blank: bool, released: bool) -> list[Variant]:
    """Those of an audit: every strength under every seed, then what differs from `main` in order or photo."""
    found = [Variant(strength_of(one), one, seed) for one in dict.fromkeys((main, *strengths)) for seed in seeds]
    found += [Variant(FIRST_STATED, main, None)] if released else []
    return found + ([Variant(BLANK, main, seed, photo=False) for seed in seeds] if blank else [])


@dataclass
class Pass:
    """Collects replies, photo by photo; `notes` counts photos by what was done about their lists of options."""

    questions: Questions
    variants: Sequence[Variant]
    replies: list[Reply] = field(default_factory=list[Reply])
    notes: Counter[str] = field(default_factory=Counter[str])

    def add(self, examples: Sequence[Example], answers: Answers) -> None:
        """Asks about these photos in every way. A question that cannot be made is counted, and wrong."""
        noted: set[str] = set()
        for variant in self.variants:
            fresh: Counter[str] = Counter()
            asked = [self._asked(example, variant, fresh) for example in examples]
            whole = [example for example in asked if example is not None]
            texts = iter(answers(whole))
            for example, question in zip(examples, asked, strict=True):
                text = next(texts) if question is not None else None
                reply = read_reply(self.questions.task, variant.name, variant.seed, question or example, text)
                self.replies.append(reply)
            if variant.strength not in noted:  # once, not again under each seed
                self.notes.update(fresh)
                noted.add(variant.strength)

    def add_encoded(self, examples: Sequence[Example], encoder: str, heads: Heads, features: Any, main: str) -> None:
        """What the heads choose among the options of the protocol's first seed, given a row of features a photo."""
        scores = heads.scores(features)
        for number, example in enumerate(examples):
            question = self._asked(example, Variant("", main, self.variants[0].seed), Counter())
            shown = tuple(question.extra["shown"]) if question is not None else ()
            for head, rows in scores.items():
                chosen = heads.chosen(rows[number], shown)
                self.replies.append(
                    Reply(
                        encoder_named(encoder, head),
                        example.cohort,
                        example.dataset,
                        example.uid,
                        self.variants[0].seed or 0,
                        len(shown),
                        shown.index(example.label) if shown else -1,
                        OUTSIDE if chosen is None else chosen,
                        chosen is not None and shown[chosen] == example.label,
                    )
                )

    def _asked(self, example: Example, variant: Variant, notes: Counter[str]) -> Example | None:
        own: Counter[str] = Counter()
        try:
            found = self.questions.asked(example, variant.strength, variant.seed, own)
            found = found if variant.photo else without_photo(found)
        except SampleError:
            own[f"{variant.strength}: a question could not be made"] += 1
            found = None
        notes.update(own)
        return found
