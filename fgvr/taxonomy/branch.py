"""A branch of a taxonomy: one name and all that stands below it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from fgvr.errors import UserError
from fgvr.taxonomy.tree import Taxonomy

NAMED = 5  # names that a refusal suggests


@dataclass(frozen=True)
class Branch:
    """`node` and what stands below it in the `taxonomy`, which stays whole: answers are read among all of its names."""

    taxonomy: Taxonomy
    node: str

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The names at or below the node."""
        return frozenset(
            name for name in self.taxonomy.lineage if name == self.node or self.taxonomy.is_ancestor(self.node, name)
        )

    @cached_property
    def classes(self) -> frozenset[str]:
        """The classes at or below the node."""
        return self.nodes & self.taxonomy.paths.keys()

    @cached_property
    def outside(self) -> frozenset[str]:
        """All other classes."""
        return frozenset(self.taxonomy.paths) - self.classes

    def narrowed(self, name: str | None) -> str | None:
        """What a name of the taxonomy says of something that is known to stand in the branch.

        A name above the branch says no more than `node`; None and a name elsewhere say nothing (None).
        """
        if name is None or name in self.nodes:
            return name
        return self.node if self.taxonomy.is_ancestor(name, self.node) else None

    def cut(self) -> Taxonomy:
        """The taxonomy with the classes of the branch alone: their paths, ranks and root stay as they are."""
        paths = {label: path for label, path in self.taxonomy.paths.items() if label in self.classes}
        kept = {self.taxonomy.root, *(name for path in paths.values() for name in path)}
        synonyms = {name: others for name, others in self.taxonomy.synonyms.items() if name in kept}
        return Taxonomy(paths, self.taxonomy.ranks, self.taxonomy.root, synonyms)


def branch_of(taxonomy: Taxonomy, name: str) -> Branch:
    """The branch at the node that goes by a name or synonym, past case and punctuation.

    Raises UserError for a name that the taxonomy lacks, and for a node with fewer than two classes at or below it.
    """
    node = taxonomy.find(name)
    if node is None:
        raise UserError(
            f"within must name a node of the taxonomy, whole, but {name!r} is none{_nearest(taxonomy, name)}"
        )
    branch = Branch(taxonomy, node)
    if len(branch.classes) < 2:
        above = (taxonomy.root, *taxonomy.lineage[node])[-2:][0]
        raise UserError(
            f"within must leave at least two classes to tell apart, but {node!r} has {len(branch.classes)}: take a "
            f"name above it, such as {above!r}"
        )
    return branch


def inside(labels: Iterable[str], branch: Branch | None) -> list[int]:
    """The places of the labels that stand in the branch, in their order; all without one."""
    return [place for place, label in enumerate(labels) if branch is None or label in branch.classes]


def _nearest(taxonomy: Taxonomy, name: str) -> str:
    inner = [node for node in taxonomy.lineage if node not in taxonomy.paths]
    known = {node.casefold(): node for node in taxonomy.lineage}
    close = [known[one] for one in difflib.get_close_matches(name.casefold(), known, n=NAMED)]
    if close:
        return f": the nearest are {', '.join(map(repr, close))}"
    return f": there are {', '.join(map(repr, inner[:NAMED]))}{', …' if len(inner) > NAMED else ''}"
