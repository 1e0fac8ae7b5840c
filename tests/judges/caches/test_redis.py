import json
import pickle
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cache_processes import entry
from judge_server import wait_until
from ports import free_port
from redis_server import RedisServer

from fgvr.errors import UserError
from fgvr.judges.caches import redis as redis_cache
from fgvr.judges.caches.base import as_json
from fgvr.judges.caches.redis import RedisCache

PASSWORD = "s3cr3t/w:rd@%"
QUOTED = "s3cr3t%2Fw%3Ard%40%25"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), PASSWORD) as server:
        yield server


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs of a test's length."""
    for name, value in {"CONNECT": 0.3, "ANSWER": 0.3}.items():
        monkeypatch.setattr(redis_cache, name, value)


def url_with(server: RedisServer, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{server.port}/0"


def assert_kept_secret(cache: RedisCache, error: BaseException | None = None) -> None:
    said = [repr(cache), str(cache), pickle.dumps(cache).decode("latin1")]
    if error is not None:
        said += [str(error), repr(error), pickle.dumps(error).decode("latin1")]
        said += traceback.format_exception(error)
        said += [repr(error.__context__), repr(error.__cause__)]
    for text in said:
        assert "s3cr3t" not in text


def test_nothing_is_read_or_reached_before_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FGVR_REDIS_URL", raising=False)
    cache = RedisCache()
    assert repr(cache) == "RedisCache(url_env='FGVR_REDIS_URL')"
    cache.close()
    with pytest.raises(UserError, match="url and url_file are not given and FGVR_REDIS_URL is not set: export"):
        cache.get(["k"])


def test_the_url_from_the_environment(locked: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGVR_REDIS_URL", url_with(locked, QUOTED))
    monkeypatch.setenv("MY_REDIS", url_with(locked, QUOTED))
    with RedisCache() as one, RedisCache(url_env="MY_REDIS") as other:
        one.put([entry("environment")])
        assert other.get(["environment"]) == {"environment": entry("environment")}
        assert_kept_secret(one)


def test_the_url_from_a_file(locked: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "url"
    cache = RedisCache(url_file=file)
    for content, what in ((None, "No such file"), (b"", "is empty"), (b"\xff\xfe", "no text")):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"url_file must hold the url of a Redis, but {file}.*{what}"):
            cache.get(["k"])
    file.write_text(url_with(locked, QUOTED) + "\n")
    with cache:
        assert cache.put([entry("file")]) == {"file": entry("file")}
        assert repr(cache) == f"RedisCache(url_file={str(file)!r})"
        assert_kept_secret(cache)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr3t@localhost:6379/0",
        "redis://me:s3cr3t@localhost:6379/0",
        "redis://s3cr3t@localhost",
        "redis://:s3cr3t/w@rd@localhost",
        "redis://localhost?password=s3cr3t",
        "unix://:s3cr3t@/tmp/redis.sock",
    ],
)
def test_a_password_in_a_configuration_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"A password must not stand in a configuration.*url_env.*url_file") as caught:
        RedisCache(url)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_a_url_from_two_places_and_an_empty_prefix() -> None:
    with pytest.raises(UserError, match="got both url and url_file"):
        RedisCache("redis://localhost", url_file=Path("url"))
    with pytest.raises(UserError, match="prefix must not be empty"):
        RedisCache("redis://localhost", prefix="")


