"""A real chat-completions server that writes about the Aviary's birds as their own teacher does."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from fgvr.thoughts.aviary_teacher import AviaryTeacher
from fgvr.thoughts.teacher import Asked, Photo

KINDS = (("concepts", "List"), ("description", "Describe"))


class TeacherServer:
    """Serves while it is entered; `asked` counts requests, `delay` is in seconds, `says` every thought instead.

    In that {label} stands for the right answer. `silent` is a kind of question that is answered with nothing, `status`
    of each reply that of HTTP, `finish` why it ends where it does.
    """

    def __init__(
        self, mistakes: float = 0.0, delay: float = 0.0, says: str = "", silent: str = "", status: int = 200,
        finish: str = "stop",
    ) -> None:  # fmt: skip
        self.teacher, self.delay, self.says, self.asked, self.shown = AviaryTeacher(mistakes), delay, says, 0, 0
        self.silent, self.status, self.finish = silent, status, finish
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"of": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write(self, body: dict[str, Any]) -> str:
        parts = body["messages"][0]["content"]
        if isinstance(parts, str):
            return "Yes."  # to whoever asks whether the server is well
        text = next(part["text"] for part in parts if part["type"] == "text")
        with self._lock:
            self.asked += 1
            self.shown += sum(part["type"] == "image_url" for part in parts)
        time.sleep(self.delay)
        kind = next((kind for kind, word in KINDS if text.startswith(word)), "thought")
        if kind == self.silent:
            return " "
        if kind == "description":
            return f"A bird, drawn. Seed {body['seed']}."
        found = re.search(r"by which a (.+?) can|right answer is (.+?)\.", text)
        label = (found and (found[1] or found[2])) or ""
        if kind == "thought" and self.says:
            return self.says.replace("{label}", label)
        return self.teacher.reply(Asked(kind, text, Photo(label, label, (), b""), body["seed"]))  # pyright: ignore[reportArgumentType]


class _Handler(BaseHTTPRequestHandler):
    of: TeacherServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": self.of.write(body)}
        choice = {"index": 0, "message": message, "finish_reason": self.of.finish}
        data = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(self.of.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return
