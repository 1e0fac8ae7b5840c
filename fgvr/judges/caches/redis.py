"""Judgements in a Redis, for many machines at once. The only door to the package redis."""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from fgvr.errors import UserError
from fgvr.judges.caches.base import FORMAT, KEY, WITHOUT_DIGEST, CacheEntry, Row, VerdictCache, encode

log = logging.getLogger(__name__)

CHUNK = 1000  # keys in one command
ATTEMPTS = 3  # at storing one key
CONNECT, ANSWER = 5.0, 10.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE, SLICE = 0.1, 8.0, 0.25  # seconds; pauses double, and after a slice `close` is heard
SAID = 3.0  # seconds without an answer before the log says so; then again at twice that, and so on
AWAY = ("ConnectionError", "TimeoutError", "ReadOnlyError", "MasterDownError", "TryAgainError")  # may pass
LOCKED = ("AuthenticationError", "AuthorizationError")  # are connection errors too, and do not
SCHEMES = ("redis", "rediss", "unix")
TLS_OPTIONS = {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
# deletes what is there only while it is still what was found damaged
DELETE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

T = TypeVar("T")


class RedisCache(VerdictCache):
    """Keys under `prefix`, without expiry, shared by every process that reaches the Redis.

    The url is `url`, or what the file `url_file` holds, or the environment variable `url_env`: redis://HOST:PORT/DB,
    rediss:// with TLS, unix:///PATH. One with a password must come from the last two; it is read when a connection is
    needed and kept nowhere else. A Redis that is away is waited for; UserError when it has been so for `patience`
    seconds.
    """

    def __init__(
        self,
        url: str = "",
        url_env: str = "FGVR_REDIS_URL",
        url_file: Path | None = None,
        prefix: str = "fgvr:judgement:",
        patience: float = 120.0,
    ) -> None:
        super().__init__()
        if url and url_file is not None:
            raise UserError("a RedisCache takes its url from one place, got both url and url_file: leave one out")
        if not prefix:
            raise UserError("prefix must not be empty: the Redis may hold other keys than judgements")
        if not 0 <= patience < math.inf:
            raise UserError(f"the patience of a RedisCache must be at least 0 seconds and finite, got {patience}")
        if url:
            _refuse_password(url)
            _place(url, "url")
        self.url, self.url_env, self.prefix, self.patience = url, url_env, prefix, patience
        self.url_file = None if url_file is None else Path(url_file)
        self._client: Any = None
        self._root, self._old_root = f"{prefix}{FORMAT}:", f"{prefix}{WITHOUT_DIGEST}:"
        self._where = ""  # host and database of the open client
        # of plain values, for a lock could be forked while held; threads that meet here say a thing twice at worst
        self._away_since: float | None = None
        self._say_at = SAID
        self._closings = 0

    def __repr__(self) -> str:
        return f"RedisCache({self._origin()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisCache, (self.url, self.url_env, self.url_file, self.prefix, self.patience)

    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        found, damaged = self._read(self._rows(list(dict.fromkeys(keys))))
        self._delete(damaged)
        return found

    def put(self, entries: Sequence[CacheEntry]) -> dict[str, CacheEntry]:
        first: dict[str, CacheEntry] = {}
        for entry in entries:
            first.setdefault(entry.key, entry)
        stored = self.get(list(first))  # an entry of the older format has another name, and would not be in the way
        for _ in range(ATTEMPTS):  # a second one only where a damaged entry was in the way
            missing = [entry for key, entry in first.items() if key not in stored]
            if not missing:
                return {key: stored[key] for key in first}
            self._set(missing)
            stored |= self.get([entry.key for entry in missing])
        if all(key in stored for key in first):
            return {key: stored[key] for key in first}
        raise UserError(
            f"A cache must keep what is written to it, but {self._where} does not: "
            "set its maxmemory-policy to noeviction, and let nothing else use its keys."
        )

    def entries(self) -> Iterator[CacheEntry]:
        seen = set[str]()  # scans repeat keys
        for keys in itertools.chain(self._scan(self._root), self._scan(self._old_root)):
            new = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(new)
            yield from self.get(new).values()

    def _scan(self, root: str) -> Iterator[list[str]]:
        """Some keys at a time."""
        pattern = re.sub(r"([\[\]*?\\^-])", r"\\\1", root) + "*"
        cursor: int | None = None
        while cursor != 0:
            at = cursor or 0
            cursor, names = self._ask(lambda client, at=at: client.scan(at, match=pattern, count=CHUNK))
            keys = [name.removeprefix(root.encode()).decode("ascii", "backslashreplace") for name in names]
            yield [key for key in keys if KEY.fullmatch(key)]

    def close(self) -> None:
        """Also ends the waiting of other threads."""
        client, self._client = self._client, None
        self._closings += 1
        self._away_since = None
        if client is not None:
            client.close()

    def _rows(self, keys: Sequence[str]) -> Iterator[Row]:
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            names = [root + key for root in (self._root, self._old_root) for key in chunk]
            values = self._ask(lambda client, names=names: client.mget(names))
            for key, text, older in zip(chunk, values[: len(chunk)], values[len(chunk) :], strict=True):
                if (found := older if text is None else text) is not None:
                    yield key.encode(), found

    def _set(self, entries: Sequence[CacheEntry]) -> None:
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]

            def write(client: Any, chunk: Sequence[CacheEntry] = chunk) -> None:
                with client.pipeline(transaction=False) as pipeline:
                    for entry in chunk:
                        pipeline.set(self._root + entry.key, encode(entry), nx=True)
                    for answer in pipeline.execute(raise_on_error=False):
                        if isinstance(answer, Exception):
                            raise answer

            self._ask(write)

    def _delete(self, damaged: Sequence[Row]) -> None:
        for key, text in damaged:
            for root in (self._root, self._old_root):
                name = root.encode() + key
                self._ask(lambda client, name=name, text=text: client.eval(DELETE, 1, name, text))

    def _ask(self, question: Callable[[Any], T]) -> T:
        """What `question` makes of the client. Redis's errors become sentences that know nothing of the password."""
        redis, tries, closings = _package(), 0, self._closings
        may_pass = tuple(getattr(redis.exceptions, name) for name in AWAY)
        locked = tuple(getattr(redis.exceptions, name) for name in LOCKED)
        while True:
            client, began = self._connected(redis), time.monotonic()
            try:
                found = question(client)
            except (redis.exceptions.RedisError, UnicodeError) as error:
                problem = _without_password(f"{type(error).__name__}: {error}", client)
                away = isinstance(error, may_pass) and not isinstance(error, locked)
            else:
                self._is_back()
                return found
            tries += 1
            if not (away and self._wait(problem, began, tries, closings)):
                break
        # Outside of the handler, so that the error carries none of Redis's with it, which may quote what was sent.
        raise UserError(
            f"The cache of judgements must be a Redis that takes them, but {self._where} does not ({problem}): "
            f"look after it, or mend {self._origin()}."
        )

    def _wait(self, problem: str, began: float, tries: int, closings: int) -> bool:
        """Waits before the next try, the longer the more there were; False once patience is over, and when closed."""
        self._away_since = began if self._away_since is None else self._away_since
        waited = time.monotonic() - self._away_since
        if waited >= self._say_at:
            self._say_at = 2 * waited
            log.warning(
                "waiting for the cache of judgements at %s for %.0f s by now and for %.0f s at most: %s",
                self._where, waited, self.patience, problem,
            )  # fmt: skip
        pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 10))
        until = time.monotonic() + min(pause, self.patience - waited)
        while (left := until - time.monotonic()) > 0 and self._closings == closings:
            time.sleep(min(left, SLICE))
        return waited < self.patience and self._closings == closings

    def _is_back(self) -> None:
        since, self._away_since = self._away_since, None
        if since is not None and self._say_at > SAID:
            log.warning("the cache at %s answers again, after %.0f s", self._where, time.monotonic() - since)
        self._say_at = SAID

    def _connected(self, redis: Any) -> Any:
        if self._client is None:
            url = self._secret_url()
            self._where = _place(url, self._origin())
            backoff = redis.backoff.NoBackoff()
            self._client = redis.Redis.from_url(
                url,
                protocol=2,
                socket_connect_timeout=CONNECT,
                socket_timeout=ANSWER,
                retry=redis.retry.Retry(backoff, 1),  # a connection may have been closed for being idle
            )
        return self._client

    def _secret_url(self) -> str:
        if self.url:
            return self.url
        if self.url_file is None:
            url = os.environ.get(self.url_env, "").strip()
            if not url:
                raise UserError(
                    f"A RedisCache needs the url of its Redis, but url and url_file are not given and {self.url_env} "
                    f"is not set: export {self.url_env}=redis://HOST:PORT/DB."
                )
            return url
        url, problem = "", "it is empty"
        try:
            url = self.url_file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            problem = "it is no text"
        except OSError as error:
            problem = error.strerror or str(error)
        if not url:
            raise UserError(f"url_file must hold the url of a Redis, but {self.url_file} does not: {problem}.")
        return url

    def _origin(self) -> str:
        if self.url:
            return f"url={self.url!r}"
        return f"url_env={self.url_env!r}" if self.url_file is None else f"url_file={str(self.url_file)!r}"


