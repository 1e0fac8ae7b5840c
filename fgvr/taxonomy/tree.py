"""A taxonomy of names: ranks from coarse to fine, a tree of nodes, and the synonyms each node answers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fgvr.errors import UserError
from fgvr.taxonomy.reserved import refuse_figures_as_ranks
from fgvr.taxonomy.spelling import normalise


@dataclass(frozen=True)
class Taxonomy:
    """Classes and their paths from the coarsest rank to the finest.

    `paths` maps a label to its path, which ends in the label and may be shorter than `ranks` (a ragged tree). `root`
    names what everything is ("bird"); it stands above the first rank. `synonyms` maps a node's name to other names
    for it. Raises UserError when a rank is called like a figure, when a path is empty, does not end in its label, or
    gives one name two parents, and when two nodes, synonyms of two nodes, or a synonym and another node are one name
    after `normalise`: no answer could tell them apart.
    """

    paths: Mapping[str, tuple[str, ...]]
    ranks: tuple[str, ...] = ()
    root: str = "thing"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_figures_as_ranks(self.ranks)
        parents: dict[str, str] = {}
        for label, path in self.paths.items():
            if not path or path[-1] != label:
                raise UserError(
                    f"a taxonomy path must end in its label, but {label!r} has {list(path)}: mend taxonomy.yaml"
                )
            if self.ranks and len(path) > len(self.ranks):
                raise UserError(
                    f"the path of {label!r} has {len(path)} names but there are only {len(self.ranks)} ranks"
                )
            for parent, child in zip((self.root, *path), path, strict=False):
                if child == self.root or parents.setdefault(child, parent) != parent:
                    raise UserError(
                        f"every taxonomy name must have one parent, but {child!r} stands under both "
                        f"{parents.get(child, '(the root)')!r} and {parent!r}: rename one of them"
                    )
        self._refuse_names_alike()

    def _refuse_names_alike(self) -> None:
        named: dict[str, str] = {}
        for node in self.lineage:
            if (other := named.setdefault(normalise(node), node)) != node:
                raise UserError(
                    f"two names of a taxonomy must differ in their letters or digits, whatever their case, but "
                    f"{other!r} and {node!r} do not: rename one of them, or make them one"
                )
        claimed: dict[str, str] = {}
        for node, others in self.synonyms.items():
            if node not in self.lineage:
                raise UserError(
                    f"synonyms must belong to names of the taxonomy, but {node!r} is none (it has {list(others)}): "
                    "mend the name, or leave them out"
                )
            for synonym in others:
                if (owner := named.get(normalise(synonym), node)) != node:
                    raise UserError(
                        f"a synonym must not be the name of something else, but {synonym!r}, given to {node!r}, is the "
                        f"name {owner!r}: leave it out, or make the two one"
                    )
                if (other := claimed.setdefault(normalise(synonym), node)) != node:
                    raise UserError(
                        f"a synonym must belong to one name of the taxonomy, but {synonym!r} is given to {other!r} "
                        f"and to {node!r}: leave it out of one of them"
                    )

    @classmethod
    def flat(cls, labels: Iterable[str], root: str = "thing", rank: str = "class") -> Taxonomy:
        """A taxonomy of one rank: every label directly under the root."""
        return cls({label: (label,) for label in labels}, (rank,), root)

    @classmethod
    def from_dict(cls, data: Any) -> Taxonomy:
        """The inverse of `to_dict`; ranks and synonyms may be left out or None, and a name be a whole number.

        Raises UserError for anything else that is not what it must be.
        """
        if not isinstance(data, Mapping) or not {"paths"} <= {*data} <= {"root", "ranks", "paths", "synonyms"}:
            found = sorted(map(str, data)) if isinstance(data, Mapping) else data
            raise UserError(f"a taxonomy has the keys root, ranks, paths and synonyms, got {found!r:.200}")
        ranks = _names_in(data.get("ranks") or (), "ranks", "[family, species]")
        if len(set(ranks)) < len(ranks):
            raise UserError(f"every rank must have its own name, got {list(ranks)}: rename one")
        return cls(
            _lists_by_name(data["paths"], "paths", "[coarse, ..., class]"),
            ranks,
            _name(data.get("root", "thing"), "root"),
            _lists_by_name(data.get("synonyms") or {}, "synonyms", "[other name]"),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "ranks": list(self.ranks),
            "paths": {label: list(path) for label, path in self.paths.items()},
            "synonyms": {name: list(others) for name, others in self.synonyms.items()},
        }

    @cached_property
    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Every node's path from the root (exclusive) down to itself; the root has the empty path."""
        lines: dict[str, tuple[str, ...]] = {self.root: ()}
        for path in self.paths.values():
            for depth in range(1, len(path) + 1):
                lines[path[depth - 1]] = path[:depth]
        return lines

    @cached_property
    def by_normalised_name(self) -> dict[str, str]:
        """Normalised name or synonym to node."""
        names = {normalise(other): node for node, others in self.synonyms.items() for other in others}
        return names | {normalise(node): node for node in self.lineage}

    def find(self, name: str) -> str | None:
        """The node that goes by this name, or None. Exact after normalisation; no fuzzy matching."""
        return self.by_normalised_name.get(normalise(name))

    def at_rank(self, node: str, rank: str) -> str | None:
        """The node's ancestor (or itself) at a rank, or None when the node has none there.

        The names of a path stand at the first ranks, in order. A class stands at the finest rank too, however short
        its path is.
        """
        if rank not in self.ranks:
            raise UserError(f"rank must be one of {list(self.ranks)}, got {rank!r}")
        if node in self.paths and rank == self.ranks[-1]:
            return node
        path, depth = self.lineage[node], self.ranks.index(rank)
        return path[depth] if depth < len(path) else None

    def is_ancestor(self, ancestor: str, node: str) -> bool:
        """True when `ancestor` stands strictly above `node`."""
        return ancestor != node and (ancestor == self.root or ancestor in self.lineage[node])

    def distance_up(self, ancestor: str, node: str) -> int:
        """How many steps lie between a node and an ancestor of it; 0 for itself."""
        return len(self.lineage[node]) - len(self.lineage[ancestor])

    def merged(self, others: Sequence[Taxonomy]) -> Taxonomy:
        """One taxonomy of several shard sets, with the synonyms of all.

        Raises UserError when they disagree on ranks, root or a path, or when what they make together is refused.
        """
        paths, synonyms = dict(self.paths), dict(self.synonyms)
        for other in others:
            if (other.ranks, other.root) != (self.ranks, self.root):
                raise UserError(
                    f"shard sets used together must share ranks and root, got {self.ranks} under {self.root!r} "
                    f"and {other.ranks} under {other.root!r}"
                )
            for label, path in other.paths.items():
                if paths.setdefault(label, path) != path:
                    raise UserError(f"{label!r} has two paths, {paths[label]} and {path}: make the shard sets agree")
            for name, more in other.synonyms.items():
                synonyms[name] = tuple(dict.fromkeys((*synonyms.get(name, ()), *more)))
        return Taxonomy(paths, self.ranks, self.root, synonyms)


def _lists_by_name(entries: Any, where: str, such_as: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(entries, Mapping):
        raise UserError(f"{where} must give each name a list, as in `name: {such_as}`, got {entries!r:.200}")
    read = {
        _name(name, where): _names_in(names, f"{where} of {name!r:.80}", such_as) for name, names in entries.items()
    }
    if len(read) < len(entries):
        raise UserError(f"every name must stand once under {where}, but a number and a text are one name: mend them")
    return read


def _names_in(names: Any, where: str, such_as: str) -> tuple[str, ...]:
    if not isinstance(names, list | tuple):
        raise UserError(f"{where} must be a list of names, such as {such_as}, got {names!r:.200}: put it in brackets")
    return tuple(_name(name, where) for name in names)


def _name(name: Any, where: str) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise UserError(
            f"{where} must hold names that are text, got {name!r:.200}: write it in quotes, or leave it out"
        )
    return str(name)
