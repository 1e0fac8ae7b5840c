"""Judgements in a Redis, for many machines at once. The only door to the package redis."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from fgvr.errors import UserError
from fgvr.judges.caches.base import FORMAT, KEY, CacheEntry, Row, VerdictCache, encode

CHUNK = 1000  # keys in one command
ATTEMPTS = 3  # at storing one key
CONNECT, ANSWER = 5.0, 10.0  # seconds
RETRIES, PAUSE, LONGEST_PAUSE = 5, 0.1, 2.0  # seconds, doubled from one to the next
SCHEMES = ("redis", "rediss", "unix")
TLS_OPTIONS = {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
# deletes what is there only while it is still what was found damaged
DELETE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

T = TypeVar("T")


class RedisCache(VerdictCache):
    """Keys under `prefix`, without expiry, shared by every process that reaches the Redis.

    The url is `url`, or what the file `url_file` holds, or the environment variable `url_env`: redis://HOST:PORT/DB,
    rediss:// with TLS, unix:///PATH. One with a password must come from the last two; it is read when a connection is
    needed and kept nowhere else. Raises UserError when the Redis does not answer in time after some retries.
    """

    def __init__(
        self,
        url: str = "",
        url_env: str = "FGVR_REDIS_URL",
        url_file: Path | None = None,
        prefix: str = "fgvr:judgement:",
    ) -> None:
        super().__init__()
        if url and url_file is not None:
            raise UserError("a RedisCache takes its url from one place, got both url and url_file: leave one out")
        if not prefix:
            raise UserError("prefix must not be empty: the Redis may hold other keys than judgements")
        if url:
            _refuse_password(url)
            _place(url, "url")
        self.url, self.url_env, self.prefix = url, url_env, prefix
        self.url_file = None if url_file is None else Path(url_file)
        self._client: Any = None
        self._root = f"{prefix}{FORMAT}:"
        self._where = ""  # host and database of the open client

    def __repr__(self) -> str:
        return f"RedisCache({self._origin()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisCache, (self.url, self.url_env, self.url_file, self.prefix)

    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        found, damaged = self._read(self._rows(list(dict.fromkeys(keys))))
        self._delete(damaged)
        return found

    def put(self, entries: Sequence[CacheEntry]) -> dict[str, CacheEntry]:
        first: dict[str, CacheEntry] = {}
        for entry in entries:
            first.setdefault(entry.key, entry)
        stored: dict[str, CacheEntry] = {}
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
        pattern = re.sub(r"([\[\]*?\\^-])", r"\\\1", self._root) + "*"
        cursor, seen = 0, set[str]()
        while True:
            at = cursor
            cursor, names = self._ask(lambda client, at=at: client.scan(at, match=pattern, count=CHUNK))
            keys = [name.removeprefix(self._root.encode()).decode("ascii", "backslashreplace") for name in names]
            new = [key for key in dict.fromkeys(keys) if key not in seen and KEY.fullmatch(key)]  # scans repeat keys
            seen.update(new)
            yield from self.get(new).values()
            if not cursor:
                return

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _rows(self, keys: Sequence[str]) -> Iterator[Row]:
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            values = self._ask(lambda client, chunk=chunk: client.mget([self._root + key for key in chunk]))
            yield from ((key.encode(), text) for key, text in zip(chunk, values, strict=True) if text is not None)

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
            name = self._root.encode() + key
            self._ask(lambda client, name=name, text=text: client.eval(DELETE, 1, name, text))

    def _ask(self, question: Callable[[Any], T]) -> T:
        """What `question` makes of the client. Redis's errors become sentences that know nothing of the password."""
        redis = _package()
        client = self._connected(redis)
        try:
            return question(client)
        except (redis.exceptions.RedisError, UnicodeError) as error:
            problem = _without_password(f"{type(error).__name__}: {error}", client)
        # Outside of the handler, so that the error carries none of Redis's with it, which may quote what was sent.
        raise UserError(
            f"The cache of judgements must be a Redis that takes them, but {self._where} does not ({problem}): "
            f"look after it, or mend {self._origin()}."
        )

    def _connected(self, redis: Any) -> Any:
        if self._client is None:
            url = self._secret_url()
            self._where = _place(url, self._origin())
            self._client = redis.Redis.from_url(
                url,
                protocol=2,
                socket_connect_timeout=CONNECT,
                socket_timeout=ANSWER,
                retry=redis.retry.Retry(redis.backoff.ExponentialWithJitterBackoff(LONGEST_PAUSE, PAUSE), RETRIES),
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
