"""What a run was made of, as tables: settings, software, code, checkpoints, data, and what was lost on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from fgvr.pictures.tables import Cell, Table, shortened
from fgvr.report.parts import Gathered, Listing, Part, of_run
from fgvr.report.ran import Ran, flat
from fgvr.report.subject import Subject
from fgvr.shards.manifest import Manifest

SHORT = 16  # digits of a hash
LOST = (  # what a run counts of what it could not use, in the words of a table
    ("train/skipped_steps", "steps without a finite gradient, skipped"),
    ("rollouts/unscorable", "groups without a score"),
    ("rollouts/faulty", "scores that were no number"),
    ("rollouts/empty", "completions without a token"),
    ("rollouts/missing", "completions without a reward"),
    ("sampling/drift_alarms", "alarms of samples that drift from the trainer"),
)
Line = tuple[Cell, ...]


def made_of(subjects: Sequence[Subject]) -> Part:
    """Everything that a reader needs to say what was run, and to run it again."""
    found, kinds = Gathered(), list[list[Table]]()
    for subject in subjects:
        ran, whose = subject.ran, of_run(subject.name, subjects)
        tables = [Table(("", "value"), tuple(_facts(ran)), f"The run{whose}")]
        tables += [_software(ran, whose)] if ran.environments else []
        tables += [_checkpoints(ran, whose)] if ran.checkpoints else []
        tables += [_sets(subject, whose)] if subject.photos.sets else []
        if lost := _lost(ran):
            tables.append(Table(("what was lost", "over the run"), tuple(lost), f"Counted as lost{whose}"))
        if ran.config_text:
            found.listings.append(Listing(f"config.yaml{whose}", ran.config_text))
        for folder, manifest in subject.photos.sets.items():
            found.listings.append(Listing(f"data manifest, {folder.name}{whose}", _manifest(manifest)))
        kinds.append(tables)
        found.said += [f"{subject.name}: {one}" for one in (*ran.remarks, *subject.remarks, *subject.photos.missing)]
        if not ran.environments:
            found.said.append(
                f"{subject.name}: which software it ran on is not known; since this version a run keeps that in "
                "environment.json."
            )
    # one kind after the other, so that those of two runs stand side by side
    found.tables += [table for of_kind in zip_longest(*kinds) for table in of_kind if table is not None]
    return found.part("made-of", "What was run", "The folder holds no config.yaml: only runs of this version keep one.")


def _facts(ran: Ran) -> list[Line]:
    rows: list[Line] = [("folder", shortened(str(ran.folder), 200))]
    rows += [("method", ran.method)] if ran.method else []
    policy = ran.model.get("policy")
    backbone = policy.get("backbone") if isinstance(policy, Mapping) else None
    if isinstance(backbone, Mapping):
        inner = backbone.get("init_args")
        told = ", ".join(f"{key} {value}" for key, value in inner.items()) if isinstance(inner, Mapping) else ""
        name = str(backbone.get("class_path", "")).rpartition(".")[2]
        rows.append(("begins with", shortened(f"{name}: {told}" if told else name, 200)))
    rows.append(("optimiser steps", ran.steps))
    seconds = ran.facts.get("seconds")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        rows.append(("took", took(float(seconds))))
    if ran.facts.get("stopped_by"):
        rows.append(("ended by", shortened(str(ran.facts["stopped_by"]))))
    rows += [("seed", str(ran.config["seed_everything"]))] if "seed_everything" in ran.config else []
    if ran.config_text:
        digest = hashlib.sha256(ran.config_text.encode("utf-8", "surrogatepass")).hexdigest()
        rows.append(("sha256 of config.yaml", digest[:SHORT]))
    rows += _fingerprints(ran)
    return rows


def _fingerprints(ran: Ran) -> list[Line]:
    """Of the last checkpoint: the code, the data and the weights that it was begun with."""
    if not ran.checkpoints:
        return []
    fingerprint, rows = ran.checkpoints[-1].manifest.fingerprint, list[Line]()
    code = fingerprint.get("code")
    if isinstance(code, Mapping):
        digest = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()
        rows.append(("code", f"fgvr {code.get('version', '')}, {len(code) - 1} files, {digest[:SHORT]}"))
    if "data" in fingerprint:
        rows.append(("data", shortened(_brief(fingerprint["data"]), 300)))
    base = fingerprint.get("base")
    if isinstance(base, Mapping) and base.get("digest"):
        rows.append(
            ("weights begun with", f"{str(base['digest'])[:SHORT]}, {shortened(str(base.get('path', '')), 160)}")
        )
    return rows


def _brief(value: Any) -> str:
    """A fingerprint with its hashes cut short."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_brief(own)}" for name, own in value.items())
    return str(value)[:SHORT]


