"""A real chat-completions server that judges by rule and fails by script, in a thread or in a process of its own.

python tests/judge_server.py SCRIPT_AS_JSON PORT serves until it is killed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from aiohttp import web

VERDICTS = ("wrong", "abstain", "generic", "less specific", "specific", "more specific")
DATA = re.compile(r"^\{.*\}$", re.MULTILINE)
WORD = re.compile(r"the word (\w+)")
HOSTILE = "\x1b[2J\x1b]0;owned\x07"


def right(label: str, answer: str) -> str:
    """The server's true verdict, a function of the pair."""
    return VERDICTS[zlib.crc32(f"{label}\0{answer}".encode()) % 6]


@dataclass
class Script:
    """How a server behaves.

    `says` is "right", or the text of every reply to a question; `canaries` that to a canary, whatever `says` is, and
    empty where it makes no difference; `things` are the answers by which it knows one. `obeys` names the constraints
    that are applied, `refuses` the fields that a request must not have. `faults` are drawn at random with these
    probabilities, at most `most` for one pair; `first` come one each in the first requests about pairs, `on` in every
    request about an answer; `down` is the fault of every request whatever, `beyond` of what comes in a second after
    the first `rate` requests. See `Behaviour.fault` for the kinds.
    """

    says: str = "right"
    canaries: str = "wrong"
    things: tuple[str, ...] = field(default_factory=lambda: _things())
    model: str = "judge"
    key: str = ""
    delay: float = 0.0
    obeys: tuple[str, ...] = ("structured_outputs", "json_schema")
    refuses: tuple[str, ...] = ()
    lists_models: bool = True
    logprobs: Any = "right"
    retry_after: str = "0.05"
    faults: dict[str, float] = field(default_factory=dict)
    down: str = ""
    rate: float = math.inf
    beyond: str = "429"
    most: int = 2
    first: list[str] = field(default_factory=list)
    on: dict[str, str] = field(default_factory=dict)


def _things() -> tuple[str, ...]:
    from fgvr.judges.served.canaries import THINGS  # not by the server's own process, which need not wait for torch

    return THINGS


