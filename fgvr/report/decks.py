"""What a report lets one leaf through: groups of rollouts, triplets, options, confusions, and changed answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fgvr.data.choosing import LETTERS, NONE
from fgvr.data.closed_world import ClosedWorld
from fgvr.errors import shown
from fgvr.report.groups import Group, evenly
from fgvr.report.judged import Change, Mistaken
from fgvr.report.parts import Deck
from fgvr.report.subject import Subject

LONGEST = 4000  # letters of a reply
MOST = 60  # cards of a deck besides the gallery
Card = dict[str, Any]


def text(value: object, longest: int = LONGEST) -> str:
    """Text of a model or of data: what would be obeyed rather than seen is an escape, and what is long ends in a word
    on it.
    """
    told = shown(str(value), keep="\n\t")
    return told if len(told) <= longest else f"{told[:longest]} … ({len(told) - longest:,} more letters)"


def gallery(subject: Subject, number: int) -> Deck | None:
    """All groups that are shown, with what each completion said and was worth; None without any."""
    kept = subject.kept
    if not kept.shown:
        return None
    components = list(dict.fromkeys(name for group in kept.shown for row in group.rows for name in _rewards(row)))
    data = {
        "components": [text(name, 40) for name in components],
        "groups": [_group(subject, group, components) for group in kept.shown],
    }
    some = len(kept.shown) < kept.groups
    rollouts = sum(len(group.rows) for group in kept.shown)
    said = f"{len(kept.shown):,} groups with {rollouts:,} completions" + (
        f", taken evenly over the training out of {kept.groups:,} with {kept.rollouts:,}: rollouts.jsonl has all."
        if some
        else ": all that the run has learned from."
    )
    own = any(not group.by_taxonomy for group in kept.shown)
    judge = "Verdicts are those of the run's own judge." if own else "Verdicts are by name and place in the taxonomy."
    return Deck("gallery", data, number, subject.name, f"{said} {judge if subject.taxonomy or own else ''}".strip())


def _rewards(row: Mapping[str, Any]) -> dict[str, Any]:
    rewards = row.get("rewards")
    return rewards if isinstance(rewards, dict) else {}


def _group(subject: Subject, group: Group, components: Sequence[str]) -> Card:
    partners = [
        {"role": role, "uid": uid, "label": text(subject.photos.labels.get(uid, ""), 120)}
        for role, uid in group.partners.items()
    ]
    rows = [
        {
            "text": text(row["completion"]),
            "answer": None if row.get("answer") is None else text(row["answer"], 200),
            "verdict": verdict,
            "rewards": [_number(_rewards(row).get(name)) for name in components],
            "reward": _number(row["reward"]),
            "advantage": _number(row["advantage"]),
            "length": _number(row.get("length")),
            "cut": bool(row.get("truncated")),
            "about": "positive" if row.get("photo") == "positive" else "",
        }
        for row, verdict in zip(group.rows, group.verdicts, strict=True)
    ]
    card: Card = {"uid": text(group.uid, 200), "photo": group.uid, "label": text(group.label, 200), "rows": rows}
    card |= {"step": group.step, "epoch": group.epoch, "partners": partners}
    return card | ({"options": [text(option, 120) for option in group.options]} if group.options else {})


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def triplets(subject: Subject, number: int) -> Deck | None:
    """Anchors with their positives and negatives, over the training."""
    groups = [group for group in subject.kept.shown if group.partners]
    cards = [
        {
            "photos": [
                {"uid": group.uid, "role": "anchor", "words": text(group.label, 120)},
                *(
                    {"uid": uid, "role": role, "words": text(subject.photos.labels.get(uid, "class unknown"), 120)}
                    for role, uid in group.partners.items()
                ),
            ],
            "title": f"step {group.step}",
        }
        for group in (groups[n] for n in evenly(len(groups), MOST))
    ]
    return _deck(cards, number, "Triplets" + _some(cards, groups))


def options(subject: Subject, number: int) -> Deck | None:
    """Questions of choice with their photos, word for word, and what the replies chose."""
    groups = [group for group in subject.kept.shown if group.options]
    cards = [_choice(subject, group) for group in (groups[n] for n in evenly(len(groups), MOST))]
    return _deck(cards, number, "Questions of choice" + _some(cards, groups))


def _choice(subject: Subject, group: Group) -> Card:
    chosen = Counter(str(row.get("answer")) for row in group.rows if row.get("answer") is not None)
    letters = isinstance(subject.practised, ClosedWorld) and subject.practised.letters
    right = group.label if group.label in group.options else NONE
    bars = [
        {
            "name": f"{LETTERS[place]}) {text(option, 120)}" if letters else text(option, 120),
            "share": chosen[option] / len(group.rows),
            "words": f"{chosen[option]} of {len(group.rows)}",
            "tone": "right" if option == right else "",
        }
        for place, option in enumerate(group.options)
    ]
    others = len(group.rows) - sum(chosen[option] for option in {*group.options})
    if others:
        words = f"{others} of {len(group.rows)}"
        bars.append({"name": "no option of these", "share": others / len(group.rows), "words": words, "tone": "faint"})
    return {
        "photos": [{"uid": group.uid, "role": "", "words": ""}],
        "title": text(group.label, 120),
        "said": f"step {group.step}",
        "quote": text(subject.asked_of(group)),
        "bars": bars,
    }


def mistakes(found: Sequence[Mistaken], like: Mapping[str, str], number: int, title: str) -> Deck | None:
    """Pairs of a photo and one of what it was taken for; `like` has the uid of a photo of each name."""
    cards = [
        {
            "photos": [
                {"uid": one.uid, "role": "is", "words": text(one.label, 120), "tone": "right"},
                {"uid": like.get(one.taken_for, ""), "role": "taken for", "words": text(one.taken_for, 120),
                 "tone": "wrong"},
            ],
            "arrow": True,
            "title": f"{one.times} of {one.asked}",
            "said": f"photos of it, {one.times / one.asked:.0%}",
        }
        for one in found
    ]  # fmt: skip
    return _deck(cards, number, title)


def turned(found: Sequence[Change], number: int, title: str, names: tuple[str, str]) -> Deck | None:
    """Photos that one of two runs named rightly."""
    cards = [
        {
            "photos": [{"uid": one.uid, "role": "", "words": ""}],
            "title": text(one.label, 120),
            "said": text(one.cohort, 40),
            "lines": [
                {"head": text(name, 60), "words": text(said or "no answer", 120), "tone": tone}
                for name, said, tone in (
                    (names[0], one.before, "wrong" if one.helped else "right"),
                    (names[1], one.after, "right" if one.helped else "wrong"),
                )
            ],
        }
        for one in found
    ]
    return _deck(cards, number, title)


def _deck(cards: Sequence[Card], number: int, title: str) -> Deck | None:
    return Deck("cards", {"cards": list(cards)}, number, title) if cards else None


def _some(cards: Sequence[Card], groups: Sequence[Group]) -> str:
    return f", {len(cards)} of {len(groups):,} over the training" if len(cards) < len(groups) else ""