def _refuse_password(url: str) -> None:
    # Not parsed first: a password with a slash in it is cut in two by any parser, and would be let through.
    if "@" in url or "password" in url:
        raise UserError(
            "A password must not stand in a configuration, but url holds a user or one: leave url out and give the "
            "whole url in the environment variable that url_env names (FGVR_REDIS_URL) or in a file that url_file names"
        )


def _place(url: str, origin: str) -> str:
    """Host and database, for people; raises UserError, without a word of the url, for one that cannot be used."""
    parts = _parsed(url)
    if parts is None:
        raise UserError(_malformed(origin, "what is special in a user name or password percent-encoded"))
    scheme, host, path, options = parts
    if scheme not in SCHEMES or not (path if scheme == "unix" else host):
        raise UserError(_malformed(origin, "this one is not"))
    allowed = {"db", *TLS_OPTIONS} if scheme == "rediss" else {"db"}
    if not set(options) <= allowed:
        raise UserError(_malformed(origin, f"after its ? may stand only {', '.join(sorted(allowed))}"))
    database = options.get("db") or ("" if scheme == "unix" else path.strip("/")) or "0"
    if not database.isdecimal():
        raise UserError(_malformed(origin, "its DB a number"))
    return f"{scheme}://{path}, database {database}," if scheme == "unix" else f"{scheme}://{host}/{database}"


def _parsed(url: str) -> tuple[str, str, str, dict[str, str]] | None:
    """Scheme, host with port, path and options; None, and no error that quotes it, for what does not parse."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        host = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else ""
    except ValueError:
        return None
    return None if parts.fragment else (parts.scheme, host, parts.path, options)


def _malformed(origin: str, what: str) -> str:
    forms = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"
    return f"The url of a Redis must be {forms}, and {what}: mend {origin}."


def _without_password(text: str, client: Any) -> str:
    password = client.connection_pool.connection_kwargs.get("password") or ""
    for form in {password, quote(password), quote(password, safe="")} - {""}:
        text = text.replace(form, "***")
    return text if len(text) <= 300 else text[:300] + "…"


def _package() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError as error:
        raise UserError("A RedisCache needs the package redis: pip install 'fgvr[redis]'.") from error
    return redis
