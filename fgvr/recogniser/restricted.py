"""Which names may be answers: those of the taxonomy, some of them, or a branch; and what each other counts for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fgvr.errors import UserError
from fgvr.options.votes import Reply
from fgvr.taxonomy.branch import branch_of
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

NAMED = 5  # names that a refusal suggests


@dataclass(frozen=True)
class Restricted:
    """`scope` has the names that may be answers, None for any. `stands_for` says what each node counts as one of.

    A node that it lacks counts for nothing.
    """

    scope: frozenset[str] | None = None
    stands_for: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def options(self) -> frozenset[str]:
        """The nodes that count for something."""
        return frozenset(self.stands_for)

    def counted(self, reply: Reply, names: Names) -> Reply:
        """The reply as one for the name that its own counts for; as it is where it counts for nothing."""
        node = None if reply.answer is None or self.scope is None else names.find(reply.answer)
        name = None if node is None else self.stands_for.get(node)
        return reply if name is None else replace(reply, answer=name)


def restricted(
    taxonomy: Taxonomy, classes: Sequence[str] | None = None, within: str | None = None, open_world: bool = False
) -> Restricted:
    """Answers among `classes`, which are nodes at any rank, or `within` one branch, or both; else the whole taxonomy.

    `open_world` lets any name be an answer that a reply gives, those too that the taxonomy lacks.

    What stands below a class counts for it, the nearest one above counting. Within a branch a name above it says no
    more than the branch's own node. Names are found past case and punctuation, and by synonym. Raises UserError for
    names that the taxonomy lacks, fewer than two classes, and classes outside the branch.
    """
    if open_world and (classes is not None or within is not None):
        raise UserError("an open world has no classes and no branch: leave open_world out, or classes and within")
    if open_world:
        return Restricted()
    classes = None if classes is None else _listed(classes)
    if classes is None and within is None:
        nodes = [node for node in taxonomy.lineage if node != taxonomy.root]
        return Restricted(frozenset(nodes), {node: node for node in nodes})
    branch = None if within is None else branch_of(taxonomy, within)
    if classes is None:
        assert branch is not None
        told = {node: branch.narrowed(node) for node in taxonomy.lineage}
        return Restricted(branch.nodes, {node: name for node, name in told.items() if name is not None})
    wanted = {_node(taxonomy, name) for name in classes}
    if len(wanted) < 2:
        raise UserError(f"classes must be at least two names to tell apart, got {classes}: add another")
    outside = sorted(wanted - branch.nodes) if branch is not None else []
    if outside:
        raise UserError(f"classes must stand within {within!r}, but {outside[0]!r} does not: leave one of them out")
    nearest: dict[str, str] = {}
    for node, line in taxonomy.lineage.items():
        own = next((name for name in reversed(line) if name in wanted), None)
        if own is not None:
            nearest[node] = own
    return Restricted(frozenset(wanted), nearest)


def _listed(classes: object) -> list[str]:
    """The names, each of which is text. Raises UserError for anything else."""
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise UserError(f"classes must be a list of names, got {classes!r}: give [{classes!r}, ...]")
    names = list[object](classes)
    strange = [name for name in names if not isinstance(name, str)]
    if strange:
        raise UserError(f"classes must be names, but {strange[0]!r} is none: give each as text")
    return [str(name) for name in names]


def _node(taxonomy: Taxonomy, name: str) -> str:
    node = taxonomy.find(name)
    if node is None or node == taxonomy.root:
        known = {other.casefold(): other for other in taxonomy.lineage}
        close = [known[one] for one in difflib.get_close_matches(name.casefold(), known, n=NAMED)]
        hint = f"the nearest are {', '.join(map(repr, close))}" if close else f"it has {len(taxonomy.paths)} classes"
        raise UserError(f"classes must be names of the model's taxonomy, but {name!r} is none: {hint}")
    return node
