"""`python -m fgvr cot`: thoughts that end in their labels, written by a teacher about a shard set's photos."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

from rich.console import Console

from fgvr.data.images import inspect_image, stored_form
from fgvr.data.tasks import OpenWorld, format_answer
from fgvr.errors import SampleError, UserError, refuse_below, refuse_no_share, shown

# So that --teacher, --teacher.model and --teacher.engine accept these by their short names.
from fgvr.models import Pretrained, TinyQwen, Trained  # noqa: F401
from fgvr.models.text_encoder import text_encoder
from fgvr.next_steps import after_thoughts
from fgvr.rollouts.in_process import InProcess  # noqa: F401
from fgvr.rollouts.local_teacher import LocalTeacher  # noqa: F401
from fgvr.shards.order import spread_over_classes
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.sources.messages_json import MessagesJSON
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.thoughts.aviary_teacher import AviaryTeacher  # noqa: F401
from fgvr.thoughts.building import Builder, Outcome, Recipe
from fgvr.thoughts.concepts import Encoder, count_words, unit_rows
from fgvr.thoughts.kept import KeptReplies
from fgvr.thoughts.served import ServedTeacher  # noqa: F401
from fgvr.thoughts.teacher import Photo, Teacher
from fgvr.tools.progress_bar import progress_bar
from fgvr.types import PLACE
from fgvr.whole_files import write_whole

SHOWN = 5  # names in a sentence
PHOTOS, REPLIES, SHARDS = "photos", "replies.sqlite", "shards"
_UID = re.compile(r"(?:[a-z0-9_-]+-)?[0-9a-f]{12}")  # of a photo that a shard set holds
QUESTION = "What is shown in this photo? Name it as specifically as you can."

log = logging.getLogger(__name__)


def cot(
    data: Path,
    out: Path,
    teacher: Teacher,
    split: Literal["train", "val", "test"] = "train",
    per_class: int = 1,
    examples: int | None = None,
    question: str = QUESTION,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    encoder: Path | None = None,
    spares: int = 0,
    seed: int = 0,
    max_rejected: float = 0.5,
) -> str:
    """Let a teacher, who is told the label, reason about photos of each class, and pack what passes the checks.

    `out` gets the conversations (cot.json, in the layout of Fine-R1's first stage), their photos, manifest.json, which
    says what became of each photo and why replies were refused, and shards/, ready to train on. Every reply is kept in
    replies.sqlite: run the same line again, after an interruption too, and only what is missing is asked. Returns what
    to do next.

    Args:
        data: the shard set whose photos are reasoned about
        out: the folder to write
        teacher: ServedTeacher (a model behind an OpenAI-compatible server), LocalTeacher (a model in this process),
            AviaryTeacher or a class of your own
        split: whose photos
        per_class: photos of each class, spread by `seed`
        examples: photos in all, spread over the classes; all of those by default
        question: what the policy will be asked
        recipe: how much is asked of the teacher, and the checks
        encoder: a folder whose model compares descriptions and concepts: any encoder of texts, or a Qwen-VL, whose
            embeddings do; by default the embeddings of a LocalTeacher's model, else the words they share are counted
        spares: how many further photos of a class may stand in, one after the other, for those whose replies are all
            refused
        seed: decides which photos
        max_rejected: the share of photos that may end without a thought
    """
    refuse_below(1, "cot", per_class=per_class, examples=examples)
    refuse_below(0, "cot", spares=spares)
    refuse_no_share("cot", max_rejected=max_rejected)
    _refuse_unfit(out, question)
    console, chosen = Console(), Chosen(Path(data), split, per_class, examples, spares, seed)
    OpenWorld(question).bind(chosen.whole.taxonomy)  # refuses what could not be asked, or written as an answer
    compared, encode = _encoder(encoder, teacher) if recipe.descriptions and recipe.concepts else ("", count_words)
    out.mkdir(parents=True, exist_ok=True)
    taxonomy, photos = chosen.whole.taxonomy, chosen.photos()
    builder = Builder(teacher, KeptReplies(out / REPLIES), Names(taxonomy), recipe, taxonomy.root, question, encode)
    outcomes = _outcomes(builder, photos, chosen, console)
    about = {"teacher": teacher.told, "texts_compared_by": compared, "question": question, "seed": seed}
    about |= {"recipe": asdict(recipe), "unreadable": sorted(chosen.unreadable)}
    written = Written(out, taxonomy, question, outcomes, about)
    written.write()
    for sentence in written.sentences(builder.counts, builder.silence):
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    written.refuse_too_few(max_rejected)
    pack(MessagesJSON(out / "cot.json", taxonomy=out / "taxonomy.json"), out / SHARDS, PackOptions(val=0, test=0))
    console.print(f"The shard set to train on is {out / SHARDS}.", highlight=False, soft_wrap=True)
    return after_thoughts(out / SHARDS)


def _refuse_unfit(out: Path, question: str) -> None:
    """Raises UserError for no question, and a folder whose manifest is of something else, as the shard set itself."""
    if not question.strip():
        raise UserError(f"question must say what is asked of a photo, got {question!r}: leave it out for the usual one")
    if PLACE in question:
        raise UserError(f"the question stands beside the photo already: take {PLACE} out of {question!r}")
    if (out / "manifest.json").exists() and not (out / REPLIES).exists():
        raise UserError(
            f"out must be a new folder, or one that cot has written, but the manifest.json in {out} is of something "
            "else: choose another out"
        )


def _encoder(folder: Path | None, teacher: Teacher) -> tuple[str, Encoder]:
    """What compares texts, and what a manifest calls it."""
    if folder is not None:
        return f"the encoder {folder.name}", unit_rows(text_encoder(folder, "encoder"))
    own = teacher.encoder()
    return ("the words they share", count_words) if own is None else ("the teacher's own embeddings", own)


def _outcomes(builder: Builder, photos: Sequence[Photo], chosen: Chosen, console: Console) -> list[Outcome]:
    try:
        with progress_bar(console) as progress:
            return builder.build(photos, chosen.spared(), progress)
    finally:
        builder.teacher.close()
        builder.kept.close()


class Chosen:
    """The photos of a shard set that are asked about, and those in reserve, in an order that belongs to the seed.

    `unreadable` are the uids of those that were left out, as they could not be read; another of the class takes such a
    one's place, where there is one.
    """

    def __init__(self, folder: Path, split: str, per_class: int, examples: int | None, spares: int, seed: int) -> None:
        self.whole = ShardSet(folder, split, TRAINED_COHORTS)
        self.per_class, self.examples, self.spares = per_class, examples, spares
        self.unreadable: set[str] = set()
        labels, by_class = self.whole.labels(), dict[str, list[int]]()
        self._order = spread_over_classes(labels, None, seed)
        for number in self._order:
            by_class.setdefault(labels[number], []).append(number)
        self._labels = labels
        self._left = {label: self._readable(numbers) for label, numbers in by_class.items()}
        self._by_parent: dict[tuple[str, ...], list[str]] = {}
        for label, path in self.whole.taxonomy.paths.items():
            self._by_parent.setdefault(path[:-1], []).append(label)

    def photos(self) -> list[Photo]:
        """Those that are asked about. Raises UserError where not one can be read."""
        counts, found = Counter[str](), list[Photo]()
        for label in (self._labels[number] for number in self._order):
            if len(found) == self.examples:
                break
            counts[label] += 1
            photo = next(self._left[label], None) if counts[label] <= self.per_class else None
            found += [] if photo is None else [photo]
        if not found:
            raise UserError(
                f"some photo of {self.whole.folder} must be readable, but none of those chosen was: see the log"
            )
        return found

    def spared(self) -> dict[str, Iterator[Photo]]:
        """Those of each class that may stand in for others; after `photos`."""
        return {label: islice(left, self.spares) for label, left in self._left.items()}

    def _readable(self, numbers: Sequence[int]) -> Iterator[Photo]:
        """One after the other, each read when it is needed."""
        for number in numbers:
            try:
                example = self.whole.read(number)
                inspect_image(example.images[0], example.uid)
            except SampleError as error:
                self.unreadable.add(self.whole.uid(number))
                log.warning("a photo is not reasoned about, as it cannot be read: %s", error)
                continue
            others = self._by_parent[self.whole.taxonomy.paths[example.label][:-1]]
            siblings = tuple(name for name in others if name != example.label)
            yield Photo(example.uid, example.label, siblings, example.images[0])


@dataclass(frozen=True)
class Written:
    """What is left of the outcomes in a folder, the same bytes for the same ones; `about` says what they come from."""

    out: Path
    taxonomy: Taxonomy
    question: str
    outcomes: Sequence[Outcome]
    about: Mapping[str, Any]

    @property
    def accepted(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.thought is not None]

    @property
    def places(self) -> int:
        """Photos without those that stood in for another."""
        return sum(not one.instead for one in self.outcomes)

    def write(self) -> None:
        """Photos that no conversation shows any more are removed, and the shards where conversations have changed."""
        (self.out / PHOTOS).mkdir(exist_ok=True)
        rows = [self._row(one) for one in self.accepted]
        made_of = {"taxonomy.json": _json(self.taxonomy.to_dict()), "cot.json": _json(rows)}
        files = {self.out / name: data for name, data in made_of.items()}
        if (self.out / SHARDS).exists() and any(not f.exists() or f.read_bytes() != d for f, d in files.items()):
            rmtree(self.out / SHARDS)  # made of other conversations, or of a set whose classes stood elsewhere
        for file, data in files.items():
            write_whole(file, data)
        write_whole(self.out / "manifest.json", _json(self.manifest()))
        shown_now = {self.out / image for row in rows for image in row["images"]}
        for file in (self.out / PHOTOS).iterdir():
            if file not in shown_now and _UID.fullmatch(file.stem):
                file.unlink()

    def manifest(self) -> dict[str, Any]:
        """Counts that add up, and a line for each photo."""
        refused = Counter(reason for one in self.outcomes for reason in one.refused)
        return {
            **self.about,
            "photos": len(self.outcomes),
            "stood_in": len(self.outcomes) - self.places,
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
                    **({"instead_of": one.instead} if one.instead else {}),
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
        if told["stood_in"]:
            yield f"{told['stood_in']:,} of these photos stood in for others of their class."
        if told["unreadable"]:
            yield f"{len(told['unreadable']):,} photos could not be read and were left out: see the log."
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
        had, kept, missed = asked["asked"], asked["kept"], asked["reply"]
        yield f"Replies: {had + missed:,} asked for, {missed:,} of them not had; {kept:,} kept from before."
        if silence:
            yield f"Where the teacher gave no reply, at last: {silence}."

    def refuse_too_few(self, most: float) -> None:
        lacking = self.places - len(self.accepted)
        if not self.accepted:
            raise UserError(
                f"at least one photo must end with a thought, but none of {self.places:,} did: see in "
                f"{self.out / 'manifest.json'} why, and give more attempts (recipe.attempts) or another teacher"
            )
        if lacking > most * self.places:
            raise UserError(
                f"at most a share of {most} of the photos may end without a thought, but {lacking:,} of "
                f"{self.places:,} did: see in {self.out / 'manifest.json'} why, and give more attempts "
                "(recipe.attempts), another teacher or a larger max_rejected"
            )

    def _row(self, one: Outcome) -> dict[str, Any]:
        """In the layout of Fine-R1's first stage (arXiv 2602.07605); the photo is written beside."""
        assert one.thought is not None
        kind, data = stored_form(one.photo.image, inspect_image(one.photo.image, one.photo.uid))
        place = f"{PHOTOS}/{one.photo.uid}.{kind}"
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
