"""Pictures laid out for a source, and what it makes of them."""

from __future__ import annotations

from pathlib import Path

from hostile import jpeg

from fgvr.sources import Record, Refusal, Source


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg())
    return root


def parted(source: Source) -> tuple[dict[str, Record], dict[str, str]]:
    found = list(source.records())
    good = {one.name: one for one in found if isinstance(one, Record)}
    return good, {one.sample: one.reason for one in found if isinstance(one, Refusal)}
