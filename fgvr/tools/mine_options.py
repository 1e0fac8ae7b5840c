"""`python -m fgvr mine`: replies of a model to every photo of a set, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from rich.console import Console

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.images import open_image
from fgvr.data.tasks import Task
from fgvr.datamodules.asked import task_of
from fgvr.errors import UserError, refuse_below

# So that --model, --source and --padding accept these by their short names.
from fgvr.models import Backbone, PixelBudget, Policy, PolicyConfig, Pretrained, TinyQwen, Trained  # noqa: F401
from fgvr.models.attention_choice import Device, attention_at, place_of
from fgvr.models.sampling import Sampling
from fgvr.next_steps import STORE, after_options
from fgvr.options import Alike, Confused, Mined, Mixture, OptionSource, RandomNames  # noqa: F401
from fgvr.options.deriving import Rules, derive, write_options
from fgvr.options.store import Made, ReplyStore, read_store
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.rollouts.mining import Miner, digest_of, made_of, refuse_positives, told
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import key_of, spread_over_classes
from fgvr.shards.reading import ShardSet
from fgvr.similarity import Classes, FolderCentroids, FolderNames, Siblings, TowerCentroids  # noqa: F401
from fgvr.similarity.base import some_photos
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.taxonomy.branch import branch_of, inside
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.mining_report import report
from fgvr.whole_files import refuse_no_folder

OPTIONS = "options.jsonl"
SAMPLING = Sampling(20, 1.0, 1024)


def mine(
    data: Path,
    out: Path,
    model: Backbone | None = None,
    pixels: PixelBudget | None = None,
    task: Task | None = None,
    split: Literal["train", "val", "test"] = "train",
    cohorts: list[str] | None = None,
    examples: int | None = None,
    sampling: Sampling = SAMPLING,
    seed: int = 0,
    engine: RolloutEngine = InProcess(),  # noqa: B008 - settings only
    rows: int = 320,
    device: Device = "auto",
    rules: Rules = Rules(),  # noqa: B008 - settings only
    source: OptionSource = Mined(),  # noqa: B008 - settings only
    padding: OptionSource = RandomNames(),  # noqa: B008 - settings only
    within: str | None = None,
) -> str:
    """Sample replies to each photo of a shard set, keep them all, and make options of choice of them.

    `out` gets replies.jsonl, options.jsonl, figures (report.json), and recall for every K and m (sweep.csv, sweep.png).
    The same line goes on where it was interrupted, and makes options anew without a model. Returns what to do next.

    Args:
        data: the shard set whose photos are asked about
        out: the folder to write
        model: what is asked, Pretrained or Trained; leave it out to make options of replies that are there
        pixels: budget of each photo, by default that of the model
        task: what is asked, without options; by default what the run was asked that Trained names
        split: whose photos; only options of train ones hold the label
        cohorts: whose photos, by default those to train on of train, and all of val and test
        examples: how many photos of each cohort, spread over its classes; all by default
        sampling: K (group_size) replies to each photo
        seed: decides what is sampled and which examples
        engine: what samples
        rows: replies that are sampled at a time; halved where memory does not hold them
        device: where the model computes
        rules: how many options a photo gets, of which names, and whether easy photos stay
        source: where options come from: Mined, RandomNames, Alike, Confused, Mixture or a class of your own
        padding: where a second option comes from when there is but one
        within: a node of the taxonomy: photos and options are of its branch alone
    """
    _refuse_unfit(out, examples, rows, sampling)
    rules = rules if within is None else replace(rules, within=within)
    console, photos = Console(), _photos(Path(data), split, cohorts, examples, seed, rules.within)
    _say_within(rules.within, photos, console)
    if model is not None:
        config = PolicyConfig(model, pixels)
        _sample(_Asking(config, _asked(model, task), sampling, seed, engine, rows, device), photos, out, console)
    made, sampled = read_store(out / STORE)
    if model is None:
        _refuse_unheeded(made, task, pixels, sampling, seed, out)
    _refuse_other_photos(made, photos, out)
    classes = Classes(tuple(sorted(made.classes)), Taxonomy.from_dict(made.taxonomy), photos.of_class, seed=seed)
    derived = derive(made, sampled, rules, classes, source, padding)
    write_options(out / OPTIONS, made, rules, derived)
    report(console, out, made, sampled, rules, derived)
    return after_options(out, out / OPTIONS, Path(data), split, len(derived.choices))


def _refuse_unfit(out: Path, examples: int | None, rows: int, sampling: Sampling) -> None:
    refuse_below(1, "mine", examples=examples, rows=rows)
    refuse_no_folder(out)
    refuse_positives(sampling)


@dataclass(frozen=True)
class _Asking:
    """Who is asked what, and how."""

    policy: PolicyConfig
    task: Task
    sampling: Sampling
    seed: int
    engine: RolloutEngine
    rows: int
    device: Device

    def made(self, photos: _Photos) -> Made:
        return made_of(
            self.policy.backbone.learned_origin()["digest"],
            self.task,
            self.policy.pixels,
            self.sampling,
            self.seed,
            photos.whole,
            photos.numbers,
            at_once=max(1, self.rows // self.sampling.group_size),
        )

    def built(self) -> Policy:
        place, config = place_of(self.device), self.policy
        config = replace(config, attention=attention_at(place, config.attention, config.prefix_attention))
        return Policy(config, config.backbone.processor(config.pixels)).to(place).eval()


def _sample(asking: _Asking, photos: _Photos, out: Path, console: Console) -> None:
    """Goes on with the store of `out`; the model is built only where a photo is left to be asked about."""
    made = asking.made(photos)
    with ReplyStore(out / STORE, made) as store:
        if store.done == made.photos:
            return
        policy = asking.built()
        task = asking.task.bind(photos.whole.taxonomy).opened(policy.processor.opening)
        kind = next(policy.parameters()).device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):  # as a run in bf16-mixed samples
            miner = Miner(policy, asking.engine, task, asking.sampling, asking.seed)
            miner.mine(photos.whole, photos.numbers, store, _teller(console))


@dataclass(frozen=True)
class _Photos:
    """The photos that are asked about: samples of a shard set, by number."""

    whole: ShardSet
    numbers: tuple[int, ...]
    seed: int

    def of_class(self, label: str, count: int) -> Sequence[Image.Image]:
        """Some training photos of a class, as `Classes` wants them."""
        own = [number for number, other in enumerate(self.whole.labels()) if other == label]

        def photo(place: int) -> Image.Image:
            example = self.whole.read(own[place])
            return open_image(example.images[0], example.uid)

        return some_photos(label, len(own), count, self.seed, photo)


def _photos(
    data: Path, split: str, cohorts: list[str] | None, examples: int | None, seed: int, within: str | None
) -> _Photos:
    there = set(load_manifest(data).cohorts.values())
    chosen = tuple(cohorts or sorted(there & {*TRAINED_COHORTS} if split == "train" else there))
    if unknown := sorted(set(chosen) - there):
        raise UserError(f"cohorts must be some of those of {data}, {', '.join(sorted(there))}, got {unknown}")
    whole = ShardSet(data, split, chosen)
    branch = None if within is None else branch_of(Taxonomy.from_dict(load_manifest(data).taxonomy), within)
    labels = whole.labels()
    inner = inside(labels, branch)
    if not inner and branch is not None:
        raise UserError(f"{data} must have {split} photos within {branch.node!r}, it has none: take a name above it")
    if examples is None:
        return _Photos(whole, tuple(inner), seed)
    of = load_manifest(data).cohorts
    numbers: list[int] = []
    for cohort in chosen:
        own = [number for number in inner if of[labels[number]] == cohort]
        picked = spread_over_classes([labels[number] for number in own], examples, key_of(seed, split, cohort))
        numbers += [own[place] for place in picked]
    return _Photos(whole, tuple(sorted(numbers)), seed)


def _say_within(within: str | None, photos: _Photos, console: Console) -> None:
    if within is not None:
        console.print(f"within {within}: {len(photos.numbers):,} of {len(photos.whole):,} photos", markup=False)


def _asked(model: Backbone, task: Task | None) -> Task:
    found = task if task is not None or not isinstance(model, Trained) else task_of(model.settings)
    if isinstance(found, ClosedWorld):
        raise UserError(
            "options are mined by asking for names, but the task is ClosedWorld, whose question shows them, the label "
            "among them: give another one, such as --task OpenWorld --task.question 'Which bird is this?'"
        )
    if found is None:
        raise UserError(
            "task must say what is asked, such as --task OpenWorld: only with --model Trained it may be left out, and "
            "what that run was asked is asked again"
        )
    return found


def _refuse_unheeded(
    made: Made, task: Task | None, pixels: PixelBudget | None, sampling: Sampling, seed: int, out: Path
) -> None:
    """Raises UserError for settings of what is sampled that the replies which are there were not made with."""
    given = [name for name, value in (("task", task), ("pixels", pixels)) if value is not None]
    given += ["sampling"] if sampling != SAMPLING and told(sampling) != dict(made.sampling) else []
    given += ["seed"] if seed not in (0, made.seed) else []
    if given:
        raise UserError(
            f"without --model nothing is sampled, so that {' and '.join(given)} must be left out: {out / STORE} holds "
            f"{made.sampling['k']} replies to each photo, made with seed {made.seed}. What fewer would come to is in "
            "sweep.csv; to sample otherwise, give --model and another --out"
        )


def _refuse_other_photos(made: Made, photos: _Photos, out: Path) -> None:
    if (made.data, made.split) != (digest_of([photos.whole.fingerprint, photos.numbers]), photos.whole.split):
        raise UserError(
            f"{out / STORE} must hold replies about the photos that are asked for, but it holds those about "
            f"{made.photos:,} {made.split} photos of {made.dataset}: give the same data, split, cohorts, examples "
            f"and within, and the seed {made.seed}, which decides which examples"
        )


def _teller(console: Console) -> Callable[[int, int], None]:
    """Says a line for every tenth of the work, and where it begins or goes on."""
    told = -1

    def tell(done: int, planned: int) -> None:
        nonlocal told
        if done * 10 // planned > told:
            told = done * 10 // planned
            console.print(f"asked about {done:,} of {planned:,} photos", highlight=False)

    return tell
