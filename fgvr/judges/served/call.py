"""One call of a judge: each question from the cache, from the model, or from another thread that asks it already."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from typing import Self

from fgvr.errors import UserError
from fgvr.judges.base import Judgement, Unjudged
from fgvr.judges.caches.base import CacheEntry, VerdictCache
from fgvr.judges.served.asking import Asker
from fgvr.judges.served.prompt import Prompt, Question
from fgvr.judges.served.replies import Reply

BATCH = 40  # questions that are asked together, and believed together; two canaries ride with them
TURN = 5e-5  # seconds

Found = Judgement | Unjudged
Promise = Future[Judgement | Unjudged]


class Claims:
    """Which thread asks what, so that no two ask the same at once: the others wait for what the first one gets."""

    def __init__(self) -> None:
        self._promises: dict[str, Promise] = {}
        self._lock = threading.Lock()

    def claim(self, keys: Iterable[str]) -> tuple[dict[str, Promise], dict[str, Promise]]:
        """Promises to keep, for the keys that nobody asks, and those that other threads will keep."""
        mine: dict[str, Promise] = {}
        others: dict[str, Promise] = {}
        with self._lock:
            for key in keys:
                if key in self._promises:
                    others[key] = self._promises[key]
                else:
                    mine[key] = self._promises[key] = Promise()
        return mine, others

    def release(self, mine: dict[str, Promise], error: BaseException | None) -> None:
        """Gives the keys free. Who still waits for one gets the error, if it is the user's to mend, or Unjudged."""
        with self._lock:
            for key in mine:
                del self._promises[key]
        for promise in mine.values():
            if promise.done():
                continue
            if isinstance(error, UserError):
                promise.set_exception(UserError(str(error)))
            else:
                promise.set_result(Unjudged("another thread was asking for it, and was stopped"))


class Call:
    """Takes questions one by one, asks them in batches as they come, and waits for all at the end.

    To be used as a context: what was claimed is given free, whatever happens. A batch that is done is stored, and what
    is stored is what counts: the first verdict on a question stays. `count` is told of "judge/cached" and
    "judge/repeats".
    """

    def __init__(
        self, prompt: Prompt, asker: Asker, cache: VerdictCache, claims: Claims, count: Callable[[str, int], None]
    ) -> None:
        self.prompt, self.asker, self.cache, self.claims, self.count = prompt, asker, cache, claims, count
        self._new: dict[str, Question] = {}
        self._mine: dict[str, Promise] = {}
        self._others: dict[str, Promise] = {}
        self._to_ask: list[Question] = []
        self._under_way: dict[Future[list[Reply | Unjudged]], list[Question]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for future in self._under_way:
            future.cancel()
        self.claims.release(self._mine, error)

    def add(self, question: Question) -> None:
        if question.key in self._mine or question.key in self._others:
            return
        self._new[question.key] = question
        if len(self._new) == BATCH:
            self._look_up()
        if self._under_way:
            time.sleep(TURN)  # or the event loop, which gives the interpreter up to send, waits long to get it back

    def finish(self) -> dict[str, Found]:
        """What was found, by key. Raises UserError as `Asker.batch`, after what could be had has been stored."""
        self._look_up()
        self._ask(self._to_ask)
        error: Exception | None = None
        for done in as_completed(self._under_way):
            try:
                self._store(self._under_way[done], done.result())
            except (UserError, CancelledError) as caught:
                error = error or caught
                for future in self._under_way:
                    future.cancel()
        if error is not None:
            raise error
        return {key: promise.result() for key, promise in (self._mine | self._others).items()}

    def _look_up(self) -> None:
        mine, others = self.claims.claim(self._new)
        self._mine |= mine
        self._others |= others
        # only what is claimed is looked up: who had the claim before has stored it
        cached = self.cache.get(list(mine))
        for key, entry in cached.items():
            mine[key].set_result(as_judgement(entry))
        self.count("judge/cached", len(cached))
        self.count("judge/repeats", len(others))
        self._to_ask += [self._new[key] for key in mine if key not in cached]
        self._new = {}
        while len(self._to_ask) >= BATCH:
            self._ask(self._to_ask[:BATCH])
            self._to_ask = self._to_ask[BATCH:]

    def _ask(self, questions: list[Question]) -> None:
        if questions:
            self._under_way[self.asker.chat.run(self.asker.batch, self.prompt, questions)] = questions

    def _store(self, questions: Sequence[Question], replies: Sequence[Reply | Unjudged]) -> None:
        by, answered = self.prompt, list(zip(questions, replies, strict=True))
        entries = [
            CacheEntry(q.key, q.label, q.answer, r.verdict, r.distribution, by.model, by.revision, by.hash)
            for q, r in answered
            if isinstance(r, Reply)
        ]
        for key, entry in self.cache.put(entries).items():
            self._mine[key].set_result(as_judgement(entry))
        for question, reply in answered:
            if isinstance(reply, Unjudged):
                self._mine[question.key].set_result(reply)


def as_judgement(entry: CacheEntry) -> Judgement:
    return Judgement(entry.verdict, distribution=entry.distribution)
