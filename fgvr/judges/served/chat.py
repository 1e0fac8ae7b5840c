"""A chat-completions server that many threads ask: bounded, patient; nothing it sends is trusted."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from fgvr.errors import UserError
from fgvr.judges.served.breaker import Breaker
from fgvr.judges.served.line import HTTPReply, Line
from fgvr.judges.served.pace import Pace
from fgvr.judges.served.patience import Item, Passing, Patience, Unanswered
from fgvr.judges.served.prompt import request
from fgvr.judges.served.replies import Faulty, Filtered, choice, parsed, tokens_used
from fgvr.judges.served.server import Server

BUSY = frozenset({408, 425, 429})  # of the statuses below 500, those that may pass
BYTES_PER_TOKEN = 4  # until the server says how many there were

T = TypeVar("T")


@dataclass(frozen=True)
class _Request:
    """How something is asked: `body` gives the JSON anew for each attempt, `read` makes sense of the reply's JSON."""

    method: str
    path: str
    body: Callable[[], bytes]
    read: Callable[[Any], Any]
    probing: bool = False


class _WrongSetUp(UserError):
    """The server will have none of it, with this HTTP status; `said` is how it says so."""

    def __init__(self, sentence: str, status: int, said: str) -> None:
        super().__init__(sentence)
        self.status, self.said = status, said


class _Open(NamedTuple):
    line: Line
    breaker: Breaker


