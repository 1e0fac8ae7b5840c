"""Stores of replies without a model: what was said is what the test says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toy_birds import BIRDS

from fgvr.options.store import Made, ReplyStore, Sampled
from fgvr.options.votes import Reply

COHORTS = dict.fromkeys(BIRDS.paths, "seen") | {"Tall Finch": "unseen"}


def made(photos: int, **changes: object) -> Made:
    """A store about the six birds, of which the tall finch is held out, two photos at a time."""
    base = Made(
        model="m",
        prompt="p",
        sampling={"k": 4, "temperature": 1.0, "max_new_tokens": 8},
        seed=0,
        data="d",
        split="train",
        cohorts=("seen",),
        photos=photos,
        at_once=2,
        dataset="birds",
        taxonomy=BIRDS.to_dict(),
        classes=COHORTS,
    )
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


def sampled(uid: str, label: str, *answers: str | None, tokens: int = 5, **changes: object) -> Sampled:
    """A photo with a reply for each answer, the later ones a little less likely; None breaks the grammar."""
    replies = tuple(
        Reply(f"<answer>{answer}</answer>" if answer else "hm", answer, -1 - place / 16, tokens)
        for place, answer in enumerate(answers)
    )
    photo = Sampled(uid, label, COHORTS[label], f"sha of {uid}", replies)
    return replace(photo, **changes)  # pyright: ignore[reportArgumentType]


def stored(path: Path, photos: list[Sampled], **changes: object) -> Made:
    """Writes a finished store, as mining does."""
    of = made(len(photos), **changes)
    with ReplyStore(path, of) as store:
        while store.done < len(photos):
            store.append(photos[store.done : store.done + of.at_once])
    return of
