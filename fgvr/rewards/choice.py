"""What a choice among the options shown is worth."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Self

from fgvr.data.choosing import LETTERS, NONE
from fgvr.data.closed_world import right_option
from fgvr.errors import UserError
from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.taxonomy.tree import Taxonomy


class Choice(Reward):
    """1 for the one right option (DiVE-k, arXiv 2511.18305), `none_of_these` for passing over a label shown, else 0.

    `outside` is what a well-formed reply earns that chooses none of the options. None gives it no reward and no part in
    its group: a name that is never offered in training, because its class is held out, is then not unlearned as a wrong
    answer.

    It goes by what `ClosedWorld.parse` has read, as evaluation does: there is no second parser. Where the label was
    left out, "none of these" is the right option. Of the groups scored it counts how many showed so many options
    ("options/4"), the place of the right one ("right_option/A") and of those chosen ("chosen_option/A", "…/none" for a
    reply that chose none), whether the label was among them where "none of these" was ("label/shown"), and of the
    options given with a photo the share that was left out since their classes are held out of training
    ("given_options/held_out"). Raises UserError for examples without options shown, and unless 0 <= none_of_these < 1
    and outside is below 1.
    """

    def __init__(self, none_of_these: float = 0.0, outside: float | None = 0.0) -> None:
        if not 0 <= none_of_these < 1:
            raise UserError(
                f"none_of_these is less than a right choice earns, so from 0 to below 1, got {none_of_these}"
            )
        if outside is not None and not outside < 1:
            raise UserError(f"outside is less than a right choice earns, so below 1, or null, got {outside}")
        self.none_of_these, self.outside = none_of_these, outside
        self._counts: Counter[str] = Counter()

    def bind(self, taxonomy: Taxonomy) -> Self:
        bound = copy.copy(self)
        bound._counts = Counter()
        return bound

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [self._of(group) for group in groups]

    def tally(self) -> dict[str, int]:
        counts, self._counts = self._counts, Counter()
        return dict(counts)

    def _of(self, group: AnsweredGroup) -> list[float | None]:
        shown: tuple[str, ...] = tuple(group.example.extra.get("shown", ()))
        if not shown:
            raise UserError(
                f"a choice is scored by the options shown, and {group.example.uid} was shown none: let "
                "data.init_args.train_task be fgvr.data.ClosedWorld"
            )
        right = right_option(shown, group.example.label)
        said = [None if answer is None else answer.text for answer in group.answers]
        self._counts[f"options/{len(shown)}"] += 1
        if NONE in shown:
            self._counts[f"label/{'left_out' if right == NONE else 'shown'}"] += 1
        if "held_out" in group.example.extra:
            left_out = int(group.example.extra["held_out"])
            self._counts["given_options/held_out"] += left_out
            self._counts["given_options/kept"] += len(group.example.extra.get("options", ())) - left_out
        self._counts[f"right_option/{LETTERS[shown.index(right)]}"] += 1
        for text in said:
            self._counts[f"chosen_option/{LETTERS[shown.index(text)] if text in shown else 'none'}"] += 1
        return [self._worth(text, right, shown) for text in said]

    def _worth(self, text: str | None, right: str, shown: Sequence[str]) -> float | None:
        if text == right:
            return 1.0
        if text is not None and text not in shown:
            return self.outside
        return self.none_of_these if text == NONE else 0.0
