"""The judge that asks a language model behind any OpenAI-compatible server, and trusts neither it nor the answers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, get_args

from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.caches.base import VerdictCache
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.screen import screen
from fgvr.judges.served.asking import Asker
from fgvr.judges.served.call import Call, Claims, Found, as_judgement
from fgvr.judges.served.canaries import LABELS, THINGS
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.probe import KINDS, Constrain, probe
from fgvr.judges.served.prompt import LONGEST, Constraint, Decoding, Prompt, clean
from fgvr.judges.served.quoting import quoted
from fgvr.judges.served.server import Server
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

log = logging.getLogger(__name__)

NAMED = 5  # failures that one warning spells out
COUNTED = ("pairs", "screened", "repeats", "cached", "requests", "retries", "unjudged", "canaries", "canaries_passed")

Pair = tuple[str, str]
Settled = tuple[dict[Pair, str], dict[str, Found]]  # the key of each pair, and what was found by key


class LLMJudge(Judge):
    """Verdicts of a language model on label and answer, each asked for once and kept in `cache`.

    What needs no model is settled by `screen`. The server is held to the six verdicts where it can be (`constrain:
    auto` finds out how), and every reply is read strictly anyway. Among the questions ride known-wrong ones; verdicts
    are believed, and cached, only with those of their batch back, and UserError stops a judge that finds more than one
    in twenty of them right.

    `model` is the name under which the server has it, `revision` names its weights (a cached verdict is reused for the
    same revision only); `cache` is SQLiteCache() where none is given. With `offline` nothing is asked: what is not
    cached is Unjudged. `max_tokens` is for one reply, thoughts included. `temperature` and `seed` are as the server
    takes them, null where they are not to be sent.
    """

    remote = True

    def __init__(
        self,
        model: str,
        server: Server = Server(),  # noqa: B008 - frozen
        revision: str = "",
        constrain: Constrain = "auto",
        cache: VerdictCache | None = None,
        offline: bool = False,
        max_tokens: int = 32,
        temperature: float | None = 0.0,
        seed: int | None = None,
    ) -> None:
        if not model.strip():
            raise UserError("judge.model must be the name of the model that the server serves, got nothing")
        if constrain not in get_args(Constrain):
            raise UserError(f"judge.constrain must be one of {', '.join(get_args(Constrain))}, got {constrain!r}")
        if max_tokens < 8:
            raise UserError(f"judge.max_tokens must be at least 8, so that a verdict has room, got {max_tokens}")
        if temperature is not None and not 0 <= temperature < math.inf:
            raise UserError(f"judge.temperature must be at least 0, or null for the server's own, got {temperature}")
        self.model, self.server, self.revision = model, server, revision
        self.constrain: Constrain = constrain
        self.cache, self.offline = cache or SQLiteCache(), offline
        self._wished = Decoding(max_tokens=max_tokens, temperature=temperature, seed=seed)
        self._taxonomy: Taxonomy | None = None
        self._set_up()

    def _set_up(self) -> None:
        self._names = Names(self._taxonomy) if self._taxonomy is not None else None
        self._prompts: list[Prompt] = []
        self._shared = _Shared(self.server, self.model)

    def __getstate__(self) -> dict[str, Any]:
        """What was given; connections, counts and the key, which a connection holds, stay behind."""
        return {name: value for name, value in vars(self).items() if name not in ("_shared", "_prompts", "_names")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up()

    def bind(self, taxonomy: Taxonomy) -> LLMJudge:
        """A judge that knows the names of the classes; connections, counts and cache are shared with this one."""
        bound = LLMJudge.__new__(type(self))
        vars(bound).update(vars(self))
        bound._taxonomy, bound._names, bound._prompts = taxonomy, Names(taxonomy), []
        return bound

    def check(self) -> None:
        """Raises UserError when the server cannot be reached in time, lacks the model, or the model cannot judge."""
        if not self.offline:
            self._examine(anew=True)

    def tally(self) -> dict[str, int]:
        return self._shared.take()

    def release(self) -> None:
        self._shared.chat.close()
        self.cache.close()

    def verdicts(self, pairs: Sequence[Pair]) -> list[Found]:
        """One entry per pair, in order. Raises UserError for a wrong set-up and for a judge that cannot judge."""
        if not pairs:
            return []
        ways, numbers = self._ways(), Counter(pairs)
        settled: dict[Pair, Found] = {}
        left = self._left_over(numbers, settled)
        keys, found = self._replayed(ways, left) if self.offline else self._asked(ways[0], left)
        settled |= {pair: found[key] for pair, key in keys.items()}
        asked = sum(numbers[pair] for pair in keys)
        self._shared.count("judge/pairs", len(pairs))
        self._shared.count("judge/screened", len(pairs) - asked)
        self._shared.count("judge/repeats", asked - len(found))
        self._warn(settled, numbers)
        return [settled[pair] for pair in pairs]

    def _left_over(self, pairs: Iterable[Pair], settled: dict[Pair, Found]) -> Iterator[Pair]:
        """Settles the pairs that need no model, and gives the others."""
        for pair in pairs:
            label, answer = pair
            if (verdict := screen(label, answer, self._names)) is not None:
                settled[pair] = verdict
            elif len(clean(answer)) > LONGEST:
                settled[pair] = Judgement(Verdict.WRONG)
            else:
                yield pair

    def _asked(self, prompt: Prompt, pairs: Iterable[Pair]) -> Settled:
        shared, keys = self._shared, dict[Pair, str]()
        with Call(prompt, shared.asker, self.cache, shared.claims, shared.count) as call:
            for pair in pairs:
                question = prompt.question(*pair)
                keys[pair] = question.key
                call.add(question)
            return keys, call.finish()

    def _replayed(self, ways: Sequence[Prompt], pairs: Iterable[Pair]) -> Settled:
        """What the cache has under any of the ways in which it may have been asked."""
        questions = {pair: [prompt.question(*pair).key for prompt in ways] for pair in pairs}
        entries = self.cache.get([key for keys in questions.values() for key in keys])
        found: dict[str, Found] = {}
        for keys in questions.values():
            cached = next((entries[key] for key in keys if key in entries), None)
            found[keys[0]] = as_judgement(cached) if cached else Unjudged("not in the cache, and offline")
        self._shared.count("judge/cached", sum(isinstance(entry, Judgement) for entry in found.values()))
        return {pair: keys[0] for pair, keys in questions.items()}, found

    def _ways(self) -> list[Prompt]:
        """The one way of asking that the server allows; offline, where none is known, all there may have been."""
        if self.offline:
            kinds: list[Constraint] = [*KINDS, "none"] if self.constrain == "auto" else [self.constrain]
            ways = [
                replace(self._wished, constraint=kind, thinking_off=off) for kind, off in product(kinds, (True, False))
            ]
        else:
            ways = [self._shared.decoding or self._examine(anew=False)]
        if [prompt.decoding for prompt in self._prompts] != ways:
            self._prompts = [self._prompt(way) for way in ways]
        return self._prompts

    def _prompt(self, decoding: Decoding) -> Prompt:
        return Prompt(self.model, self.revision, decoding, self._taxonomy)

    def _examine(self, anew: bool) -> Decoding:
        """How the model is to be asked, once it has shown that it can judge; threads that meet here ask once."""
        shared, arrived = self._shared, time.monotonic()
        with shared.examining:
            if shared.decoding is not None and not anew:
                return shared.decoding
            if shared.failed is not None and shared.failed[0] > arrived:
                raise UserError(shared.failed[1])
            shared.decoding = None
            examination = shared.chat.run(self._examined)
            try:
                decoding = examination.result()
            except UserError as error:
                shared.failed = (time.monotonic(), str(error))
                raise
            finally:
                examination.cancel()
            shared.decoding, shared.failed = decoding, None
            return decoding

    async def _examined(self) -> Decoding:
        shared = self._shared
        decoding = await probe(shared.chat, self.model, self.constrain, self._wished)
        prompt = self._prompt(decoding)
        await shared.asker.examine(prompt)
        known = prompt.question(LABELS[0], THINGS[0])
        shared.chat.sound_with(partial(prompt.body, known), prompt.read)
        return decoding

    def _warn(self, settled: Mapping[Pair, Found], numbers: Mapping[Pair, int]) -> None:
        missing = {pair: entry for pair, entry in settled.items() if isinstance(entry, Unjudged)}
        self._shared.count("judge/unjudged", sum(numbers[pair] for pair in missing))
        untold = self._shared.untold({entry.outage for entry in missing.values()})
        news = [(pair, entry.reason) for pair, entry in missing.items() if entry.outage in untold]
        if news:
            named = [f"{quoted(answer)!r} for {quoted(label)!r} ({reason})" for (label, answer), reason in news[:NAMED]]
            more = f"; and {len(missing) - len(named)} more" if len(missing) > len(named) else ""
            log.warning("%d of %d pairs could not be judged: %s%s", len(missing), len(numbers), "; ".join(named), more)


class _Shared:
    """What a judge and its bound copies have in common; none of it travels to another process."""

    def __init__(self, server: Server, model: str) -> None:
        self.chat = Chat(server, model, self.count)
        self.asker = Asker(self.chat, self.count)
        self.claims = Claims()
        self.examining = threading.Lock()
        self.decoding: Decoding | None = None  # how the model is asked, once it was examined
        self.failed: tuple[float, str] | None = None  # when the last examination failed, and why
        self._counts: Counter[str] = Counter()
        self._told: set[int] = set()
        self._lock = threading.Lock()

    def untold(self, outages: set[int]) -> set[int]:
        """Those of which this was not asked before, so that the log has a line for an outage, not for each call in it.

        0, which is none, is always among them.
        """
        with self._lock:
            new = outages - self._told
            self._told |= new - {0}
        return new

    def count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def take(self) -> dict[str, int]:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return {name: counts[name] for name in (f"judge/{each}" for each in COUNTED)}
