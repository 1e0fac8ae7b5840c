"""A chat-completions server that many threads ask: one event loop, bounded, patient; nothing it sends is trusted."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from fgvr.errors import UserError
from fgvr.judges.served.patience import Item, Passing, Patience, Unanswered
from fgvr.judges.served.prompt import content, request
from fgvr.judges.served.quoting import quoted

LONGEST_BODY = 1 << 20  # bytes; a verdict takes a thousandth of it
KEEP_ALIVE = 4.0  # seconds; many servers hang up after 5, and a request must not cross with that
BUSY = frozenset({408, 425, 429, 502, 503, 504})  # they speak of the server; another error may be of the item

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """Where an OpenAI-compatible server is, and how it is asked.

    `url` is its base ("http://node:8001/v1"); where it is empty, the environment variable `url_env` holds it, so that
    it may change from job to job. The key, if the server wants one, is in `key_file`, or else in the variable
    `key_env`. At most `concurrency` requests are open at once; `timeout` is seconds for one request in all. An item is
    given up after `attempts` failures of its own; an outage is waited for until nothing good was heard for `patience`
    seconds. Raises UserError for numbers out of range and for a url with user, password, query or fragment.
    """

    url: str = ""
    url_env: str = "FGVR_JUDGE_URL"
    key_env: str = "FGVR_JUDGE_KEY"
    key_file: Path | None = None
    concurrency: int = 64
    timeout: float = 60.0
    attempts: int = 6
    patience: float = 120.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise UserError(f"server.{name} must be at least 1, got {getattr(self, name)}")
        if not (0 < self.timeout < math.inf and 0 <= self.patience < math.inf):
            raise UserError(
                "server.timeout must be above 0 seconds and server.patience at least 0, both finite, "
                f"got {self.timeout} and {self.patience}"
            )
        if self.url:
            _base(self.url, "server.url")

    def base(self) -> str:
        """The url without a closing slash. Raises UserError where there is none."""
        url = self.url or os.environ.get(self.url_env, "")
        if not url:
            raise UserError(
                f"the judge's server must have an address, but server.url is empty and the environment variable "
                f"{self.url_env} too: set one of them, such as http://node:8001/v1"
            )
        return _base(url, "server.url" if self.url else self.url_env)

    def key(self) -> str:
        """The key, empty where there is none. Raises UserError for a file that cannot be read and for an odd key."""
        where = self.key_env if self.key_file is None else str(self.key_file)
        try:
            text = os.environ.get(where, "") if self.key_file is None else Path(where).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = type(error).__name__
        else:
            text = text.strip()
            if text.isascii() and text.isprintable() and " " not in text:
                return text
            raise UserError(f"the judge's key must be one word of ASCII characters, but what {where} holds is not")
        raise UserError(f"server.key_file must be a text file that can be read, but {where} is not ({problem})")


def _base(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and url.isprintable() and " " not in url
    except ValueError:
        parts, sound = None, False
    if parts is None or "@" in url or parts.query or parts.fragment:
        raise UserError(
            f"{where} must be a base url such as http://node:8001/v1, without user, password, query or fragment, for "
            "it is shown in logs: a key belongs into server.key_file or the variable that server.key_env names"
        )
    if not sound:
        raise UserError(f"{where} must be a base url such as http://node:8001/v1, got {quoted(url)!r}")
    return url.rstrip("/")


class _Line:
    """An event loop in a daemon thread with one session, until `hang_up`. It alone holds the key."""

    def __init__(self, url: str, key: str, concurrency: int) -> None:
        self.url, self.key = url, key
        self.slots = asyncio.Semaphore(concurrency)
        self.sounding, self.sounded = asyncio.Lock(), -math.inf
        self.loop = asyncio.new_event_loop()
        self._started: Future[aiohttp.ClientSession] = Future()
        self.thread = threading.Thread(target=self._serve, args=(concurrency,), daemon=True, name="fgvr-judge")
        self.thread.start()
        self.session = self._started.result()

    async def _open(self, concurrency: int) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=KEEP_ALIVE),
            headers=headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    def _serve(self, concurrency: int) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._started.set_result(self.loop.run_until_complete(self._open(concurrency)))
            self.loop.run_forever()
            self.loop.run_until_complete(self._end())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise
        finally:
            self.loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.session.close()

    def hang_up(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            if threading.current_thread() is not self.thread:
                self.thread.join()


class Chat:
    """Asks one server, from any thread; opens at first use and again after `close`.

    Connection errors, time-outs, 408, 429, 5xx and replies without sense are tried again, see `Patience`. Redirects,
    compressed replies and replies of more than 1 MiB are refused. `count` is told of "judge/requests" and
    "judge/retries".
    """

    def __init__(self, server: Server, model: str, count: Callable[[str], None]) -> None:
        self.server, self.model, self.count = server, model, count
        self.patience = Patience(server.attempts, server.patience)
        self._lock = threading.RLock()
        self._line: _Line | None = None
        self._hang_up: weakref.finalize[..., Chat] | None = None

    @property
    def url(self) -> str:
        return self._opened().url

    def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Future[T]:
        """Starts `work(*arguments)` on the event loop. Raises UserError where url or key cannot be had."""
        with self._lock:  # so that it is started before `close` stops the loop, or not on that loop
            line = self._opened()
            return asyncio.run_coroutine_threadsafe(work(*arguments), line.loop)

    def close(self) -> None:
        """Ends what is under way and lets go of connections and thread."""
        with self._lock:
            hang_up, self._line, self._hang_up = self._hang_up, None, None
        if hang_up is not None:
            hang_up()

    async def ask(self, body: Callable[[], bytes], read: Callable[[Any], T], probing: bool = False) -> T:
        """What `read` makes of the reply to a chat completion, decoded from JSON; its ValueError says: no sense in it.

        `body` gives the request's JSON, anew for each attempt.

        Raises Unanswered for this item, and UserError where the set-up is wrong: 401, 403, 404, or 400 that names the
        model. With `probing`, 400 and 404 are of this item too.
        """
        return await self._send("POST", "/chat/completions", body, read, probing)

    async def models(self) -> list[str]:
        """The names of the models that are served. Raises Unanswered, also where the server tells no such thing."""
        return await self._send("GET", "/models", bytes, _names, True)

    async def _send(
        self, method: str, path: str, body: Callable[[], bytes], read: Callable[[Any], T], probing: bool
    ) -> T:
        item = self.patience.item()
        try:
            return await self.patience.insist(item, self._attempt, item, method, path, body, read, probing)
        except Passing as failure:
            reason = str(failure)
        if item.outage:
            raise Unanswered(f"nothing good was heard for {self.server.patience:g} s, at last: {reason}", outage=True)
        raise Unanswered(f"{item.attempts} attempts failed, at last: {reason}")

    async def _attempt(
        self, item: Item, method: str, path: str, body: Callable[[], bytes], read: Callable[[Any], T], probing: bool
    ) -> T:
        line = self._line
        if line is None or line.loop is not asyncio.get_running_loop():
            raise Unanswered("the judge was closed")
        async with line.slots:
            self.patience.begins(item)
            self.count("judge/requests")
            if item.attempts > 1:
                self.count("judge/retries")
            reply = await self._exchange(line, method, path, body())
        failure = reply if isinstance(reply, Passing) else self._fault(reply, line, probing)
        if isinstance(reply, _Reply) and failure is None:
            try:
                found = read(json.loads(reply.body))
            except (ValueError, RecursionError) as error:
                said = quoted(reply.body, line.key)
                failure = Passing(f"a reply without sense ({quoted(str(error), line.key)}): {said!r}", garbled=True)
            else:
                self.patience.heard()
                return found
        assert failure is not None
        if failure.own and self.patience.is_unclear(item):
            await self._sound_out(line, item)
        self.patience.failed(item, failure)
        raise failure

    async def _sound_out(self, line: _Line, item: Item) -> None:
        """Asks something harmless, unless others just did, to learn whether the server or the item is to blame."""
        failed = time.monotonic()
        async with line.sounding:
            if not self.patience.is_unclear(item) or line.sounded > failed:
                return
            line.sounded = time.monotonic()
            async with line.slots:
                self.count("judge/requests")
                body = request(self.model, [("user", "Say yes.")], {"max_tokens": 8})
                reply = await self._exchange(line, "POST", "/chat/completions", body)
            if isinstance(reply, _Reply) and 200 <= reply.status < 300:
                with suppress(ValueError, RecursionError):
                    content(json.loads(reply.body))
                    self.patience.heard()

    async def _exchange(self, line: _Line, method: str, path: str, body: bytes) -> _Reply | Passing:
        """One request. What aiohttp raises holds the key in its headers: only its words go on from here."""
        try:
            async with asyncio.timeout(self.server.timeout):
                url = URL(line.url + path)
                async with line.session.request(method, url, data=body or None, allow_redirects=False) as reply:
                    if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
                        reply.close()
                        return _Reply(reply.status, b"", "compressed, which was not asked for", 0.0)
                    content = bytearray()
                    async for chunk in reply.content.iter_any():
                        content += chunk
                        if len(content) > LONGEST_BODY:
                            reply.close()
                            return _Reply(reply.status, b"", f"longer than {LONGEST_BODY} bytes", 0.0)
                    return _Reply(reply.status, bytes(content), "", _seconds(reply.headers.get("Retry-After")))
        except TimeoutError:
            return Passing(f"no whole reply within {self.server.timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            there = not isinstance(error, aiohttp.ClientConnectorError)
            return Passing(f"{type(error).__name__}: {quoted(str(error), line.key)}", own=there)

    def _fault(self, reply: _Reply, line: _Line, probing: bool) -> Passing | None:
        """What is wrong with a reply by its status, None where nothing is."""
        if 200 <= reply.status < 300:
            return Passing(f"a reply {reply.refused}", garbled=True) if reply.refused else None
        said = f"status {reply.status} {quoted(reply.body, line.key)!r}"
        if reply.status in BUSY or reply.status >= 500:
            return Passing(said, own=reply.status not in BUSY, after=reply.after)
        if reply.status < 400:
            return Passing(f"status {reply.status}, which leads elsewhere and is not followed", garbled=True)
        if reply.status in (401, 403):
            where = self.server.key_file or f"the environment variable {self.server.key_env}"
            raise UserError(f"the judge's server {line.url} must take the key of {where}, but it answers {said}")
        named = re.search(rf"(?<![\w.-]){re.escape(self.model)}(?![\w.-])", reply.body.decode("utf-8", "replace"))
        if not probing and (reply.status == 404 or (reply.status == 400 and named)):
            raise UserError(
                f"the judge's server must serve {self.model!r} at {line.url}/chat/completions, but it answers {said}: "
                "set model to a name that it serves, and the url to its base, which mostly ends in /v1"
            )
        raise Unanswered(f"refused: {said}")

    def _opened(self) -> _Line:
        with self._lock:
            if self._line is None or not self._line.thread.is_alive():  # threads do not live on in a forked process
                self._line = _Line(self.server.base(), self.server.key(), self.server.concurrency)
                self._hang_up = weakref.finalize(self, self._line.hang_up)
            return self._line


@dataclass(frozen=True)
class _Reply:
    """`refused` says why the body was not read, `after` is Retry-After in seconds."""

    status: int
    body: bytes
    refused: str
    after: float


def _seconds(text: str | None) -> float:
    """Retry-After, which is a number of seconds or a date; 0 where it is neither."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return seconds if 0 < seconds < math.inf else 0.0


def _names(reply: Any) -> list[str]:
    models = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(models, list):
        raise ValueError("it lists no models")
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
