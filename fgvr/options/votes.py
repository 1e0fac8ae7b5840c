"""What many replies about one photo vote for: names made one, counted, ranked and cut to a few options."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fgvr.errors import UserError
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import normalise

LONGEST = 120  # characters of an answer that may become an option; a longer one is prose
MOST = 26  # options that have a letter

Drop = Literal["unparsed", "unnamed", "out of scope"]
DROPS: tuple[Drop, ...] = ("unparsed", "unnamed", "out of scope")


@dataclass(frozen=True)
class Reply:
    """One sampled reply as it is stored.

    `answer` is what the task parsed, None where the reply broke the grammar; `logprob` is in nats, summed over its
    `tokens`.
    """

    text: str
    answer: str | None
    logprob: float
    tokens: int


@dataclass(frozen=True)
class Ranked:
    """One distinct name among the replies: canonical, with its votes and the mean log-prob of their replies."""

    name: str
    votes: int
    logprob: float


@dataclass(frozen=True)
class Tally:
    """Every reply of a photo accounted for: the votes of `ranked` and the `dropped` make up all of `replies`.

    Dropped are replies that broke the grammar ("unparsed"), whose answer is mere punctuation or prose ("unnamed"), or
    that named what is "out of scope".
    """

    ranked: tuple[Ranked, ...]
    dropped: dict[Drop, int]
    replies: int

    @property
    def votes(self) -> int:
        return sum(one.votes for one in self.ranked)

    @property
    def unanimous(self) -> bool:
        """Whether every reply parsed and named the same."""
        return len(self.ranked) == 1 and self.votes == self.replies

    @property
    def margin(self) -> float:
        """The lead of the first name over the second, as a share of all replies, from 0 to 1."""
        votes = [one.votes for one in self.ranked[:2]]
        return (2 * votes[0] - sum(votes)) / self.replies if votes else 0.0

    @property
    def entropy(self) -> float:
        """Of the votes, in nats: 0 where all name the same or nothing."""
        shares = [one.votes / self.votes for one in self.ranked]
        return abs(-math.fsum(share * math.log(share) for share in shares))


def tally(replies: Sequence[Reply], names: Names, scope: Collection[str] | None = None) -> Tally:
    """Canonicalise, merge votes, leave out what is not in `scope`, and only then rank.

    An answer that is no name of the taxonomy keeps its own normalised spelling in scope None, and is out of any other.
    """
    found: dict[str, list[float]] = defaultdict(list)
    dropped: Counter[Drop] = Counter()
    for reply in replies:
        name = None if reply.answer is None else canonical(reply.answer, names)
        if reply.answer is None:
            dropped["unparsed"] += 1
        elif name is None:
            dropped["unnamed"] += 1
        elif scope is not None and name not in scope:
            dropped["out of scope"] += 1
        else:
            found[name].append(reply.logprob)
    return Tally(tuple(by_votes(found)), {reason: dropped[reason] for reason in DROPS}, len(replies))


def by_votes(found: Mapping[str, Sequence[float]]) -> list[Ranked]:
    """Names with the log-probs of their replies, by votes, then mean log-prob, then name."""
    names = [Ranked(name, len(own), math.fsum(own) / len(own)) for name, own in found.items()]
    return sorted(names, key=lambda one: (-one.votes, -one.logprob, one.name))


def rank(replies: Sequence[Reply], names: Names, scope: Collection[str] | None = None) -> list[Ranked]:
    """The distinct names of the replies by votes, then mean log-prob, then name; as `tally` finds them."""
    return list(tally(replies, names, scope).ranked)


def cut(ranked: Sequence[Ranked], m: int, truth: str | None = None) -> list[str]:
    """The first `m` names. In training the truth is among them: it takes the lowest-ranked one's place if need be.

    Never pass a `truth` at test. Where there are fewer than m names the truth is added behind them. Raises UserError
    for an m that is not from 2 to 26: options are answered by letter.
    """
    if not 2 <= m <= MOST:
        raise UserError(f"m must be from 2 to {MOST}, as many options as there are letters, got {m}")
    names = [one.name for one in ranked[:m]]
    if truth is None or truth in names:
        return names
    return [*names[: m - 1], truth]


def canonical(text: str, names: Names) -> str | None:
    """The name in the taxonomy that the text stands for, else its normalised spelling.

    None for mere punctuation and for prose of more than LONGEST characters.
    """
    if (node := names.find(text)) is not None:
        return node
    return (normalise(text) or None) if len(text) <= LONGEST else None
