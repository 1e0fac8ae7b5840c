"""A teacher behind any server that speaks OpenAI's protocol, such as Qwen2.5-VL-32B under vLLM."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import threading
from typing import Any

from PIL import Image

from fgvr.errors import UserError
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.patience import Unanswered
from fgvr.judges.served.replies import choice, content
from fgvr.judges.served.server import Server
from fgvr.thoughts.teacher import Asked, NoReply, Teacher

SERVER = Server(url_env="FGVR_TEACHER_URL", key_env="FGVR_TEACHER_KEY", concurrency=16, timeout=300.0)
log = logging.getLogger(__name__)


class ServedTeacher(Teacher):
    """Asks the model that a server has under the name `model`; photos travel within the request.

    Address and key come from FGVR_TEACHER_URL and FGVR_TEACHER_KEY, unless `server` says otherwise. `revision` names
    its weights: a kept reply serves the same one alone. `max_tokens` bounds a reply. `temperature` should leave room
    for another try to come out otherwise. Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        model: str,
        server: Server = SERVER,
        revision: str = "",
        max_tokens: int = 2048,
        temperature: float = 1.0,
    ) -> None:
        if not model.strip():
            raise UserError("teacher.model must be the name of the model that the server serves, got nothing")
        if max_tokens < 1 or not 0 <= temperature < math.inf:
            raise UserError(
                "teacher.max_tokens must be at least 1 and teacher.temperature at least 0, got "
                f"{max_tokens} and {temperature}"
            )
        self.model, self.revision, self.max_tokens, self.temperature = model, revision, max_tokens, temperature
        self.concurrency = server.concurrency
        self._chat = Chat(server, model, lambda name: None, "teacher")
        self._cut_off, self._lock = 0, threading.Lock()

    @property
    def identity(self) -> str:
        return json.dumps([self.model, self.revision, self.max_tokens, self.temperature])

    @property
    def told(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "model": self.model,
            "revision": self.revision,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    def reply(self, asked: Asked) -> str:
        try:
            said, whole = self._chat.run(self._chat.ask, lambda: self._body(asked), _read).result()
        except Unanswered as failure:
            reason = str(failure)
        else:
            with self._lock:
                self._cut_off += not whole
            return said
        raise NoReply(reason)

    def close(self) -> None:
        self._chat.close()
        with self._lock:
            count, self._cut_off = self._cut_off, 0
        if count:
            log.warning(
                "%d replies were cut off at teacher.max_tokens=%d, so parts may be missing: raise it", count,
                self.max_tokens,
            )  # fmt: skip

    def _body(self, asked: Asked) -> bytes:
        said: list[dict[str, object]] = [{"type": "text", "text": asked.text}]
        if asked.kind != "concepts":
            said.insert(0, {"type": "image_url", "image_url": {"url": _in_line(asked.photo.image)}})
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": said}],
                "max_tokens": self.max_tokens,
                "temperature": self.temperature,
                "seed": asked.number,
            }
        ).encode()


def _read(reply: Any) -> tuple[str, bool]:
    """The text, and whether it is all that the model would have said."""
    return content(reply), choice(reply).get("finish_reason") != "length"


def _in_line(image: bytes) -> str:
    """An encoded image as a url of its own bytes."""
    with Image.open(io.BytesIO(image)) as opened:
        kind = Image.MIME[opened.format or ""]
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"
