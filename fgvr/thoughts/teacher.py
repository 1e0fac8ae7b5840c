"""Who writes: a teacher is asked about one photo at a time, and knows nothing of what becomes of its replies."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

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
    """Writes what is asked for, in any number of threads at once."""

    concurrency = 1  # threads that may ask at once

    @property
    @abstractmethod
    def identity(self) -> str:
        """What the replies depend on besides the question: a reply that is kept serves the same teacher alone."""

    @abstractmethod
    def reply(self, asked: Asked) -> str:
        """Raises NoReply where there is none, and UserError where there will be none of anything."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Lets go of what it holds."""
