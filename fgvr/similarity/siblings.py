"""Likeness by descent: what stands close in the taxonomy is hard to tell apart."""

from __future__ import annotations

import random
from collections import defaultdict

from fgvr.similarity.base import Classes, Ranking, Similarity


class Siblings(Similarity):
    """The score of two classes is the depth of their deepest common ancestor: 1 below the root, and so on.

    Among those of one depth the seed decides. Classes that share nothing but the root are not alike, so one that stands
    alone in its branch has no similar class, and in a flat taxonomy none has.
    """

    needs_photos = False

    def nearest(self, classes: Classes, k: int) -> Ranking:
        below: dict[str, list[str]] = defaultdict(list)
        for name in sorted(classes.names):
            for ancestor in classes.taxonomy.lineage[name][:-1]:
                below[ancestor].append(name)
        return {name: self._of(name, classes, below, k) for name in classes.names}

    @staticmethod
    def _of(name: str, classes: Classes, below: dict[str, list[str]], k: int) -> tuple[tuple[str, float], ...]:
        found: dict[str, float] = {}
        ancestors = classes.taxonomy.lineage[name][:-1]
        for depth in range(len(ancestors), 0, -1):
            others = [other for other in below[ancestors[depth - 1]] if classes.differ(name, other)]
            fresh = [other for other in others if other not in found]
            draw = random.Random(f"{classes.seed} sibling {name} {depth}")
            found |= dict.fromkeys(draw.sample(fresh, min(k - len(found), len(fresh))), float(depth))
        return tuple(found.items())
