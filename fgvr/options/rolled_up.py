"""Votes for names summed up the taxonomy: the share of replies at or below each node, and how far down it is high."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fgvr.options.votes import Tally
from fgvr.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class RankName:
    """The name at one rank, and the share of all replies that stand at or below it, from 0 to 1."""

    rank: str
    name: str
    confidence: float


@dataclass(frozen=True)
class RolledUp:
    """A tally's votes, each counted for every node from the root (exclusive) down to the name that it went to.

    Shares are of all replies: one that could not be read, named what is out of scope or no node of the taxonomy is a
    vote for nothing. So no node has a larger share than one above it.
    """

    votes: Tally
    taxonomy: Taxonomy

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of each node that a reply stands at or below."""
        counts: dict[str, int] = defaultdict(int)
        for one in self.votes.ranked:  # the best ranked first, and so are the nodes above it
            for node in self.taxonomy.lineage.get(one.name, ()):
                counts[node] += one.votes
        return {node: count / self.votes.replies for node, count in counts.items()}

    @cached_property
    def likeliest(self) -> tuple[str, ...]:
        """From the coarsest rank downward, at each step to the node with most replies at or below it.

        Of equals the one whose likeliest name ranks first. Ends where no reply names anything finer.
        """
        path: tuple[str, ...] = ()
        while True:
            below = [node for node in self.shares if self.taxonomy.lineage[node][:-1] == path]
            if not below:
                return path
            path = (*path, max(below, key=self.shares.__getitem__))  # the first of equals, in the order of the ranks

    def deepest(self, threshold: float) -> str | None:
        """The finest node on the likeliest path whose share is at least `threshold`; None where none has it."""
        return deepest([(node, self.shares[node]) for node in self.likeliest], threshold)

    def path(self, node: str | None, own: float | None = None) -> tuple[RankName, ...]:
        """The node and those above it, by rank, with their shares; nothing for what is no node.

        `own` takes the place of the node's own share, which it must not be above.
        """
        if node is None or node not in self.taxonomy.lineage:
            return ()
        found: list[RankName] = []
        for rank, name in ranked_names(self.taxonomy, node):
            share = self.shares.get(name, 0.0)
            found.append(RankName(rank, name, own if own is not None and name == node else share))
        return tuple(found)


def deepest(path: list[tuple[str, float]], threshold: float) -> str | None:
    """The last of (node, confidence), from coarse to fine, before the first whose confidence is below `threshold`."""
    found: str | None = None
    for node, confidence in path:
        if confidence < threshold:
            break
        found = node
    return found


def levels(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The ranks, or "level 1", "level 2", ... of a taxonomy that names none."""
    if taxonomy.ranks:
        return taxonomy.ranks
    return tuple(f"level {depth}" for depth in range(1, max(map(len, taxonomy.paths.values()), default=0) + 1))


def ranked_names(taxonomy: Taxonomy, node: str) -> list[tuple[str, str]]:
    """The node and those above it as (rank, name); of a class whose path is short the finest rank has the class too."""
    if not taxonomy.ranks:
        return list(zip(levels(taxonomy), taxonomy.lineage[node], strict=False))
    found = ((rank, taxonomy.at_rank(node, rank)) for rank in taxonomy.ranks)
    return [(rank, name) for rank, name in found if name is not None]


def rank_of(taxonomy: Taxonomy, node: str) -> str | None:
    """The rank that a node stands at, the finest for a class; None for the root and for what is no node."""
    at = [rank for rank, name in ranked_names(taxonomy, node) if name == node] if node in taxonomy.lineage else []
    return at[-1] if at else None


def by_node(path: tuple[RankName, ...]) -> list[tuple[str, float]]:
    """The nodes of a path with their confidences, each once."""
    found: Mapping[str, float] = {one.name: one.confidence for one in path}
    return list(found.items())
