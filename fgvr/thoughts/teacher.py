"""Who writes: a teacher is asked about one photo at a time, and knows nothing of what becomes of its replies."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from fgvr.thoughts.concepts import Encoder

Kind = Literal["description", "concepts", "thought"]


@dataclass(frozen=True)
class Photo:
    """A labelled photo; `siblings` are the other classes below the same parent. `image` is encoded."""

    uid: str
    label: str
    siblings: tuple[str, ...]
    image: bytes


@dataclass(frozen=True)
class Asked:
    """What is asked: `text` for a reader, the rest for a teacher that needs no words. `number` tells repeats apart.

    `photo` is shown unless concepts of its class are asked for.
    """

    kind: Kind
    text: str
    photo: Photo
    number: int
    concepts: tuple[str, ...] = ()

    def key(self, teacher: str) -> str:
        """What the reply depends on, as a hex sha256; concepts are those of a class, whatever the photo."""
        image = "" if self.kind == "concepts" else hashlib.sha256(self.photo.image).hexdigest()
        parts = [teacher, self.kind, self.text, image, self.number]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class NoReply(Exception):
    """The teacher has said nothing about this one, for the reason given; others may fare better."""


class Teacher(ABC):
    """Writes what is asked for. A subclass says how one question is answered, or several together."""

    concurrency = 1  # threads that may ask at once

    @property
    @abstractmethod
    def identity(self) -> str:
        """What the replies depend on besides the question: a reply that is kept serves the same teacher alone."""

    @property
    def told(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"kind": type(self).__name__, "identity": self.identity}

    @abstractmethod
    def reply(self, asked: Asked) -> str:
        """Raises NoReply where there is none, and UserError where there will be none of anything."""

    def replies(self, asked: Sequence[Asked]) -> Iterator[list[tuple[int, str | NoReply]]]:
        """The replies to all of these by place, in parts, each as soon as it is there; UserError as `reply`."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            places = {pool.submit(self._said, one): place for place, one in enumerate(asked)}
            try:
                for done in as_completed(places):
                    yield [(places[done], done.result())]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()  # so that nobody waits for what is under way
                raise

    def encoder(self) -> Encoder | None:
        """What compares texts where no other encoder is given; None where the teacher has none of its own."""
        return None

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Ends what is under way and lets go of what it holds; it may be asked again."""

    def _said(self, asked: Asked) -> str | NoReply:
        try:
            return self.reply(asked)
        except NoReply as failure:
            return failure
