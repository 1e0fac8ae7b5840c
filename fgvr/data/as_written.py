"""Conversations that come with the data, trained on to the letter."""

from __future__ import annotations

import random
from typing import Any

from fgvr.data.own_question import OwnQuestion
from fgvr.errors import SampleError
from fgvr.types import Example


class AsWritten(OwnQuestion):
    """As `OwnQuestion`, with each example's own system text before it (`extra["system"]`) and its own reply as target.

    A reply is learned as it is stored (`extra["response"]`), white space too. An example without one is taught as
    `OpenWorld` teaches it. Raises SampleError for a reply that breaks the grammar or ends in something else than the
    label.
    """

    def messages(self, example: Example, rng: random.Random) -> list[dict[str, Any]]:
        said = super().messages(example, rng)
        system = example.extra.get("system")
        if system is None:
            return said
        return [{"role": "system", "content": [{"type": "text", "text": str(system)}]}, *said]

    def target(self, example: Example, rng: random.Random) -> str:
        told = self.response(example)
        if told is None:
            return super().target(example, rng)
        if told.text != example.label:
            raise SampleError(f"{example.uid}: the response must end in {example.label!r}, it ends in {told.text!r}")
        return str(example.extra["response"])