@pytest.mark.parametrize(
    "url",
    [
        "http://s3cr3t.example",
        "redis://",
        "s3cr3t",
        "redis://:s3cr3t/w@host:6379/0",
        "redis://:12/s3cr3t@host",
        "redis://me:12/s3cr3t@host",
        "redis://:x?s3cr3t@host",
        "redis://:x#s3cr3t@host",
        "redis://host:6379/s3cr3t",
        "redis://host:s3cr3t/0",
        "redis://host/0?password=s3cr3t",
        "redis://host/0?ssl_cert_reqs=none",
        "rediss://host/0?ssl_password=s3cr3t",
        "unix://",
        "redis://[s3cr3t/0",
    ],
)
def test_what_is_no_url_of_a_redis(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGVR_REDIS_URL", url)
    cache = RedisCache()
    with pytest.raises(UserError, match=r"must be redis://HOST:PORT/DB, .*: mend url_env='FGVR_REDIS_URL'") as caught:
        cache.get(["k"])
    assert_kept_secret(cache, caught.value)


@pytest.mark.parametrize("password", ["", "s3cr3t-but-wrong"])
def test_a_password_that_is_not_taken(locked: RedisServer, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGVR_REDIS_URL", url_with(locked, password))
    cache = RedisCache()
    where = rf"redis://127.0.0.1:{locked.port}/0 does not \(Auth.*url_env='FGVR_REDIS_URL'"
    with pytest.raises(UserError, match=where) as caught:
        cache.put([entry("k")])
    assert_kept_secret(cache, caught.value)


class Echo(socketserver.StreamRequestHandler):
    """Answers as an old Redis that knows no AUTH: with an error that quotes what it was given."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:size])
            self.wfile.write(b"-ERR unknown command, with args beginning with: %s\r\n" % b", ".join(words))


@pytest.mark.usefixtures("short")
def test_a_server_that_quotes_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        monkeypatch.setenv("FGVR_REDIS_URL", f"redis://:{QUOTED}@127.0.0.1:{echo.server_address[1]}/0")
        cache = RedisCache()
        with pytest.raises(UserError, match=r"beginning with: AUTH, \*\*\*") as caught:
            cache.get(["k"])
        assert_kept_secret(cache, caught.value)
        cache.close()
        echo.shutdown()


@pytest.mark.usefixtures("short")
def test_a_redis_that_is_not_there() -> None:
    for url in (f"redis://127.0.0.1:{free_port()}/0", "redis://no..name/0", "unix:///nowhere/redis.sock"):
        cache = RedisCache(url, patience=0.3)
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"must be a Redis that takes them, but .+ does not \(.+\): look after it"):
            cache.get(["k"])
        assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("short")
def test_a_redis_that_takes_connections_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = RedisCache(f"redis://127.0.0.1:{silent.getsockname()[1]}", patience=0.0)
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"does not \(TimeoutError"):
            cache.get(["k"])
        assert 0.3 <= time.monotonic() - begun < 10
        cache.close()


def test_a_redis_killed_and_started_again(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with server, RedisCache(server.url, patience=0.3) as cache:
        cache.put([entry("k")])
        server.kill()
        for least in (0.3, 0.0):  # who comes later does not wait for what was waited for already
            begun = time.monotonic()
            with pytest.raises(UserError, match=rf"but {server.url} does not \(ConnectionError.*: look after it"):
                cache.put([entry("other")])
            assert least <= time.monotonic() - begun < least + 3
        server.start()  # it kept nothing: a cache may forget
        assert cache.get(["k"]) == {}
        assert cache.put([entry("k", "two")]) == {"k": entry("k", "two")}


def test_a_redis_that_is_away_is_waited_for_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "SAID", 0.5)
    server = RedisServer(tmp_path, PASSWORD)
    (tmp_path / "url").write_text(url_with(server, QUOTED))
    with server, RedisCache(url_file=tmp_path / "url", patience=60.0) as cache, ThreadPoolExecutor(8) as threads:
        cache.put([entry("k")])
        server.kill()
        put = [threads.submit(cache.put, [entry(f"k{number}", "two")]) for number in range(8)]
        wait_until(lambda: f"waiting for the cache of judgements at {server.url} for" in caplog.text)
        time.sleep(3.5)  # more than it was given before
        assert not any(future.done() for future in put)
        server.start()
        assert [future.result(30) for future in put] == [{f"k{n}": entry(f"k{n}", "two")} for n in range(8)]
        assert f"the cache at {server.url} answers again, after " in caplog.text
        assert "s3cr3t" not in caplog.text
        assert len(caplog.records) < 40  # not a line for each try of each thread


def test_a_redis_that_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, RedisCache(server.url, patience=30.0) as cache, server.client() as client:
        client.replicaof("127.0.0.1", free_port())  # its first is away: it takes no writes
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(cache.put, [entry("k")])
            time.sleep(0.5)
            assert not future.done()
            client.replicaof("NO", "ONE")
            assert future.result(30) == {"k": entry("k")}


def test_closing_ends_the_waiting(tmp_path: Path) -> None:
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0", patience=60.0)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(cache.get, ["k"])
        time.sleep(0.5)
        cache.close()
        assert isinstance(future.exception(5), UserError)


@pytest.mark.parametrize("patience", [-1.0, float("inf"), float("nan")])
def test_a_patience_that_cannot_be(patience: float) -> None:
    with pytest.raises(UserError, match="patience of a RedisCache must be at least 0 seconds and finite"):
        RedisCache(patience=patience)


def test_judgements_of_the_format_without_digests_stay_good(server: RedisServer) -> None:
    with RedisCache(server.url, prefix="older:") as cache, server.client() as client:
        for key in ("a", "b", "bad"):
            text = json.dumps(as_json(entry(key)))
            client.set(f"older:1:{key}", text if key != "bad" else text[:-1])
        assert cache.get(["a", "bad"]) == {"a": entry("a")}
        assert client.get("older:1:bad") is None
        assert cache.put([entry("a", "two"), entry("c")]) == {"a": entry("a"), "c": entry("c")}
        assert client.get("older:2:a") is None  # the first write stays
        assert sorted(found.key for found in cache.entries()) == ["a", "b", "c"]
        assert cache.damaged == 1


def test_a_redis_that_is_full_or_forgets(tmp_path: Path) -> None:
    entries = [entry(f"k{number}", "x" * 20_000) for number in range(300)]  # 6 MB
    with RedisServer(tmp_path, "", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        with RedisCache(server.url) as cache, pytest.raises(UserError, match=r"does not \(OutOfMemoryError.*maxmemory"):
            cache.put(entries)
        server.stop()
    with RedisServer(tmp_path, "", "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as server:
        with RedisCache(server.url) as cache, pytest.raises(UserError, match="set its maxmemory-policy to noeviction"):
            cache.put(entries)
        server.stop()


def test_entries_do_not_expire_and_are_plain_json(server: RedisServer) -> None:
    with RedisCache(server.url) as cache, server.client() as client:
        cache.put([entry("k")])
        assert client.ttl("fgvr:judgement:2:k") == -1
        assert client.get("fgvr:judgement:2:k").startswith(b'{"answer":"finch of one","digest":"')


def test_a_key_that_holds_something_else(server: RedisServer) -> None:
    with RedisCache(server.url, prefix="list:") as cache, server.client() as client:
        client.lpush("list:2:k", "something")
        assert cache.get(["k"]) == {}
        with pytest.raises(UserError, match="let nothing else use its keys"):
            cache.put([entry("k")])


def test_prefixes_keep_caches_apart(server: RedisServer) -> None:
    prefixes = ["a*:", "ab:", "a[b]:", "a?:", "a\\b:", "a^-:"]
    caches = [RedisCache(server.url, prefix=prefix) for prefix in prefixes]
    for prefix, cache in zip(prefixes, caches, strict=True):
        cache.put([entry("k", prefix)])
    with server.client() as client:
        client.set("ab:2:no key of ours", "x")
    for prefix, cache in zip(prefixes, caches, strict=True):
        assert list(cache.entries()) == [entry("k", prefix)]
        assert cache.damaged == 0
        cache.close()
    with server.client() as client:
        assert client.get("ab:2:no key of ours") == b"x"


def test_a_unix_socket(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's name has 107 characters at most
        place = f"{short}/redis.sock"
        with RedisServer(tmp_path, "", "--unixsocket", place), RedisCache(f"unix://{place}?db=3") as cache:
            assert cache.put([entry("k")]) == {"k": entry("k")}


def test_without_the_package_redis() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from fgvr.judges.caches.redis import RedisCache\n"
        "from fgvr.errors import UserError\n"
        "try: RedisCache('redis://localhost').get(['k'])\n"
        "except UserError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "A RedisCache needs the package redis: pip install 'fgvr[redis]'.\n", run.stderr
