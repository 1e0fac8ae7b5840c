"""From kept replies to questions of choice, with no model: which names, where each comes from, which photo has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fgvr.errors import UserError
from fgvr.options.sources import Asked, Mined, OptionSource, RandomNames
from fgvr.options.store import Made, Sampled, Scope, confusions
from fgvr.options.votes import MOST, Ranked, Tally, cut, tally
from fgvr.similarity import Classes
from fgvr.taxonomy.branch import branch_of
from fgvr.whole_files import sealed_line, unsealed_line, write_whole

FORMAT = 1
Origin = Literal["offered", "truth", "padded"]
Reason = Literal[
    "refused", "no reply parsed", "no name in scope", "label of another class", "label held out", "easy", "one option"
]
WHY: dict[Reason, str] = {
    "refused": "no reply could be sampled",
    "no reply parsed": "no reply parses",
    "no name in scope": "no reply names a class in scope",
    "label of another class": "the label is another class's name",
    "label held out": "the label is held out of training",
    "easy": "every reply names the label",
    "one option": "there are fewer than two options",
}


@dataclass(frozen=True)
class Rules:
    """How options are made of votes: at most `m` of them, of names within `scope`.

    Within are the names of classes to train on ("base"), of all classes ("all"), or any name ("open"); None is "base"
    for photos to train on and "all" for others. A held-out class is no option in training, whatever the scope. `within`
    names a branch of the taxonomy that all options stand in. A photo is easy when all its replies name its label; such
    are left out of training unless `keep_easy`. Raises UserError for an m without as many letters.
    """

    m: int = 5
    scope: Scope | None = None
    keep_easy: bool = False
    within: str | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.m <= MOST:
            raise UserError(f"m must be from 2 to {MOST}, as many options as there are letters, got {self.m}")

    def names(self, made: Made) -> frozenset[str] | None:
        """The names within scope, None for any. Raises UserError for a branch that the taxonomy lacks."""
        names = made.scope(self.scope or ("base" if made.trains else "all"))
        if self.within is not None:
            branch = branch_of(made.names.taxonomy, self.within)
            names = branch.nodes if names is None else names & branch.classes
        return names - made.held_out if names is not None and made.trains else names


@dataclass(frozen=True)
class Choice:
    """The options of one photo, the best first, with the votes that each had and where it comes from."""

    uid: str
    label: str
    options: tuple[str, ...]
    votes: tuple[int, ...]
    origins: tuple[Origin, ...]


@dataclass(frozen=True)
class Derived:
    """The choices of a store's photos, and how many photos have none, by reason; together all photos.

    `reasons` say it of each that has none, by uid.
    """

    choices: tuple[Choice, ...]
    dropped: Mapping[Reason, int] = field(default_factory=dict[Reason, int])
    reasons: Mapping[str, Reason] = field(default_factory=dict[str, Reason])

    def sentences(self) -> list[str]:
        kept = Counter(origin for choice in self.choices for origin in set(choice.origins))
        total = len(self.choices) + sum(self.dropped.values())
        said = [f"{len(self.choices):,} of {total:,} photos have options"]
        said += [f"left out because {WHY[reason]}: {count:,}" for reason, count in self.dropped.items() if count]
        if kept["truth"]:
            said.append(f"with the label in the place of the lowest-ranked name, or in a free one: {kept['truth']:,}")
        if kept["padded"]:
            said.append(f"with a name that was added so that there are two: {kept['padded']:,}")
        return said


def derive(
    made: Made,
    photos: Sequence[Sampled],
    rules: Rules,
    classes: Classes,
    source: OptionSource = Mined(),  # noqa: B008 - settings only
    padding: OptionSource = RandomNames(),  # noqa: B008 - settings only
) -> Derived:
    """Canonicalise, merge votes, scope, rank, and cut to `rules.m`.

    Of photos to train on the label is made an option where it is none, names of held-out classes and of what the label
    belongs to are no options, and a lone option gets another one from `padding`. At test nothing of the label is looked
    at. Which photos are left out depends on their replies, not on the `source`: sources are compared on the same ones.
    Raises UserError for a source or a padding that needs the label at test.
    """
    for role, one in (("source", source), ("padding", padding)):
        if one.needs_label and not made.trains:
            raise UserError(
                f"options of {made.split} photos must not be found by their labels, as {type(one).__name__} does: take "
                f"Mined or RandomNames as the {role}, or the train split"
            )
    scope = rules.names(made)
    within = sorted(set(classes.names) if scope is None else scope.intersection(classes.names))
    known = replace(classes, names=tuple(within))
    counts = confusions(made, photos) if made.trains else {}
    deriving = _Deriving(made, rules, scope, source.bind(known, counts), padding.bind(known, counts), known)
    choices: list[Choice] = []
    reasons: dict[str, Reason] = {}
    for photo in photos:
        found = deriving.choice(photo)
        if isinstance(found, Choice):
            choices.append(found)
        else:
            reasons[photo.uid] = found
    _refuse_leaks(made, choices)
    dropped = Counter(reasons.values())
    return Derived(tuple(choices), {reason: dropped[reason] for reason in WHY}, reasons)


@dataclass(frozen=True)
class _Deriving:
    made: Made
    rules: Rules
    scope: Collection[str] | None
    source: OptionSource
    padding: OptionSource
    classes: Classes

    def choice(self, photo: Sampled) -> Choice | Reason:
        if photo.refused:
            return "refused"
        votes = tally(photo.replies, self.made.names, self.scope)
        if self.made.trains and self.made.names.find(photo.label) != photo.label:
            return "label of another class"
        if self.made.trains and photo.label in self.made.held_out:
            return "label held out"
        if not votes.ranked:
            return "no reply parsed" if votes.dropped["unparsed"] == votes.replies else "no name in scope"
        if self.made.trains and not self.rules.keep_easy and _easy(votes, photo.label):
            return "easy"
        return self._options(Asked(photo.uid, photo.label if self.made.trains else "", votes))

    def _options(self, asked: Asked) -> Choice | Reason:
        # what the label rules out must not leave a gap, so more is asked for than is wanted
        offered = self.source.offered(asked, len(self.classes.names) + len(asked.votes.ranked))
        votes = {one.name: one.votes for one in asked.votes.ranked}
        ranked = [Ranked(name, votes.get(name, 0), 0.0) for name in offered if self._may_stand(name, asked.label)]
        names = cut(ranked, self.rules.m, asked.label or None)
        first = {one.name for one in ranked[: self.rules.m]}
        origins: list[Origin] = ["offered" if name in first else "truth" for name in names]
        if len(names) < 2:
            more = [
                name
                for name in self.padding.offered(asked, len(self.classes.names))
                if name not in names and name != asked.label and self._may_stand(name, asked.label)
            ][: 2 - len(names)]
            names += more
            origins.extend("padded" for _ in more)
        if len(names) < 2:
            return "one option"
        return Choice(asked.uid, asked.label, tuple(names), tuple(votes.get(name, 0) for name in names), tuple(origins))

    def _may_stand(self, name: str, label: str) -> bool:
        """In training: no held-out class, and nothing that holds of the label too, but the label itself."""
        if not self.made.trains or name == label:
            return True
        if name in self.made.held_out:
            return False
        return name not in self.classes.taxonomy.lineage or self.classes.differ(label, name)


def _easy(votes: Tally, label: str) -> bool:
    return votes.unanimous and votes.ranked[0].name == label


def _refuse_leaks(made: Made, choices: Sequence[Choice]) -> None:
    if not made.trains:
        return
    for choice in choices:
        if leaked := sorted(made.held_out & {*choice.options}):
            raise RuntimeError(f"{choice.uid}: the held-out name {leaked[0]!r} must not enter training")
        if choice.options.count(choice.label) != 1:
            raise RuntimeError(
                f"{choice.uid}: its label must be an option exactly once, but options are {choice.options}"
            )


def write_options(path: Path, made: Made, rules: Rules, derived: Derived) -> None:
    """A line that says what they are made of, then one for each choice, in the order of the store."""
    of = {name: getattr(made, name) for name in ("dataset", "data", "model", "prompt", "split")}
    head = {"format": FORMAT, **of, "rules": asdict(rules), "dropped": dict(derived.dropped)}
    lines = [head, *map(asdict, derived.choices)]
    write_whole(path, b"".join(map(sealed_line, lines)))


def read_options(path: Path) -> tuple[dict[str, Any], dict[str, Choice]]:
    """What a file of options says of itself, and the choices by uid. Raises UserError for what is no such file.

    A file that is not there is none either.
    """
    try:
        with Path(path).open("rb") as file:
            head, *rows = map(unsealed_line, file)
        if "made" in head:
            raise ValueError("it holds replies: the options made of them are in an options.jsonl")
        if head.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        choices = [
            Choice(row["uid"], row["label"], tuple(row["options"]), tuple(row["votes"]), tuple(row["origins"]))
            for row in rows
        ]
    except OSError as error:
        raise UserError(
            f"{path} must be a file of options, but it cannot be read ({error.strerror or error}): mine it with "
            "`python -m fgvr mine`, which writes it into the folder that --out names"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} must be options as `python -m fgvr mine` writes them, but it is not ({error}): run that line again"
        ) from error
    return head, {choice.uid: choice for choice in choices}
