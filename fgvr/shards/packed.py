"""Whether the shard set in a folder is the one that a configuration asks for; it is packed when there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fgvr.errors import SampleError, UserError
from fgvr.retries import await_mount
from fgvr.shards.manifest import MANIFEST, Manifest, canonical_json, load_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions, Plan, make_plan
from fgvr.sources import SourceGone
from fgvr.sources.base import Record, Source

logger = logging.getLogger(__name__)


def pack_or_compare(source: Source, out: Path, options: PackOptions | None, seed: int = 0) -> None:
    """Packs a source into `out`, or raises UserError when a set is there that is not what packing would give.

    Without `options` a new set is packed with `seed` and the other defaults, and one that is there may have any. A set
    whose pictures are not there any more is used as it is, and a warning says so.
    """
    await_mount(out)
    if not (out / MANIFEST).is_file():
        pack(source, out, options or PackOptions(seed=seed))
        return
    manifest = load_manifest(out)
    packed = {
        field.name: manifest.options[field.name] for field in fields(PackOptions) if field.name in manifest.options
    }
    differences = _differences(packed, asdict(options)) if options is not None else []
    try:
        differences += _differences(manifest.source, source.describe())
        if not differences:
            plan = make_plan(source, options or PackOptions(**packed))
            differences = _changes_of_pictures(manifest, plan)
    except (SourceGone, OSError) as error:
        if not differences:
            logger.warning("%s is used as it is, since it cannot be compared with its source any more: %s", out, error)
    if differences:
        raise UserError(
            f"{out} must hold what source and pack ask for, but it was packed from something else: "
            f"{'; '.join(differences)}. Give another path, delete the folder (or pack it again with "
            "`python -m fgvr shards` and overwrite), or set source and pack back"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in dict.fromkeys((*before, *now))
        if canonical_json(before.get(name)) != canonical_json(now.get(name))
    ]


def _changes_of_pictures(manifest: Manifest, plan: Plan) -> list[str]:
    """Raises SourceGone when the plan is another one because none of its pictures can be read."""
    before_triplets = (manifest.options.get("triplets") or {}).get("plan")  # which were chosen among the same pictures
    if plan.hash in (manifest.plan, before_triplets):
        return []
    if not any(_can_be_read(item.record) for item in plan.items()):
        raise SourceGone(f"none of the {plan.pictures} pictures that it names can be read")
    before = sum(shard.samples for shard in manifest.shards) + len(manifest.refused)
    now = plan.pictures + len(plan.refused)
    return [f"the pictures, their labels or the taxonomy have changed ({before} pictures were there, {now} are)"]


def _can_be_read(record: Record) -> bool:
    try:
        record.load()
    except SampleError:
        return False
    return True
