"""Where a judge's server is, or a teacher's, and how much is asked of it. Addresses and keys are read when needed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fgvr.errors import UserError
from fgvr.judges.served.quoting import quoted


@dataclass(frozen=True)
class Server:
    """Where an OpenAI-compatible server is, and how it is asked.

    `url` is its base ("http://node:8001/v1"); where it is empty, the environment variable `url_env` holds it, so that
    it may change from job to job. The key, if the server wants one, is in `key_file`, or else in the variable
    `key_env`. At most `concurrency` requests are open at once; `timeout` is seconds for one request in all. An item is
    given up after `attempts` failures of its own; an outage is waited for until nothing good was heard for `patience`
    seconds. `requests_per_minute` and `tokens_per_minute` bound what one process asks. Raises UserError for numbers out
    of range and for a url with user, password, query or fragment.
    """

    url: str = ""
    url_env: str = "FGVR_JUDGE_URL"
    key_env: str = "FGVR_JUDGE_KEY"
    key_file: Path | None = None
    concurrency: int = 64
    timeout: float = 60.0
    attempts: int = 6
    patience: float = 120.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "requests_per_minute", "tokens_per_minute"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UserError(f"server.{name} must be at least 1, got {number}")
        if not (0 < self.timeout < math.inf and 0 <= self.patience < math.inf):
            raise UserError(
                "server.timeout must be above 0 seconds and server.patience at least 0, both finite, "
                f"got {self.timeout} and {self.patience}"
            )
        if self.url:
            _base(self.url, "server.url")

    def base(self, whose: str = "judge") -> str:
        """The url without a closing slash. Raises UserError where there is none."""
        url = self.url or os.environ.get(self.url_env, "")
        if not url:
            raise UserError(
                f"the {whose}'s server must have an address, but server.url is empty and the environment variable "
                f"{self.url_env} too: set one of them, such as http://node:8001/v1"
            )
        return _base(url, "server.url" if self.url else self.url_env)

    def key(self, whose: str = "judge") -> str:
        """The key, empty where there is none. Raises UserError for a file that cannot be read and for an odd key."""
        where = self.key_env if self.key_file is None else str(self.key_file)
        try:
            text = os.environ.get(where, "") if self.key_file is None else Path(where).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = type(error).__name__
        else:
            text = text.strip()
            if text.isascii() and text.isprintable() and " " not in text:
                return text
            raise UserError(f"the {whose}'s key must be one word of ASCII characters, but what {where} holds is not")
        raise UserError(f"server.key_file must be a text file that can be read, but {where} is not ({problem})")


def _base(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and url.isprintable() and " " not in url
    except ValueError:
        parts, sound = None, False
    if parts is None or "@" in url or parts.query or parts.fragment:
        raise UserError(
            f"{where} must be a base url such as http://node:8001/v1, without user, password, query or fragment, for "
            "it is shown in logs: a key belongs into server.key_file or the variable that server.key_env names"
        )
    if not sound:
        raise UserError(f"{where} must be a base url such as http://node:8001/v1, got {quoted(url)!r}")
    return url.rstrip("/")
