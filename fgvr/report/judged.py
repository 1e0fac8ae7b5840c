"""What a run's judged answers come to: confusions, a tree of accuracies, and what changed between two runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgvr.shards.order import key_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

Row = Mapping[str, Any]
RIGHT = (str(Verdict.SPECIFIC), str(Verdict.MORE_SPECIFIC))


@dataclass(frozen=True)
class Mistaken:
    """A class whose photos were wrongly given the name `taken_for`: `times` of `asked`, `uid` being one of them."""

    label: str
    taken_for: str
    times: int
    asked: int
    uid: str


def commonest_mistakes(rows: Sequence[Row], most: int) -> tuple[list[Mistaken], int]:
    """The pairs of a class and a wrong name of the taxonomy, the commonest first, and how many pairs there are.

    Of the photos of a pair the one is shown whose uid has the smallest hash.
    """
    asked = Counter(str(row["label"]) for row in rows)
    photos: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["verdict"] == str(Verdict.WRONG) and row.get("node"):
            photos[str(row["label"]), str(row["node"])].append(str(row["uid"]))
    pairs = sorted(photos, key=lambda pair: (-len(photos[pair]), pair))
    found = [
        Mistaken(label, name, len(photos[label, name]), asked[label], min(photos[label, name], key=key_of))
        for label, name in pairs[:most]
    ]
    return found, len(pairs)


@dataclass(frozen=True)
class Node:
    """A name of the taxonomy below `parent` ("" for the root): of `n` photos of its classes, `right` were answered by
    it or by a name below it. `exact` were answered by their very class, or more finely.
    """

    name: str
    parent: str
    rank: str
    n: int
    right: int
    exact: int

    @property
    def accuracy(self) -> float:
        return self.right / self.n


def accuracies(rows: Sequence[Row], taxonomy: Taxonomy) -> list[Node]:
    """The nodes that photos were asked about, parents first, each level in alphabetical order.

    A node's accuracy asks no more than its own rank: "finch" is right of a finch's photo at the family, whatever the
    species. Rows whose label the taxonomy does not have are left out.
    """
    n, right, exact = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        path = taxonomy.lineage.get(str(row["label"]))
        if path is None:
            continue
        answered = row.get("node")
        lineage = {*taxonomy.lineage.get(str(answered), ()), taxonomy.root} if answered else set[str]()
        line = (taxonomy.root, *path)
        n.update(line)
        right.update(name for name in line if name in lineage)
        if row["verdict"] in RIGHT:
            exact.update(line)
    names = sorted(n, key=lambda name: (len(taxonomy.lineage[name]), taxonomy.lineage[name]))
    return [
        Node(name, _parent(taxonomy, name), _rank(taxonomy, name), n[name], right[name], exact[name]) for name in names
    ]


def _parent(taxonomy: Taxonomy, name: str) -> str:
    path = taxonomy.lineage[name]
    return "" if not path else path[-2] if len(path) > 1 else taxonomy.root


def _rank(taxonomy: Taxonomy, name: str) -> str:
    depth = len(taxonomy.lineage[name])
    if name in taxonomy.paths and taxonomy.ranks:
        return taxonomy.ranks[-1]
    return taxonomy.ranks[depth - 1] if 0 < depth <= len(taxonomy.ranks) else ""


@dataclass(frozen=True)
class Change:
    """A photo that one of two runs named rightly and the other did not; `helped` where that is the second."""

    uid: str
    cohort: str
    label: str
    before: str
    after: str
    helped: bool


def changes(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[Change], int]:
    """The photos both were asked about of which only one was right, and how many photos both were asked about."""
    then = {_place(row): row for row in before}
    both = [(then[_place(row)], row) for row in after if _place(row) in then]
    turned = [
        Change(str(new["uid"]), str(new["cohort"]), str(new["label"]), _said(old), _said(new), new["verdict"] in RIGHT)
        for old, new in both
        if (old["verdict"] in RIGHT) != (new["verdict"] in RIGHT)
    ]
    return sorted(turned, key=lambda one: (not one.helped, one.cohort, key_of(one.uid))), len(both)


def _place(row: Row) -> tuple[str, str, str]:
    return str(row["cohort"]), str(row.get("dataset", "")), str(row["uid"])


def _said(row: Row) -> str:
    return "" if row["answer"] is None else str(row["answer"])
