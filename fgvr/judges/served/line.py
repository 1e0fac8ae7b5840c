"""The line to one server: an event loop in a thread, one HTTP session, replies bounded. The only door to HTTP."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from fgvr.judges.served.patience import Passing
from fgvr.judges.served.quoting import quoted

LONGEST_BODY = 1 << 20  # bytes; a verdict takes a thousandth of it
KEEP_ALIVE = 4.0  # seconds; many servers hang up after 5, and a request must not cross with that


@dataclass(frozen=True)
class HTTPReply:
    """`refused` says why the body was not read, `after` is Retry-After in seconds."""

    status: int
    body: bytes
    refused: str = ""
    after: float = 0.0


class Line:
    """Open from the start until `hang_up`; one request takes `timeout` seconds at most. It alone holds the key."""

    def __init__(self, url: str, key: str, concurrency: int, timeout: float) -> None:
        self.url, self._key, self._timeout = url, key, timeout
        self.loop = asyncio.new_event_loop()
        self._started: Future[aiohttp.ClientSession] = Future()
        self.thread = threading.Thread(target=self._serve, args=(concurrency,), daemon=True, name="fgvr-judge")
        self.thread.start()
        self._session = self._started.result()

    async def _open(self, concurrency: int) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=KEEP_ALIVE),
            headers=headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
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
        await self._session.close()

    def hang_up(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            if threading.current_thread() is not self.thread:
                self.thread.join()

    def quoted(self, text: str | bytes) -> str:
        """What came over the line, fit to be shown: without the key."""
        return quoted(text, self._key)

    async def exchange(self, method: str, path: str, body: bytes) -> HTTPReply:
        """One request. Raises Passing; what aiohttp raises holds the key in its headers, so only its words go on."""
        try:
            async with asyncio.timeout(self._timeout):
                url = URL(self.url + path)
                async with self._session.request(method, url, data=body or None, allow_redirects=False) as reply:
                    return await _read(reply)
        except TimeoutError:
            problem = f"no whole reply within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            problem = f"{type(error).__name__}: {self.quoted(str(error))}"
        raise Passing(problem)


async def _read(reply: aiohttp.ClientResponse) -> HTTPReply:
    if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
        reply.close()
        return HTTPReply(reply.status, b"", "compressed, which was not asked for")
    content = bytearray()
    async for chunk in reply.content.iter_any():
        content += chunk
        if len(content) > LONGEST_BODY:
            reply.close()
            return HTTPReply(reply.status, b"", f"longer than {LONGEST_BODY} bytes")
    return HTTPReply(reply.status, bytes(content), "", _seconds(reply.headers))


def _seconds(headers: Mapping[str, str]) -> float:
    """Retry-After, which is a number of seconds, or a date by the server's own clock; 0 where it is neither."""
    text = headers.get("Retry-After")
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            now = parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return seconds if 0 < seconds < math.inf else 0.0
