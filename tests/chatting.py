"""A chat with a judge's server, without a judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from fgvr.judges.served.chat import Chat
from fgvr.judges.served.prompt import request
from fgvr.judges.served.replies import content
from fgvr.judges.served.server import Server


def opened(server: Server, counts: list[str] | None = None) -> Iterator[Chat]:
    chat = Chat(server, "judge", (counts if counts is not None else []).append)
    yield chat
    chat.close()


def body(answer: str) -> bytes:
    data = json.dumps({"label": "Robin", "answer": answer})
    return request("judge", [("user", f"mark\n{data}\nmark")], {})


def ask(chat: Chat, answer: str = "Wren", probing: bool = False) -> str:
    return chat.run(chat.ask, partial(body, answer), content, probing).result(30)


def strict(reply: Any) -> str:
    raise ValueError(f"no verdict: {content(reply)}")
