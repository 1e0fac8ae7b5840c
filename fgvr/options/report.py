"""What a store of replies is worth: figures for each cohort, and how far two stores have drifted apart."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from fgvr.options.deriving import Choice
from fgvr.options.store import Made, Sampled
from fgvr.options.votes import DROPS, Tally, tally

Figures = dict[str, float]


def by_cohort(photos: Sequence[Sampled]) -> dict[str, list[Sampled]]:
    """Photos by the cohort of their class."""
    cohorts = sorted({photo.cohort for photo in photos})
    return {cohort: [photo for photo in photos if photo.cohort == cohort] for cohort in cohorts}


def cohort_figures(made: Made, photos: Sequence[Sampled], scope: Collection[str] | None) -> dict[str, Figures]:
    """`figures` of each cohort's photos."""
    return {cohort: figures(made, own, scope) for cohort, own in by_cohort(photos).items()}


def figures(made: Made, photos: Sequence[Sampled], scope: Collection[str] | None) -> Figures:
    """Of some photos, shares being of all of them, refused ones included.

    - photos, refused (that could not be sampled), in_parts (whose replies did not fit into memory together)
    - replies, tokens (both a photo), unparsed, unnamed, out_of_scope (shares of the replies)
    - different (distinct names a photo), entropy (of its votes, in nats)
    - unanimous, unanimous_right, margin (mean lead of the first name, as a share of its replies)
    - recall@1 (the vote's accuracy), recall@2, ... to the most names that a photo has

    Raises ValueError without photos.
    """
    if not photos:
        raise ValueError("figures need photos, got none")
    votes = [tally(photo.replies, made.names, scope) for photo in photos]
    replies, total = sum(one.replies for one in votes), len(photos)
    alone = [(one, photo) for one, photo in zip(votes, photos, strict=True) if one.unanimous]
    return {
        "photos": float(total),
        "refused": float(sum(bool(photo.refused) for photo in photos)),
        "in_parts": float(sum(photo.parts > 1 for photo in photos)),
        "replies": replies / total,
        "tokens": sum(reply.tokens for photo in photos for reply in photo.replies) / total,
        **{reason.replace(" ", "_"): sum(one.dropped[reason] for one in votes) / max(1, replies) for reason in DROPS},
        "different": sum(len(one.ranked) for one in votes) / total,
        "entropy": math.fsum(one.entropy for one in votes) / total,
        "unanimous": len(alone) / total,
        "unanimous_right": sum(one.ranked[0].name == photo.label for one, photo in alone) / total,
        "margin": math.fsum(one.margin for one in votes) / total,
    } | _recalls(votes, [photo.label for photo in photos])


def _recalls(votes: Sequence[Tally], labels: Sequence[str]) -> Figures:
    places = [
        next((place for place, one in enumerate(vote.ranked) if one.name == label), None)
        for vote, label in zip(votes, labels, strict=True)
    ]
    most = max((len(vote.ranked) for vote in votes), default=0)
    return {
        f"recall@{m}": sum(place is not None and place < m for place in places) / len(labels)
        for m in range(1, max(1, most) + 1)
    }


def staleness(
    options: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]
) -> dict[Literal["photos", "jaccard", "rank_overlap", "first_changed"], float]:
    """How far options have aged: those in use, by uid and the best first, against those that would be mined `now`.

    Over the photos of both: jaccard is the mean distance of the two sets, from 0 (the same) to 1; rank_overlap the mean
    over depths of the share that both have up to there, 1 for the same ranking; first_changed the share whose best name
    is another. Raises ValueError without such photos.
    """
    both = [(options[uid], now[uid]) for uid in sorted(options.keys() & now.keys())]
    both = [(old, new) for old, new in both if old or new]
    if not both:
        raise ValueError("staleness compares options of the same photos, but the two have none in common")
    return {
        "photos": float(len(both)),
        "jaccard": math.fsum(1 - len({*old} & {*new}) / len({*old, *new}) for old, new in both) / len(both),
        "rank_overlap": math.fsum(_overlap(old, new) for old, new in both) / len(both),
        "first_changed": sum(list(old[:1]) != list(new[:1]) for old, new in both) / len(both),
    }


def recalled(choices: Sequence[Choice]) -> float:
    """The share of photos to train on whose label was among the names offered, rather than put there afterwards.

    Raises ValueError without photos.
    """
    if not choices:
        raise ValueError("recall needs photos, got none")
    offered = sum(choice.origins[choice.options.index(choice.label)] == "offered" for choice in choices)
    return offered / len(choices)


def _overlap(old: Sequence[str], new: Sequence[str]) -> float:
    depths = range(1, max(len(old), len(new)) + 1)
    return math.fsum(len({*old[:depth]} & {*new[:depth]}) / depth for depth in depths) / len(depths)
