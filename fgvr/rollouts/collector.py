"""From prompts to what an update learns from: sample, parse, score, compare, filter, refill, weigh.

Shape legend: B groups, G completions of a group, N target tokens of one micro-batch.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from fgvr.data.collate import without_negatives
from fgvr.data.tasks import Task
from fgvr.errors import UserError
from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import unsharded
from fgvr.objectives import Advantage, GroupFilter, group_advantages, informative
from fgvr.ranks import Ranks
from fgvr.rewards import AnsweredGroup, Scores, WeightedSum
from fgvr.rollouts.engine import RolloutEngine
from fgvr.rollouts.figures import Found, figures_of
from fgvr.rollouts.scoring import Scoring, covered
from fgvr.rollouts.updates import Place, UpdatePlan, updates_of
from fgvr.shards.order import key_of
from fgvr.types import Overlap, PromptBatch, Role, RolloutBatch, RolloutGroup, ScoredGroup, UpdateBatch
from fgvr.watchdog.beats import SAMPLING, SCORING, beat

BARREN = 20  # batches in a row without a completion to learn from, after which a run stops
ENOUGH = 16  # examples of which one at least must have a partner, where partners are wanted
NAMED = 5  # groups that one warning names

log = logging.getLogger(__name__)


class BrokenOff(Exception):
    """A batch was not sampled to its end, because the run is to end."""


@dataclass
class Collector:
    """Turns batches of prompts into rollout batches. Runs without a Trainer.

    `reward` and `task` are bound to the taxonomy. With a `group_filter` only informative groups are kept, and further
    batches refill the first until there are `groups` of them over all ranks (DAPO's dynamic sampling, arXiv 2503.14476,
    section 3.2); what goes beyond is left out and counted. After `max_tries` batches an update makes do with what there
    is. `seed` decides, with the epoch and a prompt's place in it, what is sampled. The run stops when more than the
    share `max_unscorable` of an update's groups lack every reward.

    Where `breaks_off` says so between two groups, on one rank, what was sampled of the batch is dropped on all of them.

    Raises UserError when no group of `max_tries` batches was informative, when too many could not be scored, and when
    `BARREN` batches in a row left nothing to learn from.
    """

    engine: RolloutEngine
    task: Task
    reward: WeightedSum
    sampling: Sampling
    advantage: Advantage
    plan: UpdatePlan
    groups: int
    group_filter: GroupFilter | None = None
    seed: int = 0
    max_unscorable: float = 0.1
    ranks: Ranks = field(default_factory=Ranks)
    breaks_off: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._barren = self._idle = 0
        self._partnered = Counter[Role]()  # examples seen, by the partners that they had
        self._told = False
        self._scoring = Scoring(self.task, self.reward)
        self._begin()

    def _begin(self) -> None:
        self._kept: list[tuple[Place, ScoredGroup]] = []
        self._found = Found(wanted=self._wanted)
        self._seconds = {"sample": 0.0, "score": 0.0, "sync": 0.0}
        self._asked = self._beside = 0.0

    def add(self, policy: Policy, batch: PromptBatch) -> RolloutBatch:
        """Samples one batch. Without updates in what is returned, another batch is needed before there is one.

        A collective call: every rank brings its share of the global batch, which may be empty. Raises BrokenOff.
        """
        self._refuse_without_partners(batch)
        with unsharded(policy):
            sampled_all = self.ranks.agree(lambda: self._sample(policy, batch))
        if not all(self.ranks.gather([sampled_all])):
            self._scoring.drop()
            raise BrokenOff
        sampled = time.perf_counter()
        beat(SCORING)
        with self._timed("score"):
            scored = self._score()
            kept = self._sort_out(scored)
        self._asked += covered(self._scoring.spans)
        self._beside += covered(self._scoring.spans, until=sampled)
        self._kept += [((self._found.tries, group.rollout.place), group) for group in kept]
        self._found.tries += 1
        (have,) = self.ranks.total([len(self._kept)])
        self._refuse_if_unscorable()
        if self._must_refill(int(have)):
            return RolloutBatch(scored, [], {}, dict(self._seconds), self._overlap, scored)
        return self._finish(policy, scored)

    def _sample(self, policy: Policy, batch: PromptBatch) -> bool:
        """Whether the whole of this rank's share was sampled."""
        if self.plan.negatives is None:
            batch = without_negatives(batch)
        beat(SAMPLING)
        with self._timed("sync"):
            self.engine.sync(policy)
        seeds = [self._seed(batch, row) for row in range(len(batch.roles))]
        try:
            with self._timed("sample"):
                for group in self.engine.stream(policy, batch, self.sampling, seeds):
                    beat(SAMPLING)
                    self._scoring.add(group, batch.record.epoch)
                    if self.breaks_off():
                        return False
        except BaseException:
            self._scoring.drop()
            raise
        return True

    def _seed(self, batch: PromptBatch, row: int) -> int:
        """Of one prompt: an example's own is drawn for as if it had no partners."""
        place, role = batch.places[batch.owners[row]], batch.roles[row]
        return key_of(self.seed, "rollout", batch.record.epoch, place, *([] if role == "anchor" else [role]))

    def _finish(self, policy: Policy, sampled: list[ScoredGroup]) -> RolloutBatch:
        wanted = self._first_wanted()
        self._found.surplus = len(self._kept) - len(wanted)
        groups = [group for _, group in wanted]
        figures = figures_of(self._found, groups, self.ranks.gather)
        padded = policy.prefix_backend != "varlen"
        updates = updates_of(wanted, self.plan, self.ranks, policy.processor.padding_token, padded)
        self._watch_for_nothing(updates)
        seconds, overlap = dict(self._seconds), self._overlap
        self._begin()
        return RolloutBatch(groups, updates, figures, seconds, overlap, sampled)

    @property
    def _overlap(self) -> Overlap:
        return Overlap(self._asked, self._beside)

    def close(self) -> None:
        """Ends the threads that score, and lets go of what the rewards hold open."""
        self.reward.release()  # so that no thread waits for a server that is slow to answer
        self._scoring.close()

    def _must_refill(self, have: int) -> bool:
        if self.group_filter is None or have >= self.groups:
            return False
        if self._found.tries < self.group_filter.max_tries:
            return True
        if have == 0:
            raise UserError(
                f"some group must have a mean {self.group_filter.score!r} strictly between {self.group_filter.low} and "
                f"{self.group_filter.high}, but none of {self._found.tries} batches in a row had one: the task is too "
                "hard or too easy for this model, or the reward is broken; look at rollouts.jsonl, or widen the filter"
            )
        log.warning(
            "only %d of %d groups were informative in %d batches: this update makes do with them",
            have, self.groups, self._found.tries,
        )  # fmt: skip
        return False

    def _first_wanted(self) -> list[tuple[Place, ScoredGroup]]:
        """This rank's part of the first groups over all ranks, by batch and place."""
        if self.group_filter is None:
            return self._kept
        wanted = set(sorted(self.ranks.gather([place for place, _ in self._kept]))[: self.groups])
        return [(place, group) for place, group in self._kept if place in wanted]

    def _score(self) -> list[ScoredGroup]:
        groups, answered, scores = self.ranks.agree(self._scoring.scores)
        self._found.tally.update(self.reward.tally())
        if scores is None:
            return []
        self._found.faulty += scores.faulty
        return [
            self._scored(group, said, scores, n) for n, (group, said) in enumerate(zip(groups, answered, strict=True))
        ]

    def _scored(self, group: RolloutGroup, said: AnsweredGroup, scores: Scores, number: int) -> ScoredGroup:
        """A completion without a single token has nothing to learn from: it leaves the group and its baseline."""
        components = {name: values[number] for name, values in scores.components.items()}
        rewards, own = scores.totals[number], scores.own_advantages[number]
        empty = torch.tensor([length == 0 for length in said.lengths])
        if bool(empty.any()):
            self._found.empty += int(empty.sum())
            uid = group.example.uid
            log.warning("%d completions of %s have not a single token and are left out", int(empty.sum()), uid)
            components = {name: values.masked_fill(empty, torch.nan) for name, values in components.items()}
            rewards, own = rewards.masked_fill(empty, torch.nan), own.masked_fill(empty, 0.0)
        advantages = self._advantages(rewards) + own
        return ScoredGroup(group, said.answers, components, rewards, advantages, tuple(said.verdicts))

    def _advantages(self, rewards: Tensor) -> Tensor:
        options = {"baseline": self.advantage.baseline, "scale": self.advantage.scale, "eps": self.advantage.eps}
        return group_advantages(rewards[None], **options)[0]  # pyright: ignore[reportArgumentType]

    def _sort_out(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        """Counts every group, and keeps those that can be learned from."""
        kept: list[ScoredGroup] = []
        unscorable: list[str] = []
        before = self._found.cut_off
        for group in groups:
            self._found.count(group)
            if bool(group.rewards.isnan().all()) and any(answer is not None for answer in group.answers):
                unscorable.append(group.rollout.example.uid)
            elif not self._is_informative(group):
                self._found.uninformative += 1
            else:
                kept.append(group)
        self._found.unscorable += len(unscorable)
        if unscorable:
            named = ", ".join(unscorable[:NAMED]) + (", …" if len(unscorable) > NAMED else "")
            log.warning(
                "no completion of %d of %d groups could be scored, so they are dropped: %s",
                len(unscorable), len(groups), named,
            )  # fmt: skip
        if self._found.cut_off > before and not self._told:
            self._told = True
            log.warning(
                "in %d groups every completion was cut off at %d tokens: raise sampling.max_new_tokens; from here on "
                "such groups are counted as rollouts/cut_off",
                self._found.cut_off - before, self.sampling.max_new_tokens,
            )  # fmt: skip
        return kept

    def _is_informative(self, group: ScoredGroup) -> bool:
        rule = self.group_filter
        if rule is None:
            return True
        if rule.score not in group.components:
            raise UserError(
                f"the group filter's score must be a component of the reward, {sorted(group.components)}, got "
                f"{rule.score!r}"
            )
        scores = group.components[rule.score]
        # a completion that is not compared may still have an advantage of its own
        apart = bool((group.advantages[scores.isnan()] != 0).any())
        return apart or bool(informative(scores[None], rule.low, rule.high))

    def _refuse_if_unscorable(self) -> None:
        lost, groups = self.ranks.total([self._found.unscorable, self._found.groups])
        if lost > self.max_unscorable * groups:
            raise UserError(
                f"at most {self.max_unscorable:.0%} of the groups may go without any reward, but {lost:.0f} of "
                f"{groups:.0f} did: mend what the log says of them (a server that is gone must be back; replies "
                "outside the options earn nothing where DiVEk's outside is null: set it to 0, or max_unscorable to 1), "
                "and the same command goes on from the last checkpoint"
            )

    @property
    def _wanted(self) -> tuple[Role, ...]:
        """The partners that an example must have to be learned from in full."""
        wanted: dict[Role, bool] = {
            "positive": self.sampling.positives > 0,
            "negative": self.plan.negatives is not None,
        }
        return tuple(role for role, is_wanted in wanted.items() if is_wanted)

    def _refuse_without_partners(self, batch: PromptBatch) -> None:
        """Some examples may lack a partner; where none of the first has one, the data are no triplets."""
        if not self._wanted or self._partnered["anchor"] >= ENOUGH:
            return
        counts = self.ranks.total([batch.roles.count(role) for role in get_args(Role)])
        self._partnered.update(dict(zip(get_args(Role), map(int, counts), strict=True)))
        seen = self._partnered["anchor"]
        for role in self._wanted:
            if seen >= ENOUGH and not self._partnered[role]:
                setting = {"positive": "sampling.positives to 0", "negative": "triplet.gamma and triplet.eta2 to 0"}
                raise UserError(
                    f"examples must come with a {role} to be learned from beside them, but none of the first {seen} "
                    f"has one: use fgvr.datamodules.TripletData, or set {setting[role]}"
                )

    def _watch_for_nothing(self, updates: Sequence[UpdateBatch]) -> None:
        """Speaks up when `BARREN` batches in a row made no update, or only updates without anything to learn."""
        (rows,) = self.ranks.total([sum(len(update.micro_batches) for update in updates)])
        self._barren = 0 if updates else self._barren + 1
        self._idle = 0 if rows or not updates else self._idle + 1
        if self._barren >= BARREN:
            raise UserError(
                f"completions must be learned from, but none of the last {BARREN} batches left any: all of them were "
                "cut off, could not be scored, or their prompts could not be used; raise sampling.max_new_tokens, or "
                "see the log"
            )
        if self._idle == BARREN:
            self._idle = 0
            log.warning("the last %d updates taught nothing: in each group all completions earned the same", BARREN)

    @property
    def waiting(self) -> int:
        """Groups kept for an update that has not come yet."""
        return len(self._kept)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - began


def collect(collector: Collector, policy: Policy, batches: Iterable[PromptBatch]) -> RolloutBatch:
    """Takes batches until there is an update to make. Raises UserError when they run out before that."""
    for batch in batches:
        rollouts = collector.add(policy, batch)
        if rollouts.updates:
            return rollouts
    raise UserError("the prompts ran out before enough groups were informative: give more, or widen the group filter")
