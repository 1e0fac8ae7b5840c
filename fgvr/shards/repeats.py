"""Pictures that are packed more than once, byte for byte, in words: which files, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fgvr.shards.manifest import MANIFEST, Manifest
from fgvr.shards.plan import Plan

NAMED = 10
AGAIN = "and pack again, with overwrite"


def told_of_repeats(manifest: Manifest, contradictions: Sequence[Mapping[str, str]], plan: Plan) -> list[str]:
    """A sentence each on pictures in several splits and under several labels, of which `contradictions` gives the
    label of each key."""
    said: list[str] = []
    if manifest.leaks:
        said.append(
            f"pictures that stand in more than one split, byte for byte: {len(manifest.leaks)}; {MANIFEST} names them. "
            f"What is trained on measures nothing in a test: keep one file of each {AGAIN}"
        )
    if contradictions:
        keys = {key for labels in contradictions for key in labels}
        files = {item.key: item.record.name for item in plan.items() if item.key in keys}
        named = sorted(
            " and ".join(sorted(f"{files[key]} as {label!r}" for key, label in labels.items()))
            for labels in contradictions
        )
        more = f"; and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
        said.append(
            f"pictures that stand under more than one label, byte for byte: {len(named):,}: "
            f"{'; '.join(named[:NAMED])}{more}. Keep the right label: delete the other file, or give both the same "
            f"label, {AGAIN}"
        )
    return said