class Chat:
    """Asks one server, from any thread; opens at first use and again after `close`.

    Connection errors, time-outs, 408, 429, 5xx, replies that are no completion and such without sense are tried again,
    see `Patience` and `Breaker`. Redirects, compressed replies and replies of more than 1 MiB are refused. `count` is
    told of "judge/requests" and "judge/retries"; `whose` server it is says who reads an error.
    """

    def __init__(self, server: Server, model: str, count: Callable[[str], None], whose: str = "judge") -> None:
        self.server, self.model, self.count, self.whose = server, model, count, whose
        self.patience = Patience(server.attempts, server.patience)
        self.sound_with(partial(request, model, [("user", "Say yes.")], {"max_tokens": 8}), choice)
        self._requests, self._tokens = Pace(server.requests_per_minute), Pace(server.tokens_per_minute)
        self._lock = threading.RLock()
        self._open: _Open | None = None
        self._hang_up: weakref.finalize[..., Chat] | None = None

    @property
    def url(self) -> str:
        return self._opened().line.url

    def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Future[T]:
        """Starts `work(*arguments)` on the event loop. Raises UserError where url or key cannot be had."""
        with self._lock:  # so that it is started before `close` stops the loop, or not on that loop
            loop = self._opened().line.loop
            return asyncio.run_coroutine_threadsafe(work(*arguments), loop)

    def close(self) -> None:
        """Ends what is under way and lets go of connections and thread."""
        with self._lock:
            hang_up, self._open, self._hang_up = self._hang_up, None, None
        if hang_up is not None:
            hang_up()

    async def ask(self, body: Callable[[], bytes], read: Callable[[Any], T], probing: bool = False) -> T:
        """What `read` makes of the reply to a chat completion, decoded from JSON; its ValueError says: no sense in it.

        `body` gives the request's JSON, anew for each attempt.

        Raises Unanswered for this item, and UserError where the set-up is wrong: 401, 403, 404, or 400 that names the
        model, for what the server is sounded out with too. With `probing`, 400 and 404 are of this item.
        """
        return await self._send(_Request("POST", "/chat/completions", body, read, probing))

    async def models(self) -> list[str]:
        """The names of the models that are served. Raises Unanswered, also where the server tells no such thing."""
        return await self._send(_Request("GET", "/models", bytes, _names, probing=True))

    def sound_with(self, body: Callable[[], bytes], read: Callable[[Any], Any]) -> None:
        """What a server that has failed is asked, to learn whether it is well: `read` raises ValueError if not."""
        self._sounding = _Request("POST", "/chat/completions", body, read)

    def forget_outage(self) -> None:
        """The next failure starts a new outage, with all of patience before it; to be called on the event loop."""
        self._on_this_loop().breaker.forget()

    async def _send(self, asked: _Request) -> Any:
        item = self.patience.item()
        try:
            return await self.patience.insist(item, self._attempt, item, asked)
        except Passing as failure:
            reason = str(failure)
        raise Unanswered(f"{item.attempts} attempts failed, at last: {reason}")

    async def _attempt(self, item: Item, asked: _Request) -> Any:
        line, breaker = self._on_this_loop()
        sound = partial(self._sound, line)
        try:
            async with breaker.turn(item.asked, sound):
                item.attempts += 1
                if item.attempts > 1:
                    self.count("judge/retries")
                began = time.monotonic()
                found = await self._exchanged(line, asked)
        except Passing as passing:
            failure = passing
        except _WrongSetUp as error:
            began, failure = time.monotonic(), Passing(error.said)
            # it stops everything, so the server must say so of what it can have nothing against, by which it is raised
            if await breaker.is_well(began, failure, sound) and (asked.probing or error.status in (400, 403)):
                raise Unanswered(f"refused: {error.said}") from None
        else:
            breaker.hears()
            return found
        if failure.busy:
            breaker.leave_alone(began, failure)
        well = not failure.busy and await breaker.is_well(began, failure, sound)
        self.patience.failed(item, failure, well)
        raise failure

    async def _sound(self, line: Line) -> None:
        try:
            await self._exchanged(line, self._sounding)
        except Unanswered:
            return  # refused, by a server that is there

    async def _exchanged(self, line: Line, asked: _Request) -> Any:
        """One request, and what is read in the reply. Raises Passing, Unanswered or UserError."""
        body = asked.body()
        estimate = len(body) / BYTES_PER_TOKEN
        await self._requests.take()
        await self._tokens.take(estimate)
        self.count("judge/requests")
        reply = await line.exchange(asked.method, asked.path, body)
        self._refuse(reply, line, asked.probing)
        try:
            said = parsed(reply.body)
            self._tokens.correct(tokens_used(said, estimate) - estimate)
            return asked.read(said)
        except (ValueError, RecursionError) as error:
            kind, status, reason = type(error), getattr(error, "status", 0), line.quoted(str(error))
        # outside of the handler: the error may hold the reply, and that the key
        shown = f"a reply without sense ({reason}): {line.quoted(reply.body)!r}"
        if kind is Filtered:
            raise Unanswered(f"refused: {shown}")
        if kind is Faulty and status != 500:
            self._refuse(replace(reply, status=status), line, asked.probing)
        raise Passing(shown, garbled=kind is not Faulty)

    def _refuse(self, reply: HTTPReply, line: Line, probing: bool) -> None:
        """Raises what is wrong with a reply by its status."""
        status = reply.status
        if 200 <= status < 300:
            if reply.refused:
                raise Passing(f"a reply {reply.refused}")
            return
        said = f"status {status} {line.quoted(reply.body)!r}"
        if status in BUSY or status >= 500:
            raise Passing(said, busy=status == 429 or reply.after > 0, after=reply.after)
        if status < 400:
            raise Passing(f"status {status}, which leads elsewhere and is not followed")
        if reply.body.lstrip().startswith(b"<") and self._on_this_loop().breaker.heard > 0:
            raise Passing(said)  # a page for people, where there was a server
        if status in (401, 403):
            where = self.server.key_file or f"the environment variable {self.server.key_env}"
            sentence = f"the {self.whose}'s server {line.url} must take the key of {where}, but it answers {said}"
            raise _WrongSetUp(sentence, status, said)
        named = re.search(rf"(?<![\w.-]){re.escape(self.model)}(?![\w.-])", reply.body.decode("utf-8", "replace"))
        if not probing and (status == 404 or (status == 400 and named)):
            sentence = (
                f"the {self.whose}'s server must serve {self.model!r} at {line.url}/chat/completions, but it answers "
                f"{said}: set model to a name that it serves, and the url to its base, which mostly ends in /v1"
            )
            raise _WrongSetUp(sentence, status, said)
        raise Unanswered(f"refused: {said}")

    def _opened(self) -> _Open:
        with self._lock:
            if (
                self._open is None or not self._open.line.thread.is_alive()
            ):  # threads do not live on in a forked process
                server = self.server
                line = Line(server.base(self.whose), server.key(self.whose), server.concurrency, server.timeout)
                name = f"the {self.whose}'s server {line.url}"
                self._open = _Open(line, Breaker(name, server.concurrency, server.patience))
                self._hang_up = weakref.finalize(self, line.hang_up)
            return self._open

    def _on_this_loop(self) -> _Open:
        if self._open is None or self._open.line.loop is not asyncio.get_running_loop():
            raise Unanswered(f"the {self.whose} was closed")
        return self._open


def _names(reply: Any) -> list[str]:
    models = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(models, list):
        raise ValueError("it lists no models")
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
