"""Prompts to be answered that have a positive and a negative beside them: Fine-R1's second stage."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from PIL import Image

from fgvr.data.collate import TripletEncode
from fgvr.data.images import open_image
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.partners import DrawnPartners, FrozenPartners, PartneredEncode, Pools, TrainSet
from fgvr.datamodules.prompts import PromptData
from fgvr.datamodules.rivals import Rivals
from fgvr.errors import UserError, refuse_below, refuse_no_share
from fgvr.ranks import of_all_ranks
from fgvr.shards.loading import Encode
from fgvr.shards.part import PartOfSet
from fgvr.shards.partners import lacking_partner
from fgvr.similarity import Classes, Siblings, Similarity
from fgvr.similarity.base import differ, some_photos
from fgvr.taxonomy.names import Names

log = logging.getLogger(__name__)


class TripletData(PromptData):
    """Prompts whose examples have partners: a positive of their class, a negative of a class that looks like it.

    With a `similarity` both are drawn anew each epoch among the photos to train on, of the same dataset: another
    picture of the class, and one of a class among the `k` most similar ones, `weighted` by their scores or each as
    likely. They belong to seed, epoch and place, not to workers or ranks. Which classes are similar is settled as an
    epoch begins. A `similarity` of None takes the partners that are frozen in the shards.

    An example without a positive (its class has no other picture) or without a negative (its class is like no other, or
    the frozen one is of its own class) does without; a share of more than `max_incomplete_share` of these ends the run,
    and so does a set in which all lack one. A sample is quarantined whose frozen partner cannot be read, or none of a
    few that are drawn. A picture under two labels is nobody's partner. The other options are `PromptData`'s. Raises
    UserError for a number out of its range, and for a measure whose folder or run is not there.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        *,
        similarity: Similarity | None = Siblings(),  # noqa: B008 - settings only
        k: int = 1,
        weighted: bool = False,
        max_incomplete_share: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(train, task, **options)
        refuse_below(1, "data", k=k)
        refuse_no_share("data", max_incomplete_share=max_incomplete_share)
        self.similarity, self.k, self.weighted = similarity, k, weighted
        self.max_incomplete_share = max_incomplete_share
        self.rivals = None if similarity is None else Rivals(similarity, k)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        if self.pools.two_labels:
            log.warning("%d pictures stand under two labels and are nobody's partner", self.pools.two_labels)
        if self.similarity is None:
            self._check_frozen()
            return
        if self.trainer is None or self.trainer.ckpt_path is None:  # a run that goes on may have all it needs
            self.similarity.check()
        rankings = None
        if not self.similarity.needs_photos:  # what takes longer waits until training begins
            rankings = {dataset: self.similarity.nearest(one, self.k) for dataset, one in self._classes().items()}
        self._check_drawn(rankings)

    @cached_property
    def pools(self) -> Pools:
        """What may be drawn."""
        return Pools.of(self.train_sets)

    @cached_property
    def frozen(self) -> FrozenPartners:
        """What may be kept of the partners in the shards."""
        return FrozenPartners.of(self.train_sets)

    def train_encode(self) -> Encode[Any]:
        encode = TripletEncode(self.processor, self.train_task, self.max_prompt_tokens)
        if self.rivals is None:
            return PartneredEncode(self.frozen, encode)
        drawn = DrawnPartners(tuple(self.train_sets), self.pools, self.rivals.rankings, self.weighted)
        return PartneredEncode(drawn, encode)

    def count_confusions(self, answers: Iterable[tuple[str, str, str]]) -> None:
        """Takes in wrong answers, as (dataset, label, answer); they count where they name a class to train on."""
        if self.rivals is not None and self.rivals.similarity.decay is not None:
            self.rivals.count(self._confusions(answers))

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if not state or self.rivals is None else {**state, "rivals": self.rivals.state_dict(of_all_ranks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.rivals is not None and "rivals" in state_dict:
            first = self.trainer is None or self.trainer.global_rank == 0
            self.rivals.load_state_dict(state_dict["rivals"], first)

    def fingerprint(self) -> dict[str, str]:
        measure = "frozen" if self.similarity is None else str([self.similarity.describe(), self.k, self.weighted])
        return {**super().fingerprint(), "triplets": measure}

    def _begin(self, epoch: int) -> None:
        """Settles an epoch's rankings; workers that draw by others end, and new ones begin."""
        super()._begin(epoch)
        if self.rivals is None or self.stream is None:
            return
        if self.rivals.begin(epoch, self._classes, of_all_ranks) and self.rivals.similarity.needs_photos:
            self._check_drawn(self.rivals.rankings)
        attach = getattr(self.stream.encode, "attach", None)
        if not isinstance(attach, DrawnPartners) or attach.rankings != self.rivals.rankings:
            self.stream.close()
            self.stream.encode = self.train_encode()

    def _classes(self) -> dict[str, Classes]:
        policy = getattr(self.trainer.lightning_module, "policy", None) if self.trainer is not None else None
        return {
            dataset: Classes(tuple(places), self.taxonomy, partial(self._photos_of, dataset), policy, self.seed)
            for dataset, places in sorted(self.pools.places.items())
        }

    def _photos_of(self, dataset: str, label: str, count: int) -> Sequence[Image.Image]:
        places = self.pools.places[dataset][label]

        def photo(choice: int) -> Image.Image:
            at, number = places[choice].tolist()
            example = self.train_sets[at].read(number)
            return open_image(example.images[0], example.uid)

        return some_photos(label, len(places), count, self.seed, photo)

    def _confusions(self, answers: Iterable[tuple[str, str, str]]) -> Iterable[tuple[str, str, str]]:
        names = self.task.names or Names(self.taxonomy)
        for dataset, label, answer in answers:
            found = names.find(answer)
            if found is None or found not in self.pools.places.get(dataset, {}):
                continue
            if differ(self.taxonomy, label, found):
                yield dataset, label, found

    def _check_drawn(self, rankings: Mapping[str, Mapping[str, Sequence[Any]]] | None) -> None:
        lacking = {"positive": Counter[str](), "negative": Counter[str]()}
        for dataset, samples in self.pools.samples.items():
            lacking["positive"].update(self.pools.alone[dataset])
            if rankings is not None:
                without = {label: n for label, n in samples.items() if not rankings[dataset].get(label)}
                lacking["negative"].update(without)
        total = sum(samples.total() for samples in self.pools.samples.values())
        advice = {
            "positive": "train on more than one photo of a class",
            "negative": "set data.init_args.similarity to a measure that knows more",
        }
        self._judge(lacking, total, advice)

    def _check_frozen(self) -> None:
        lacking, total = {"positive": Counter[str](), "negative": Counter[str]()}, 0
        for one in self.train_sets:
            left_out = _left_out(one)
            for entry in one.entries():
                roles, total = self.frozen.roles(one.dataset, entry), total + 1
                for role, classes in lacking.items():
                    classes[entry.label] += role not in roles
                if strange := left_out & {partner.uid for partner in entry.partners}:
                    raise UserError(
                        f"partners must be of the examples that are learned from, but {entry.key} has {min(strange)} "
                        "beside it, which data.train.examples or data.within leaves out: pack the set with k_shot or "
                        "within instead, or set data.init_args.similarity to draw partners"
                    )
        advice = (
            "give the source more of them (`python -m fgvr shards --triplets` freezes them where it "
            "has none of its own), or set data.init_args.similarity, such as fgvr.similarity.Siblings, to draw partners"
        )
        self._judge(lacking, total, dict.fromkeys(lacking, advice))

    def _judge(self, lacking: Mapping[str, Counter[str]], total: int, advice: Mapping[str, str]) -> None:
        """Says what is lacking. Raises UserError when all samples lack a partner, or too many one of the two."""
        for role, classes in lacking.items():
            if not (count := classes.total()):
                continue
            said = lacking_partner(role, classes, total)
            if count == total:
                raise UserError(f"{said}: {advice[role]}")
            if count > self.max_incomplete_share * total:
                raise UserError(
                    f"at most a share of {self.max_incomplete_share} may lack a partner, but {said}: {advice[role]}, "
                    "or raise data.init_args.max_incomplete_share"
                )
            log.warning("%s: they are trained on without it", said)


def _left_out(one: TrainSet) -> frozenset[str]:
    """The uids of a set's samples of which `examples` takes only others."""
    if not isinstance(one, PartOfSet):
        return frozenset()
    return frozenset(entry.key for entry in one.whole.entries()) - {entry.key for entry in one.entries()}