class Behaviour:
    """The application: what it is asked is counted, what it answers follows the script, which may change meanwhile."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.random = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.pairs: Counter[str] = Counter()
        self.spoilt: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        self.open = 0
        self.second = Counter[int]()
        self.peers: set[Any] = set()  # the ends of the connections that chat requests came by

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/stats", self.stats)
        return app

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"counts": self.counts, "pairs": self.pairs, "last": self.last})

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.counts["models"] += 1
        if self.script.key and request.headers.get("Authorization") != f"Bearer {self.script.key}":
            return _error(401, "who are you")
        if not self.script.lists_models:
            return _error(404, "no such path")
        return web.json_response({"object": "list", "data": [{"id": self.script.model, "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.open += 1
        self.peers.add(request.transport and request.transport.get_extra_info("peername"))
        self.counts["chat"] += 1
        self.counts["peak"] = max(self.counts["peak"], self.open)
        try:
            self.second[now := int(time.monotonic())] += 1
            if self.script.down or self.second[now] > self.script.rate:
                self.counts["turned away"] += 1
                return await self.fault(self.script.down or self.script.beyond, request)
            return await self.answer(request, json.loads(await request.read()))
        finally:
            self.open -= 1

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        script = self.script
        if script.key and request.headers.get("Authorization") != f"Bearer {script.key}":
            return _error(401, f"who is {request.headers.get('Authorization')}")
        if body["model"] != script.model:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if unknown := [name for name in script.refuses if name in body]:
            return _error(400, f"{body['model']}: unknown fields {unknown}")
        text = body["messages"][-1]["content"]
        found = DATA.search(text)
        if found is None:
            word = WORD.search(text)
            return web.json_response(_completion(self.held(body, word[1] if word else "Yes.")))
        pair = json.loads(found[0])
        canary = pair["answer"] in script.things
        self.last = {"body": body, "headers": dict(request.headers)}
        name = json.dumps([pair["label"], pair["answer"]])
        self.pairs[name] += 1
        self.counts["canaries"] += canary
        fault = self.drawn(pair["answer"], name)
        if fault:
            self.counts["faults"] += 1
            self.counts[fault] += 1
            return await self.fault(fault, request)
        await asyncio.sleep(script.delay)
        said = script.canaries if canary and script.canaries else script.says
        said = right(pair["label"], pair["answer"]) if said == "right" else said
        return web.json_response(_completion(self.held(body, said), self.logprobs(body, said)))

    def drawn(self, answer: str, name: str) -> str:
        if answer in self.script.on:
            return self.script.on[answer]
        if self.script.first:
            return self.script.first.pop(0)
        at = self.random.random()
        for kind, share in self.script.faults.items():
            if (at := at - share) < 0 and self.spoilt[name] < self.script.most:
                self.spoilt[name] += 1
                return kind
        return ""

    def held(self, body: dict[str, Any], said: str) -> str:
        """What the model may say under the constraints of the request that this server obeys."""
        if "structured_outputs" in body and "structured_outputs" in self.script.obeys:
            choices = body["structured_outputs"]["choice"]
            return said if said in choices else choices[0]
        if "response_format" in body and "json_schema" in self.script.obeys:
            choices = body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"]
            return json.dumps({"verdict": said if said in choices else choices[0]})
        return said

    def logprobs(self, body: dict[str, Any], said: str) -> Any:
        if not body.get("logprobs"):
            return None
        if self.script.logprobs != "right":
            return self.script.logprobs
        # the first token has nine tenths of the probability, two other tokens half each of the rest
        tops = [(said[:2], 0.9), ("The", 0.05), ("w" if said[0] != "w" else "gener", 0.05)]
        tokens = [{"token": token, "logprob": math.log(share)} for token, share in tops]
        return {"content": [{**tokens[0], "top_logprobs": tokens}]}

    async def fault(self, kind: str, request: web.Request) -> web.StreamResponse:
        """A status such as "500", "400:text" or "403:<page>"; or html, hang, drop, reset, drip, huge, gzip, redirect,
        echo; or what the model says, "says:..."; or the whole body, "raw:...".
        """
        if kind.startswith("says:"):
            return web.json_response(_completion(kind.removeprefix("says:")))
        if kind.startswith("raw:"):
            return web.Response(body=kind.removeprefix("raw:").encode(), content_type="application/json")
        if kind == "429":
            return _error(429, "slow down", {"Retry-After": self.script.retry_after})
        if kind[3:].startswith(":<"):
            return web.Response(text=kind[4:], status=int(kind[:3]), content_type="text/html")
        if kind[:3].isdigit():
            return _error(int(kind[:3]), kind[4:] or f"fault {kind}")
        if kind == "echo":
            return _error(500, f"{HOSTILE}header {request.headers.get('Authorization')} seen{HOSTILE}")
        if kind == "html":
            return web.Response(text="<html><body>Welcome to the proxy</body></html>", content_type="text/html")
        if kind == "redirect":
            return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
        if kind == "gzip":
            return web.Response(body=_bomb(), headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
        return await self.stream(kind, request)

    async def stream(self, kind: str, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if kind == "hang":
            await asyncio.sleep(3600)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        whole = json.dumps(_completion("specific")).encode()
        if kind == "drop":
            transport.abort()
            return response
        if kind != "huge":
            response.content_length = len(whole)
        await response.prepare(request)
        try:
            if kind == "reset":
                await response.write(whole[: len(whole) // 2])
                transport.abort()
            elif kind == "drip":
                for place in range(len(whole)):
                    await response.write(whole[place : place + 1])
                    await asyncio.sleep(0.2)
            else:
                for _ in range(100):
                    await response.write(b" " * 1_000_000)
        except ConnectionError:
            pass
        return response


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": text, "code": status}}, status=status, headers=headers)


def _completion(text: str, logprobs: Any = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None, "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    usage = {"prompt_tokens": 900, "completion_tokens": 3, "total_tokens": 903}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}


@cache
def _bomb() -> bytes:
    return gzip.compress(json.dumps(_completion("specific")).encode() + b" " * 50_000_000, 1)


class JudgeServer:
    """Serves while it is entered; `kill` ends it as a crash does, `start` brings it back at the same port."""

    def __init__(self, script: Script | None = None, process: bool = False) -> None:
        self.behaviour = Behaviour(script or Script())
        self.process, self.port = process, 0
        self._popen: subprocess.Popen[str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def script(self) -> Script:
        """Of a server in a thread, to be changed at will; of one in a process it is read at its start."""
        return self.behaviour.script

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        if self.process:
            command = [sys.executable, str(Path(__file__)), json.dumps(asdict(self.script)), str(self.port)]
            self._popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self._popen.stdout is not None
            self.port = int(self._popen.stdout.readline())
        else:
            ready = threading.Event()
            self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
            self._thread.start()
            assert ready.wait(10)

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            assert self._popen.stdout is not None
            self._popen.stdout.close()
            self._popen = None
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None

    def stats(self) -> dict[str, Any]:
        """counts (chat, canaries, peak, each fault), pairs (JSON of label and answer: requests), the last request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as reply:
            return json.loads(reply.read())

    def count(self, name: str) -> int:
        return self.stats()["counts"].get(name, 0)

    def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()
        runner = self._loop.run_until_complete(_listen(self.behaviour, self.port))
        self.port = runner.addresses[0][1]
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(_abort(runner))
        self._loop.close()


async def _listen(behaviour: Behaviour, port: int) -> web.AppRunner:
    runner = web.AppRunner(behaviour.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, backlog=1024).start()
    return runner


async def _abort(runner: web.AppRunner) -> None:
    server = runner.server
    for connection in list(server.connections if server is not None else ()):
        if connection.transport is not None:
            connection.transport.abort()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await runner.cleanup()


async def _forever(script: Script, port: int) -> None:
    runner = await _listen(Behaviour(script), port)
    print(runner.addresses[0][1], flush=True)
    while True:
        await asyncio.sleep(3600)


def wait_until(holds: Any, seconds: float = 10.0) -> None:
    """Waits until `holds()`; fails after some seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(_forever(Script(**json.loads(sys.argv[1])), int(sys.argv[2])))