def took(seconds: float) -> str:
    """Seconds as a person says them."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"


def _software(ran: Ran, whose: str) -> Table:
    """A column for each environment that the run has been started in."""
    rows = ran.environments
    heads = ("", *(f"from step {row.get('step', 0)}" for row in rows))
    packages = [row["packages"] if isinstance(row.get("packages"), dict) else {} for row in rows]
    lines = [
        (name, *(shortened(_plain(row.get(name)), 120) for row in rows))
        for name in ("fgvr", "python", "system", "cuda", "gpus", "processes", "threads")
    ]
    names = sorted({str(name) for own in packages for name in own})
    lines += [(name, *(shortened(_plain(own.get(name)), 60) for own in packages)) for name in names]
    return Table(heads, tuple(lines), f"Software and machine{whose}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _checkpoints(ran: Ran, whose: str) -> Table:
    rows = tuple(
        (shortened(one.name), one.manifest.step, f"{one.manifest.size / 1e6:,.1f} MB", one.manifest.digest[:SHORT])
        for one in ran.checkpoints
    )
    return Table(("checkpoint", "step", "size", "sha256"), rows, f"Checkpoints{whose}")


def _sets(subject: Subject, whose: str) -> Table:
    rows: list[Line] = []
    for folder, manifest in subject.photos.sets.items():
        for split in ("train", "val", "test"):
            for cohort in sorted({shard.cohort for shard in manifest.shards if shard.split == split}):
                classes = sum(
                    manifest.cohorts.get(label) == cohort and count > 0
                    for label, count in manifest.counts.get(split, {}).items()
                )
                samples = manifest.samples(split, (cohort,))
                rows.append((shortened(str(folder)), split, cohort, classes, samples, manifest.fingerprint()[:SHORT]))
    refused = sum(len(manifest.refused) for manifest in subject.photos.sets.values())
    leaks = sum(len(manifest.leaks) for manifest in subject.photos.sets.values())
    note = f"Refused when they were packed: {refused:,}. Pictures that stand in more than one split: {leaks:,}."
    return Table(
        ("shard set", "split", "cohort", "classes", "photos", "fingerprint"), tuple(rows), f"Data{whose}", note
    )


def _manifest(manifest: Manifest) -> str:
    """What a set says of itself, but for what is as long as it has classes, and for its shards one by one."""
    told = {
        "dataset": manifest.dataset,
        "source": dict(manifest.source),
        "options": dict(manifest.options),
        "seed": manifest.seed,
        "ranks": manifest.taxonomy.get("ranks"),
        "classes": len(manifest.cohorts),
        "notes": dict(manifest.notes),
        "image_pixels": {name: list(values) for name, values in manifest.image_pixels.items()},
        "refused": [str(one) for one in manifest.refused[:50]],
        "shards": {shard.file: {"samples": shard.samples, "sha256": shard.sha256} for shard in manifest.shards[:200]},
    }
    return json.dumps(told, indent=1, ensure_ascii=False, default=str)


def _lost(ran: Ran) -> list[Line]:
    rows = [
        (words, int(sum(ran.curves[tag].values)))
        for tag, words in LOST
        if tag in ran.curves and any(ran.curves[tag].values)
    ]
    bad = [tag for tag in ran.curves if tag.startswith("data/") and tag.endswith("quarantined")]
    most = {tag.removeprefix("data/"): int(max(ran.curves[tag].values)) for tag in bad}
    return [*rows, *((f"photos {name}, the most at once", count) for name, count in most.items() if count)]


def differences(first: Ran, second: Ran, most: int = 400) -> Table:
    """The settings in which two runs differ; where they write is left out."""
    then, now = flat(first.config), flat(second.config)
    keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key) and key != "run.dir"]
    rows = tuple(
        (shortened(key, 120), *(shortened(own.get(key, "not there"), 120) for own in (then, now)))
        for key in keys[:most]
    )
    left_out = len(keys) - most
    note = f"{left_out} more settings differ." if left_out > 0 else ""
    heads = ("setting", shortened(first.name), shortened(second.name))
    return Table(heads, rows, f"Settings that differ: {len(keys)}", note)
