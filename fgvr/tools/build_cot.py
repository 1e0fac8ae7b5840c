"""`python -m fgvr cot`: thoughts that end in their labels, written by a teacher about a shard set's photos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fgvr.data.images import inspect_image, stored_form
from fgvr.data.tasks import format_answer
from fgvr.errors import UserError, refuse_below, refuse_no_share, shown
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import spread_over_classes
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.sources.messages_json import MessagesJSON
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

# So that --teacher accepts these by their short names.
from fgvr.thoughts.aviary_teacher import AviaryTeacher  # noqa: F401
from fgvr.thoughts.building import Builder, Outcome, Recipe
from fgvr.thoughts.kept import KeptReplies
from fgvr.thoughts.served import ServedTeacher  # noqa: F401
from fgvr.thoughts.teacher import Photo, Teacher
from fgvr.tools.progress_bar import progress_bar
from fgvr.types import PLACE
from fgvr.whole_files import write_whole

SHOWN = 5  # names in a sentence
QUESTION = "What is shown in this photo? Name it as specifically as you can."


def cot(
    data: Path,
    out: Path,
    teacher: Teacher,
    split: Literal["train", "val", "test"] = "train",
    per_class: int = 1,
    examples: int | None = None,
    question: str = QUESTION,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    seed: int = 0,
    max_rejected: float = 0.5,
) -> None:
    """Let a teacher, who is told the label, reason about photos of each class, and pack what passes the checks.

    `out` gets the conversations (cot.json, in the layout of Fine-R1's first stage), their photos, manifest.json, which
    says what became of each photo and why replies were refused, and shards/, ready to train on. Every reply is kept in
    replies.sqlite: run the same line again, after an interruption too, and only what is missing is asked.

    Args:
        data: the shard set whose photos are reasoned about
        out: the folder to write
        teacher: ServedTeacher (a model behind an OpenAI-compatible server), AviaryTeacher or a class of your own
        split: whose photos
        per_class: photos of each class, spread by `seed`
        examples: photos in all, spread over the classes; all of those by default
        question: what the policy will be asked
        recipe: how much is asked of the teacher, and the checks
        seed: decides which photos
        max_rejected: the share of photos that may end without a thought
    """
    refuse_below(1, "cot", per_class=per_class, examples=examples)
    refuse_no_share("cot", max_rejected=max_rejected)
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    photos, taxonomy = _photos(Path(data), split, per_class, examples, seed)
    kept = KeptReplies(out / "replies.sqlite")
    builder = Builder(teacher, kept, Names(taxonomy), recipe, taxonomy.root, question)
    try:
        with progress_bar(console) as progress:
            outcomes = builder.build(photos, progress)
    finally:
        teacher.close()
        kept.close()
    written = Written(out, taxonomy, question, outcomes)
    written.write()
    for sentence in written.sentences(builder.counts, builder.silence):
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    written.refuse_too_few(max_rejected)
    pack(MessagesJSON(out / "cot.json", taxonomy=out / "taxonomy.json"), out / "shards", PackOptions(val=0, test=0))
    console.print(f"The shard set to train on is {out / 'shards'}.", highlight=False, soft_wrap=True)


def _photos(folder: Path, split: str, per_class: int, examples: int | None, seed: int) -> tuple[list[Photo], Taxonomy]:
    """Those that are asked about, in an order that belongs to the seed, and the classes of the set."""
    whole = ShardSet(folder, split, TRAINED_COHORTS)
    taxonomy, labels = Taxonomy.from_dict(load_manifest(folder).taxonomy), whole.labels()
    counts, chosen = Counter[str](), list[int]()
    for number in spread_over_classes(labels, None, seed):
        counts[labels[number]] += 1
        if counts[labels[number]] <= per_class:
            chosen.append(number)
    by_parent: dict[tuple[str, ...], list[str]] = {}
    for label, path in taxonomy.paths.items():
        by_parent.setdefault(path[:-1], []).append(label)
    photos: list[Photo] = []
    for number in chosen[:examples]:
        example = whole.read(number)
        others = by_parent[taxonomy.paths[example.label][:-1]]
        siblings = tuple(name for name in others if name != example.label)
        photos.append(Photo(example.uid, example.label, siblings, example.images[0]))
    return photos, taxonomy


@dataclass(frozen=True)
class Written:
    """What is left of the outcomes in a folder, the same bytes for the same ones."""

    out: Path
    taxonomy: Taxonomy
    question: str
    outcomes: Sequence[Outcome]

    @property
    def accepted(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.thought is not None]

    def write(self) -> None:
        (self.out / "photos").mkdir(exist_ok=True)
        rows = [self._row(one) for one in self.accepted]
        write_whole(self.out / "taxonomy.json", _json(self.taxonomy.to_dict()))
        write_whole(self.out / "cot.json", _json(rows))
        write_whole(self.out / "manifest.json", _json(self.manifest()))

    def manifest(self) -> dict[str, Any]:
        """Counts that add up, and a line for each photo."""
        refused = Counter(reason for one in self.outcomes for reason in one.refused)
        return {
            "photos": len(self.outcomes),
            "accepted": len(self.accepted),
            "rejected": len(self.outcomes) - len(self.accepted),
            "attempts": sum(len(one.refused) + (one.thought is not None) for one in self.outcomes),
            "refused": dict(sorted(refused.items())),
            "without_concepts": sum(not one.concepts for one in self.outcomes),
            "classes_lost": sorted(
                {one.photo.label for one in self.outcomes} - {one.photo.label for one in self.accepted}
            ),
            "classes_without_siblings": len({one.photo.label for one in self.outcomes if not one.photo.siblings}),
            "samples": [
                {
                    "uid": one.photo.uid,
                    "label": one.photo.label,
                    "accepted": one.thought is not None,
                    "refused": list(one.refused),
                    "concepts": list(one.concepts),
                }
                for one in self.outcomes
            ],
        }

    def sentences(self, counts: Counter[str], silence: str) -> Iterator[str]:
        told = self.manifest()
        yield (
            f"{told['photos']:,} photos: {told['accepted']:,} thoughts accepted after {told['attempts']:,} attempts, "
            f"{told['rejected']:,} photos rejected."
        )
        if told["without_concepts"]:
            yield f"{told['without_concepts']:,} photos were reasoned about without concepts, of which there were none."
        if lost := told["classes_lost"]:
            more = ", ..." if len(lost) > SHOWN else ""
            yield f"{len(lost):,} classes have no thought at all: {', '.join(lost[:SHOWN])}{more}."
        for reason, count in sorted(told["refused"].items(), key=lambda entry: -entry[1]):
            yield f"{count:,} replies refused: {reason}."
        asked = {
            what: sum(n for name, n in counts.items() if name.endswith(what)) for what in ("asked", "kept", "reply")
        }
        yield f"Replies: {asked['asked']:,} asked for, {asked['kept']:,} kept from before, {asked['reply']:,} not had."
        if silence:
            yield f"Where the teacher gave no reply, at last: {silence}."

    def refuse_too_few(self, most: float) -> None:
        rejected = len(self.outcomes) - len(self.accepted)
        if not self.accepted or rejected > most * len(self.outcomes):
            raise UserError(
                f"At most a share of {most} of the photos may end without a thought, but {rejected:,} of "
                f"{len(self.outcomes):,} did: see in {self.out / 'manifest.json'} why, and give more attempts "
                "(recipe.attempts), another teacher or a larger max_rejected"
            )

    def _row(self, one: Outcome) -> dict[str, Any]:
        """In the layout of Fine-R1's first stage (arXiv 2602.07605); the photo is written beside."""
        assert one.thought is not None
        kind, data = stored_form(one.photo.image, inspect_image(one.photo.image, one.photo.uid))
        place = f"photos/{one.photo.uid}.{kind}"
        if not (self.out / place).exists():
            write_whole(self.out / place, data)
        said = format_answer(one.photo.label, one.thought.thought())
        messages = [
            {"role": "user", "content": f"{PLACE}{self.question}"},
            {"role": "assistant", "content": said},
        ]
        return {"messages": messages, "images": [place]}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
