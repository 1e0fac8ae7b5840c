"""Options mined anew while a policy learns: what takes the place of what, and how far the old ones had aged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgvr.options.deriving import WHY, Choice, Derived
from fgvr.options.report import recalled, staleness
from fgvr.options.store import Sampled

Choices = Mapping[str, Choice]  # by uid


@dataclass(frozen=True)
class Refreshed:
    """A set's options before, and what was derived of the replies to the photos that were asked anew.

    `tokens` were sampled for it.
    """

    before: Choices
    derived: Derived
    tokens: int

    @classmethod
    def of(cls, before: Sequence[Choice], sampled: Sequence[Sampled], derived: Derived) -> Refreshed:
        tokens = sum(reply.tokens for photo in sampled for reply in photo.replies)
        return cls({choice.uid: choice for choice in before}, derived, tokens)

    @property
    def easy(self) -> frozenset[str]:
        """The photos that every reply is right about: they are left out until they are asked again."""
        return frozenset(uid for uid, reason in self.derived.reasons.items() if reason == "easy")

    @property
    def now(self) -> Choices:
        """The new options; those from before where there are none, but for easy photos.

        All that were there, where no photo would be left to train on.
        """
        kept = {uid: choice for uid, choice in self.before.items() if uid not in self.easy}
        return kept | {choice.uid: choice for choice in self.derived.choices} or self.before


def figures_of(refreshed: Sequence[Refreshed]) -> dict[str, float]:
    """What a refresh of all sets comes to.

    - asked; of these easy (left out from now on) and not_renewed (without new options, for another reason of `mine`)
    - photos (to train on from now on), tokens (sampled)
    - staleness (Jaccard distance), rank_overlap, first_changed: as `staleness`; recall_before, recall: the shares of
      labels that were offered. All over the photos with options before and after, left out where there are none.
    """
    dropped = sum(len(one.derived.reasons) for one in refreshed)
    easy = sum(len(one.easy) for one in refreshed)
    figures = {
        "asked": sum(len(one.derived.choices) for one in refreshed) + dropped,
        "easy": easy,
        "not_renewed": dropped - easy,
        "photos": sum(len(one.now) for one in refreshed),
        "tokens": sum(one.tokens for one in refreshed),
    }
    return {name: float(count) for name, count in figures.items()} | _aged(refreshed)


def _aged(refreshed: Sequence[Refreshed]) -> dict[str, float]:
    pairs = [
        (one.before[choice.uid], choice)
        for one in refreshed
        for choice in one.derived.choices
        if choice.uid in one.before
    ]
    if not pairs:
        return {}
    old, new = [before for before, _ in pairs], [after for _, after in pairs]
    # by place: a uid is its own within its set alone
    aged = staleness(*({str(place): choice.options for place, choice in enumerate(own)} for own in (old, new)))
    return {
        "staleness": aged["jaccard"],
        "rank_overlap": aged["rank_overlap"],
        "first_changed": aged["first_changed"],
        "recall_before": recalled(old),
        "recall": recalled(new),
    }


def sentence_of(refreshed: Sequence[Refreshed], step: int) -> str:
    """What a refresh did, for the log; what was left out, by reason."""
    figures = figures_of(refreshed)
    said = f"Options of {figures['asked']:,.0f} photos were mined anew after step {step:,}"
    if "staleness" in figures:
        said += (
            f": staleness {figures['staleness']:.3f}, recall {figures['recall']:.3f}, that of the old ones "
            f"{figures['recall_before']:.3f}"
        )
    for reason, words in WHY.items():
        if count := sum(one.derived.dropped.get(reason, 0) for one in refreshed):
            said += f"; {'left out' if reason == 'easy' else 'without new options'} because {words}: {count:,}"
    if any(one.now is one.before for one in refreshed):
        said += "; a set of which none would be left keeps the options that it has"
    return f"{said}. {figures['photos']:,.0f} photos are trained on."
