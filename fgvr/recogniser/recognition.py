"""What is said of one photo: an answer, what else was said, and how sure each rank of it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from fgvr.data.tasks import parse_completion
from fgvr.options.rolled_up import RankName, RolledUp, by_node, deepest, rank_of
from fgvr.options.votes import Reply, canonical, tally
from fgvr.recogniser.restricted import Restricted
from fgvr.rollouts.two_step import Decision
from fgvr.taxonomy.names import Names

By = Literal["vote", "choice", "abstain", "error"]


@dataclass(frozen=True)
class Candidate:
    """A name that replies gave: how many, as a share of all replies, and its path from the coarsest rank down to it.

    The path is empty for a name that the taxonomy lacks.
    """

    name: str
    votes: int
    share: float
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """What became of one photo.

    `answer` is None where the model abstained, nothing could be read in its replies, or the photo could not be used:
    `error` then says why. `confidence` belongs to the answer, from 0 to 1. `path` has a name and a confidence for each
    rank: of the answer and what stands above it, and with a threshold of what finer names are likeliest below it too.
    `reasoning` is what the likeliest reply that gave the answer thought before it. `candidates` account, with `dropped`
    (by reason), for all `replies`.
    """

    photo: str
    answer: str | None = None
    rank: str | None = None
    confidence: float = 0.0
    path: tuple[RankName, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    reasoning: str = ""
    by: By = "abstain"
    replies: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    error: str = ""

    def at(self, rank: str) -> RankName | None:
        """The name at a rank, and its confidence; None where the path has none there."""
        return next((one for one in self.path if one.rank == rank), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"dropped": dict(self.dropped)}

    def __str__(self) -> str:
        if self.error:
            return self.error if self.error.startswith(self.photo) else f"{self.photo}: {self.error}"
        if self.answer is None:
            path = " > ".join(f"{one.name} {one.confidence:.2f}" for one in self.path)
            return f"{self.photo}: no answer{f' ({path})' if path else ''}"
        rank = f"{self.rank}, " if self.rank else ""
        return f"{self.photo}: {self.answer} ({rank}{self.confidence:.2f})"


def unusable(photo: str, error: str) -> Recognition:
    """The row of a photo that could not be used."""
    return Recognition(photo, by="error", error=error)


def recognised(
    photo: str, decision: Decision, names: Names, restricted: Restricted, threshold: float | None = None
) -> Recognition:
    """What a decision comes to. With a `threshold` the answer is the finest name whose confidence reaches it.

    The confidence of a name is the share of all replies at or below it; of a name that was chosen in a second step it
    is the decision's own, which is never above that.
    """
    replies = [restricted.counted(reply, names) for reply in decision.replies]
    rolled = RolledUp(tally(replies, names, restricted.scope), names.taxonomy)
    votes, node = rolled.votes, decision.answer and restricted.stands_for.get(decision.answer, decision.answer)
    candidates = tuple(
        Candidate(one.name, one.votes, one.votes / votes.replies, names.taxonomy.lineage.get(one.name, ()))
        for one in votes.ranked
    )
    dropped = {str(reason): count for reason, count in votes.dropped.items()}
    found = Recognition(photo, candidates=candidates, replies=votes.replies, dropped=dropped)
    if node is None:
        return found
    asked = bool(decision.questions)  # in a second step
    share = next((one.share for one in candidates if one.name == node), 0.0)
    own = min(decision.confidence, rolled.shares.get(node, share)) if asked else None
    if threshold is None:
        path, confidence = rolled.path(node, own), share if own is None else own
        by: By = "choice" if decision.by == "choice" else "vote"
    else:
        likeliest = rolled.likeliest[-1] if rolled.likeliest else None
        path = rolled.path(node, own) if asked else rolled.path(likeliest)
        node = deepest(by_node(path), threshold)
        confidence = next((one.confidence for one in path if one.name == node), 0.0)
        by = "abstain" if node is None else "choice" if decision.by == "choice" else "vote"
    rank = rank_of(names.taxonomy, node) if node is not None else None
    thought = "" if node is None else _reasoning(node, decision, replies, names)
    return replace(found, answer=node, rank=rank, confidence=confidence, path=path, by=by, reasoning=thought)


def _reasoning(node: str, decision: Decision, replies: Sequence[Reply], names: Names) -> str:
    """The thought behind the choice, where that named this very node, else of the likeliest reply at or below it."""
    for question in decision.questions:
        said = parse_completion(question.reply) if question.chosen == node else None
        if said is not None and said.thought:
            return said.thought
    own = [one for one in replies if one.answer is not None and _stands_at(canonical(one.answer, names), node, names)]
    said = parse_completion(max(own, key=lambda one: one.logprob).text) if own else None
    return said.thought if said is not None else ""


def _stands_at(name: str | None, node: str, names: Names) -> bool:
    return name == node or (name is not None and node in names.taxonomy.lineage.get(name, ()))
