"""Triplets in shards: which photos stand beside which, decided before any is packed, and their bytes."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from PIL import Image

from fgvr.data.images import inspect_image, open_image, stored_form
from fgvr.errors import SampleError, UserError
from fgvr.shards.manifest import WITH_PARTNER, PartnerEntry, canonical_json
from fgvr.shards.plan import Plan, sample_key
from fgvr.shards.reading import VIEWS
from fgvr.shards.shelf import Item
from fgvr.similarity import Classes, Ranking, Similarity
from fgvr.similarity.base import some_photos
from fgvr.sources.base import HELD_OUT_COHORTS, PartnerRecord, Record

NAMED = 5  # classes that a sentence names


@dataclass
class StoredPartners:
    """What a sample's partners add to it: tar members by suffix, fields of its json, entries of the index, notes."""

    members: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    entries: tuple[PartnerEntry, ...] = ()
    notes: list[str] = field(default_factory=list)


def stored_partners(record: Record, picture: bytes) -> StoredPartners:
    """The partners of a record whose own bytes are `picture`; one that is the same picture is left out and noted.

    Raises SampleError, naming it, for a partner that cannot be read or is no image.
    """
    stored = StoredPartners()
    for view, partner in record.partners.items():
        role, uid = VIEWS[view], sample_key(partner.name)
        try:
            images = partner.load()
            if not images:
                raise SampleError(f"{partner.name} must hold an image, but it holds none")
            forms = [stored_form(data, inspect_image(data, partner.name)) for data in images]
        except SampleError as error:
            raise SampleError(f"{record.name}: its {role} cannot be used: {error}") from error
        if images[0] == picture:
            stored.notes.append(f"{role} left out: the very same picture")
            continue
        for number, (suffix, data) in enumerate(forms):
            stored.members[f"{view}.{number}.{suffix}" if number else f"{view}.{suffix}"] = data
        stored.told[role] = {"uid": uid, "label": partner.label}
        entry = PartnerEntry(view, uid, partner.label, hashlib.sha256(images[0]).hexdigest())
        stored.entries = (*stored.entries, entry)
        stored.notes.append(WITH_PARTNER[view])
    return stored


def with_partners(plan: Plan, similarity: Similarity, seed: int, say: Callable[[str], None]) -> Plan:
    """The plan with a positive and a negative beside each picture to train on, where there is one.

    The positive is another picture of the class, the negative one of the most similar class; both belong to the seed.
    Classes that are held out take no part. Raises UserError where the source brings triplets of its own, and where no
    picture has a positive or none a negative.
    """
    trained = [item for item in plan.items() if _is_trained(item)]
    if any(item.record.partners for item in trained):
        raise UserError("the source has triplets of its own: leave --triplets out, or pack a source without them")
    if similarity.decay is not None:
        raise UserError(
            f"frozen partners cannot follow what a policy confuses, which {type(similarity).__name__} does: pack "
            "without --triplets and draw them in training (data.init_args.similarity), or choose another measure"
        )
    classes: dict[str, list[Record]] = defaultdict(list)
    for item in sorted(trained, key=lambda item: item.record.name):
        classes[item.record.label].append(item.record)
    pictures = {item.record.name: _picture(item.record) for item in trained}
    pools = _pools(classes, pictures, say)
    ranking = similarity.nearest(Classes(tuple(classes), plan.taxonomy, partial(_photos, pools, seed), seed=seed), 1)
    chosen = {item.key: _chosen(item.record, pools, pictures, ranking, seed) for item in trained}
    for role in VIEWS.values():
        _tell(role, Counter(one.label for one in chosen.values() if getattr(one, role) is None), len(trained), say)
    shards = tuple(
        replace(shard, items=tuple(replace(item, record=chosen.get(item.key, item.record)) for item in shard.items))
        for shard in plan.shards
    )
    digest = hashlib.sha256(canonical_json([plan.hash, similarity.describe()]))
    for key, record in chosen.items():
        digest.update(canonical_json([key, [[view, one.name] for view, one in record.partners.items()]]))
    triplets = {"similarity": similarity.describe(), "plan": plan.hash}
    return replace(plan, shards=shards, hash=digest.hexdigest(), triplets=triplets)


def lacking_partner(role: str, classes: Mapping[str, int], total: int) -> str:
    """How many of `total` pictures lack a partner, and of which classes: numbers by class, those of 0 left out."""
    count = sum(classes.values())
    each = [f"{label!r} ({number})" for label, number in sorted(classes.items()) if number]
    named = ", ".join(each[:NAMED]) + (f" and {len(each) - NAMED} more" if len(each) > NAMED else "")
    if count == total:
        return f"triplets need a {role}, but none of {total:,} pictures to train on has one"
    return f"{count:,} of {total:,} pictures to train on have no {role}, those of {named}"


def _photos(pools: Mapping[str, list[Record]], seed: int, label: str, count: int) -> Sequence[Image.Image]:
    """Some of a class's photos, as `Classes` wants them."""
    records = pools[label]
    return some_photos(label, len(records), count, seed, lambda at: open_image(records[at].load(), records[at].name))


def _is_trained(item: Item) -> bool:
    return item.split == "train" and item.cohort not in HELD_OUT_COHORTS


def _picture(record: Record) -> bytes:
    """What tells a picture from others: its hash, or the name of one that cannot be read."""
    try:
        return hashlib.sha256(record.load()).digest()
    except SampleError:
        return record.name.encode()


def _pools(
    classes: Mapping[str, list[Record]], pictures: Mapping[str, bytes], say: Callable[[str], None]
) -> dict[str, list[Record]]:
    """What may be drawn of each class: each picture once, and none that stands under two labels, which is said."""
    labels: dict[bytes, set[str]] = defaultdict(set)
    for label, records in classes.items():
        for record in records:
            labels[pictures[record.name]].add(label)
    if two_labels := sum(len(names) > 1 for names in labels.values()):
        say(f"{two_labels:,} pictures stand under two labels and are nobody's partner")
    pools: dict[str, list[Record]] = {}
    for label, records in classes.items():
        single = {pictures[one.name]: one for one in reversed(records) if len(labels[pictures[one.name]]) == 1}
        pools[label] = sorted(single.values(), key=lambda one: one.name)
    return pools


def _chosen(
    record: Record, pools: Mapping[str, list[Record]], pictures: Mapping[str, bytes], ranking: Ranking, seed: int
) -> Record:
    draw = random.Random(f"{seed} partners of {record.name}")
    same = [one for one in pools[record.label] if pictures[one.name] != pictures[record.name]]
    others = pools[ranking[record.label][0][0]] if ranking.get(record.label) else []
    positive, negative = (_partner(draw.choice(pool)) if pool else None for pool in (same, others))
    return replace(record, positive=positive, negative=negative)


def _partner(record: Record) -> PartnerRecord:
    return PartnerRecord(record.name, record.label, lambda: (record.load(),))


def _tell(role: str, lacking: Counter[str], total: int, say: Callable[[str], None]) -> None:
    """Raises UserError where all lack one."""
    if not lacking:
        return
    said = lacking_partner(role, lacking, total)
    if lacking.total() == total:
        remedy = {
            "positive": "give more than one picture of a class",
            "negative": "choose another measure of similarity",
        }
        raise UserError(f"{said}: {remedy[role]}")
    say(said)
