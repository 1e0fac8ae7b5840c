"""Classes whose names are nearly one, in words: which, and of how many pictures each."""

from __future__ import annotations

from collections import Counter

from fgvr.shards.plan import Plan
from fgvr.taxonomy.misspelling import nearly_one_name

NAMED = 10


def told_of_near_names(plan: Plan) -> list[str]:
    """A sentence on the pairs of classes of which one may be the other one misspelt; none is merged."""
    pairs = nearly_one_name(plan.cohorts)
    if not pairs:
        return []
    named = {label for pair in pairs for label in pair}
    counts = Counter(item.record.label for item in plan.items() if item.record.label in named)
    told = [" and ".join(f"{label!r} ({counts[label]:,})" for label in pair) for pair in pairs[:NAMED]]
    more = f"; and {len(pairs) - NAMED:,} more" if len(pairs) > NAMED else ""
    return [
        f"pairs of classes whose names are nearly one, with their pictures: {len(pairs):,}: {'; '.join(told)}{more}. "
        "Each is a class of its own: where one is a slip of the pen, give both the same label, and pack again"
    ]
