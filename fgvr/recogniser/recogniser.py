"""A model that names photos: replies are sampled, voted on, perhaps chosen among, and summed up the taxonomy."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, overload

import torch
from PIL import Image

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import PromptCollate
from fgvr.errors import SampleError, UserError, refuse_below, refuse_no_share
from fgvr.models import Policy
from fgvr.recogniser.calibration import AGAIN, Calibration, Mode
from fgvr.recogniser.carried import Carried
from fgvr.recogniser.given import Given, Photo, Several, all_given, content_of
from fgvr.recogniser.recognition import Recognition, recognised, unusable
from fgvr.recogniser.restricted import restricted
from fgvr.recogniser.ways import How, Ways, refuse_unfit
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.rollouts.two_step import Decision, read_reply, two_step, voted
from fgvr.shards.order import key_of
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import EncodedPrompt, Example, ReadRecord

AT_ONCE = 16  # photos that are read while as many others are answered


class Recogniser:
    """What `fgvr.load` gives. `calibrations` are its thresholds by mode, `folder` is where they are kept.

    A photo's answer depends on its pixels, the weights and the settings alone: not on its name, nor on what stands
    beside it (on a GPU rounding may part two answers that are all but equal). `evaluated` are the shard sets that its
    run was evaluated on. The policy is for this alone from now on: it is no more trained.
    """

    def __init__(
        self,
        policy: Policy,
        carried: Carried,
        calibrations: Mapping[Mode, Calibration] | None = None,
        folder: Path | None = None,
        engine: RolloutEngine | None = None,
        evaluated: Sequence[Path] = (),
    ) -> None:
        self.carried, self.folder, self.evaluated = carried, folder, tuple(evaluated)
        self.calibrations = dict(calibrations or {})
        self.engine = engine or InProcess()
        self.taxonomy: Taxonomy = carried.names()
        self.task = carried.asks().bind(self.taxonomy).opened(policy.processor.opening)
        self.policy = policy.requires_grad_(False).eval()
        self.policy.weights_stay(True)

    @cached_property
    def names(self) -> Names:
        return Names(self.taxonomy)

    @cached_property
    def choice(self) -> ClosedWorld:
        """What asks in the second of two steps."""
        return self.carried.chooses(self.task).bind(self.taxonomy).opened(self.policy.processor.opening)

    @property
    def ranks(self) -> tuple[str, ...]:
        """Of the taxonomy, from coarse to fine."""
        return self.taxonomy.ranks

    @overload
    def predict(self, photos: Image.Image, **ways: Unpack[Ways]) -> Recognition: ...

    @overload
    def predict(self, photos: Sequence[Photo], **ways: Unpack[Ways]) -> list[Recognition]: ...

    @overload
    def predict(self, photos: Photo | Iterable[Photo], **ways: Unpack[Ways]) -> Any: ...

    def predict(self, photos: Photo | Iterable[Photo], **ways: Unpack[Ways]) -> Recognition | list[Recognition]:
        """One photo's `Recognition`, or a list of them for a folder, an array of several photos or a sequence.

        A photo is a path, a PIL image, an array of uint8 [height, width, 3], or the bytes of a file. One that cannot
        be used has its `Recognition` too, whose `error` says why. What `ways` can say stands in `Ways`.
        """
        several = all_given(photos)
        found = [recognition for recognition, _ in self._each(several, self.how(**ways))]
        return found[0] if several.single else found

    def each(
        self, photos: Photo | Iterable[Photo] | Several, **ways: Unpack[Ways]
    ) -> Iterator[tuple[Recognition, Image.Image | None]]:
        """Each photo's `Recognition` as soon as it is there, in order, with the photo itself, None where unusable."""
        several = photos if isinstance(photos, Several) else all_given(photos)
        yield from self._each(several, self.how(**ways))

    def how(self, **ways: Unpack[Ways]) -> How:
        """The settings, checked. Raises UserError for what does not go together, and for thresholds there are not."""
        refuse_unfit(ways)
        refuse_below(2, "predict", samples=ways.get("samples"))
        if (heat := ways.get("temperature")) is not None and not 0 < heat < math.inf:
            raise UserError(
                f"predict.temperature must be above 0, as replies are drawn, got {heat}: 0.1 is nearly greedy"
            )
        two_step, risk, threshold = ways.get("two_step", False), ways.get("risk"), ways.get("threshold")
        shares = {"risk": risk, "threshold": threshold}
        if risk is not None and threshold is not None:
            raise UserError("a risk chooses the threshold: give one of risk and threshold, not both")
        refuse_no_share("predict", **{name: one for name, one in shares.items() if one is not None})
        kept = self.calibrations.get("two_step" if two_step else "vote")
        drawn = {name: ways.get(name) for name in ("samples", "temperature", "seed")}
        asked = {name: value for name, value in drawn.items() if value is not None}
        plan = replace(self.carried.steps(), **asked)
        if threshold is None and (ways.get("abstain", False) or risk is not None):
            calibrated = self._calibrated(kept, two_step, asked)
            threshold = calibrated.chosen(risk).threshold
            plan = replace(plan, **{name: getattr(calibrated, name) for name in drawn})
        among = restricted(self.taxonomy, ways.get("classes"), ways.get("within"), ways.get("open_world", False))
        return How(plan, two_step, among, threshold)

    def _calibrated(self, kept: Calibration | None, two_step: bool, asked: Mapping[str, Any]) -> Calibration:
        """The thresholds of this mode. Raises UserError when there are none, or they are of something else."""
        again = f"{AGAIN.replace('MODEL', str(self.folder or 'MODEL'))}{' --two_step true' * two_step}"
        if kept is None:
            raise UserError(
                f"abstaining needs thresholds, and none were calibrated for {'two steps' if two_step else 'the vote'}: "
                f"make them with {again}, or give a threshold of your own"
            )
        if kept.checkpoint != self.carried.checkpoint:
            raise UserError(
                "the thresholds must be those of these weights, but they were calibrated for another checkpoint: make "
                f"them anew with {again}"
            )
        others = [name for name, value in asked.items() if getattr(kept, name) != value]
        if others:
            name = others[0]
            raise UserError(
                f"the thresholds are of {name} {getattr(kept, name)}, got {asked[name]}: leave {name} out, or "
                f"calibrate with it ({again} --{name} {asked[name]})"
            )
        return kept

    def _each(self, several: Several, how: How) -> Iterator[tuple[Recognition, Image.Image | None]]:
        chunks = [several.photos[start : start + AT_ONCE] for start in range(0, len(several), AT_ONCE)]
        with ThreadPoolExecutor(1) as reader:  # one: Pillow's warnings are filtered for the whole process
            ahead = reader.submit(self._read, chunks[0], how)
            for following in [*chunks[1:], None]:
                read = ahead.result()
                if following is not None:
                    ahead = reader.submit(self._read, following, how)
                yield from self._answered(read, how)

    def _read(self, photos: Sequence[Given], how: How) -> list[_Asked | Recognition]:
        found: list[_Asked | Recognition] = []
        for given in photos:
            try:
                photo = given.load()
                uid = content_of(photo)
                rng = random.Random(key_of(how.plan.seed, "predict", uid))
                example = self.task.prepare(Example(uid, (b"",), "", (), "predict", "", self.carried.dataset), rng)
                prompt = self.policy.processor.encode_prompt(self.task.messages(example, rng), [photo])
                found.append(_Asked(given.name, photo, example, prompt))
            except SampleError as error:
                found.append(unusable(given.name, str(error)))
        return found

    def _answered(
        self, read: Sequence[_Asked | Recognition], how: How
    ) -> Iterator[tuple[Recognition, Image.Image | None]]:
        decisions = iter(self._decisions([one for one in read if isinstance(one, _Asked)], how))
        for one in read:
            if isinstance(one, _Asked):
                yield recognised(one.name, next(decisions), self.names, how.restricted, how.threshold), one.photo
            else:
                yield one, None

    @torch.no_grad()
    def _decisions(self, asked: Sequence[_Asked], how: How) -> list[Decision]:
        if not asked:
            return []
        policy, processor, plan, longest = self.policy, self.policy.processor, how.plan, self.carried.max_new_tokens
        record = ReadRecord(0, 0, tuple(range(len(asked))), tuple(one.example.uid for one in asked))
        collate = PromptCollate(processor.padding_token, processor.image_token)
        device = next(policy.parameters()).device
        batch = collate([(one.example, one.prompt) for one in asked], record).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            if how.two_step:
                scope = (
                    how.restricted.options & self.taxonomy.paths.keys() if how.restricted.scope is not None else None
                )
                return two_step(policy, batch, self.task, self.choice, plan, longest, scope)
            seeds = [key_of(plan.seed, "two steps", one.example.uid) for one in asked]
            groups = self.engine.sample(policy, batch, plan.sampling(longest), seeds)
        return [self._vote(one.example, group.completions, how) for one, group in zip(asked, groups, strict=True)]

    def _vote(self, example: Example, completions: Sequence[Any], how: How) -> Decision:
        replies = [read_reply(self.task, example, one.text, one.logprobs) for one in completions]
        counted = [how.restricted.counted(reply, self.names) for reply in replies]
        return voted(example, counted, self.names, how.plan, how.restricted.scope)


@dataclass(frozen=True)
class _Asked:
    """A photo with what is asked about it."""

    name: str
    photo: Image.Image
    example: Example
    prompt: EncodedPrompt
