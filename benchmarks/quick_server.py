"""A chat-completions server that costs next to nothing, for benchmarks: it is to be waited for, not to be in the way.

It answers after a fixed time, "wrong" to the answers named and "specific" to all others, and holds to the choices of a
request. Nothing but whole requests that aiohttp sends are understood. Prints its port.
Run: python benchmarks/quick_server.py SECONDS '["wrong answer", ...]'
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast


def response(body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def completion(text: str) -> bytes:
    """With log-probabilities of twenty tokens, as many as are asked for."""
    tops = [{"token": text[:2] if n == 0 else f"token {n}", "logprob": -0.1 - n, "bytes": None} for n in range(20)]
    logprobs = {"content": [{**tops[0], "top_logprobs": tops}]}
    message = {"role": "assistant", "content": text}
    return response({"choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}]})


MODELS = response({"data": [{"id": "judge"}]})
VERDICTS = {text: completion(text) for text in ("wrong", "specific")}


class Connection(asyncio.Protocol):
    def __init__(self, delay: float, wrong: set[str]) -> None:
        self.delay, self.wrong, self.received = delay, wrong, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length:")
        size = int(length.partition(b"\r\n")[0] or 0)
        if end and len(rest) >= size:
            self.received = rest[size:]
            self.answer(rest[:size])

    def answer(self, body: bytes) -> None:
        if not body:
            return self.transport.write(MODELS)
        asked = json.loads(body)
        lines = asked["messages"][-1]["content"].split("\n")
        if len(lines) < 5:  # no question, but a trial of what the server can do
            return self.transport.write(completion(asked.get("structured_outputs", {"choice": ["yes"]})["choice"][0]))
        said = "wrong" if json.loads(lines[2])["answer"] in self.wrong else "specific"
        self.loop.call_later(self.delay, self.transport.write, VERDICTS[said])


async def main(delay: float, wrong: set[str]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay, wrong), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), set(json.loads(sys.argv[2]))))
