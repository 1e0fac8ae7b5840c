"""The LLM judge against a real vLLM server on the CPU, with a tiny model that babbles unless it is held to choices."""

from __future__ import annotations

import asyncio
import math
import random
import string
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import product
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web
from ports import free_port
from tiny_chat_model import write_tiny_chat_model
from vllm_server import serving

from fgvr.errors import UserError
from fgvr.judges.base import Judgement, Unjudged
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.prompt import SYSTEM, Decoding, request
from fgvr.judges.served.replies import content
from fgvr.judges.served.server import Server
from fgvr.tools.judgements import Merged, export_judgements, merge_judgements
from fgvr.types import Verdict

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

LEANINGS = {str(verdict): 9.0 if verdict is Verdict.WRONG else 7.0 for verdict in Verdict}  # nats
COLOURS = ("amber", "ashen", "azure", "bronze", "coral", "ivory", "jade", "russet", "sable", "scarlet")
PARTS = ("browed", "crested")
BIRDS = ("bunting", "dunnock", "finch", "heron", "linnet", "ouzel", "plover", "siskin", "twite", "wryneck")
PAIRS = [("Speckled Nightjar", f"{colour}-{part} {bird}") for colour, part, bird in product(COLOURS, PARTS, BIRDS)]


class CountingProxy:
    """Passes requests on to vLLM, in a thread of its own, and counts how many are open at once."""

    def __init__(self, target: str) -> None:
        self.target, self.requests, self.open, self.most_open = target, 0, 0, 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.url = ""

    def __enter__(self) -> CountingProxy:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._open())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.run_until_complete(self._session.close())
        self._loop.close()

    async def _open(self) -> None:
        self._session = ClientSession(connector=TCPConnector(limit=0))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}/v1"

    async def _pass_on(self, asked: web.Request) -> web.Response:
        self.requests += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            url, body = f"{self.target}{asked.path}", await asked.read()
            headers = {"Content-Type": "application/json"}
            async with self._session.request(asked.method, url, data=body, headers=headers) as reply:
                return web.Response(status=reply.status, body=await reply.read(), content_type=reply.content_type)
        finally:
            self.open -= 1


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that serves a model `tiny`, which leans to "wrong" and, left free, never stops."""
    folder = tmp_path_factory.mktemp("vllm")
    write_tiny_chat_model(folder / "model", SYSTEM, LEANINGS)
    with serving(folder / "model", folder) as address:
        yield address


def test_the_server_keeps_to_the_choices_200_times_of_200(vllm: str) -> None:
    chance, counted = random.Random(0), Counter[str]()
    chat = Chat(Server(url=f"{vllm}/v1", concurrency=16), "tiny", lambda name: counted.update([name]))
    choices = [tuple("".join(chance.choices(string.ascii_lowercase, k=6)) for _ in range(3)) for _ in range(200)]

    def say(decoding: Decoding, among: tuple[str, ...]) -> Future[str]:
        body = request("tiny", [("user", f"Say one of {', '.join(among)}.")], decoding.fields(among))
        return chat.run(chat.ask, lambda: body, content)

    asked = [say(Decoding("structured_outputs"), among) for among in choices]
    replies = [reply.result(120) for reply in asked]
    places = Counter(among.index(said) for said, among in zip(replies, choices, strict=True))
    assert sum(places.values()) == 200
    assert set(places) == {0, 1, 2}
    assert counted == {"judge/requests": 200}
    assert not any(say(Decoding(), among).result(120) in among for among in choices[:5])  # left free, it says none
    chat.close()


def test_the_judge_from_the_first_question_to_a_replay_without_a_server(vllm: str, tmp_path: Path) -> None:
    cache = SQLiteCache(tmp_path / "judgements.sqlite")
    with CountingProxy(vllm) as proxy:
        server = Server(url=proxy.url, concurrency=7)
        judge = LLMJudge("tiny", server, revision="r1", cache=cache)
        found = judge.verdicts(PAIRS)
        tally = judge.tally()
        judge.release()
        wrong = [entry for entry in found if isinstance(entry, Judgement) and entry.verdict is Verdict.WRONG]
        assert len(wrong) == len(PAIRS) == 200  # what the model leans to, 200 times of 200
        shares = [entry.distribution for entry in wrong if entry.distribution is not None]
        assert len(shares) == 200
        for share in shares:
            assert math.isclose(math.fsum(share.values()), 1, abs_tol=1e-9)
            assert set(share) == set(Verdict)
            assert max(share, key=share.__getitem__) is Verdict.WRONG
            assert min(share.values()) > 0
        assert len({tuple(share.values()) for share in shares}) > 100  # the model's own, each a little different
        assert tally["judge/requests"] == proxy.requests
        assert tally["judge/pairs"] == 200
        assert (
            tally["judge/screened"] == tally["judge/cached"] == tally["judge/unjudged"] == tally["judge/retries"] == 0
        )
        assert tally["judge/canaries"] >= 30
        assert tally["judge/canaries_passed"] == 0
        assert proxy.most_open == 7

        again = LLMJudge("tiny", server, revision="r1", cache=cache)
        again.check()  # whether the server is still fit to be asked
        before = proxy.requests
        assert again.verdicts(PAIRS) == found
        assert proxy.requests == before
        assert again.tally()["judge/cached"] == 200
        again.release()

        newer = LLMJudge("tiny", server, revision="r2", cache=cache)
        newer.verdicts(PAIRS[:3])
        assert newer.tally()["judge/cached"] == 0  # other weights, other verdicts
        newer.release()
        last = proxy.requests

        export_judgements(cache, tmp_path / "judgements.jsonl")
        elsewhere = SQLiteCache(tmp_path / "elsewhere.sqlite")
        assert merge_judgements(elsewhere, tmp_path / "judgements.jsonl") == Merged(203, 0, ())
        replay = LLMJudge("tiny", server, revision="r1", cache=elsewhere, offline=True)
        *known, unknown = replay.verdicts([*PAIRS, ("Speckled Nightjar", "mottled godwit")])
        assert known == found
        assert isinstance(unknown, Unjudged)
        replay.release()
        assert proxy.requests == last


def test_left_free_the_model_babbles_and_is_stopped(vllm: str, tmp_path: Path) -> None:
    server = Server(url=f"{vllm}/v1", attempts=1)
    judge = LLMJudge("tiny", server, constrain="none", cache=SQLiteCache(tmp_path / "judgements.sqlite"))
    with pytest.raises(UserError, match="must give verdicts, but it has none on 20 of 20"):
        judge.verdicts(PAIRS[:5])
    judge.release()
