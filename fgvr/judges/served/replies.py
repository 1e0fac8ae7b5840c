"""How a reply is read: strictly, whatever the server promised, and an error in it as what it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgvr.types import Verdict

VERDICTS = {str(verdict): verdict for verdict in Verdict}
BEGINNINGS = {name[:length]: each for name, each in VERDICTS.items() for length in range(1, len(name) + 1)}
CLOSING_MARKS = " \t\r\n\"'`“”‘’«»"
# a chat template may have opened the thoughts in the prompt: then no tag opens them in the reply, nor does a wrapping
THOUGHT = re.compile(r"""(?:<think>|(?!```|["{]))(?:(?!</?think>).)*</think>""", re.DOTALL)
FENCE = re.compile(r"```[a-z]*\s*\n(?P<inside>[^`]*)\n\s*```")
NAMED = re.compile(r"(?:\*\*verdict:\*\*|\*\*verdict\*\*:|verdict:)", re.IGNORECASE)
BOLD = re.compile(r"\*\*(?P<inside>[^*]*)\*\*")
MOST_TOKENS = 1_000_000  # of one request
TOO_MUCH = re.compile(r"rate.?limit|too many requests|overloaded", re.IGNORECASE)


class Faulty(ValueError):
    """A reply that is no completion, by the server's fault; `status` is the HTTP status that it amounts to."""

    def __init__(self, reason: str, status: int = 500) -> None:
        super().__init__(reason)
        self.status = status


class Filtered(ValueError):
    """The server will not have the model answer this."""


@dataclass(frozen=True)
class Reply:
    """A verdict as the model gave it, with the probabilities of all six where the server told them."""

    verdict: Verdict
    distribution: Mapping[Verdict, float] | None = None


def parsed(body: bytes) -> Any:
    """The JSON of a reply. Raises Faulty for anything else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Faulty(f"it is no JSON: {error}") from None


def tokens_used(reply: Any, otherwise: float) -> float:
    """What a reply says of itself; `otherwise` where it says nothing that can be believed."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and 0 <= tokens <= MOST_TOKENS else otherwise


def choice(reply: Any) -> dict[str, Any]:
    """The one choice of a chat completion. Raises Faulty for anything else: an error, none, several, an odd shape."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if isinstance(reply, dict) and not choices and (reply.get("error") or reply.get("object") == "error"):
        raise _error(reply.get("error") or reply)
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Faulty("it has not exactly one choice")
    if choices[0].get("error") or choices[0].get("finish_reason") == "error":
        raise _error(choices[0].get("error"))
    if not isinstance(choices[0].get("message"), dict):
        raise Faulty("its choice has no message")
    return choices[0]


def _error(error: Any) -> Faulty:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return Faulty("it is an error", code)
    return Faulty("it is an error", 429 if TOO_MUCH.search(json.dumps(error)) else 500)


def content(reply: Any) -> str:
    """The text of a chat completion. Raises Faulty as `choice`, Filtered, and ValueError where there is no text."""
    only = choice(reply)
    text = only["message"].get("content")
    if only.get("finish_reason") == "content_filter":
        raise Filtered("its content was filtered")
    if isinstance(text, list):
        text = _joined(text)
    if not isinstance(text, str):
        raise ValueError("its message has no text, as behind a reasoning parser")
    return text


def _joined(parts: list[Any]) -> str | None:
    """The text of a message in parts, of which those before it may be thoughts; None where there are others."""
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    while kinds and kinds[0] in ("thinking", "reasoning"):
        kinds, parts = kinds[1:], parts[1:]
    texts = [part.get("text") for kind, part in zip(kinds, parts, strict=True) if kind == "text"]
    whole = len(texts) == len(parts) > 0 and all(isinstance(text, str) for text in texts)
    return "".join(map(str, texts)) if whole else None


def read(reply: Any, with_distribution: bool) -> Reply:
    """Raises ValueError for a reply that is not one verdict, Faulty and Filtered as `content`."""
    text = content(reply)
    cut = choice(reply).get("finish_reason") == "length"
    try:
        found = verdict(text, whole=not cut)
    except ValueError as error:
        raise ValueError(f"{error}; it was cut off: raise judge.max_tokens" if cut else str(error)) from None
    # the first token tells the verdict's probability only where the verdict comes first
    plain = text.strip().casefold() in VERDICTS
    return Reply(found, distribution(reply) if with_distribution and plain else None)


def verdict(text: str, whole: bool = True) -> Verdict:
    """The verdict that the whole text is, alone or as {"verdict": ...}. Raises ValueError for any other text.

    There may be thoughts before it up to a </think>, the only one, unless the text is not `whole`, a fence around it,
    "Verdict:" before it, and bold, quotation marks and a full stop.
    """
    said = text.strip()
    if whole and (thought := THOUGHT.match(said)):
        said = said[thought.end() :].strip()
    if fence := FENCE.fullmatch(said):
        said = fence["inside"].strip()
    if said.startswith("{"):
        members = json.loads(said, object_pairs_hook=lambda pairs: pairs)
        if len(members) != 1 or members[0][0] != "verdict" or not isinstance(members[0][1], str):
            raise ValueError("its object is not one verdict")
        said = _bare(members[0][1])
    else:
        said = _bare(_without_bold(said))
        if named := NAMED.match(said):
            said = _bare(_without_bold(said[named.end() :]))
    said = said.replace("_", " ").casefold()
    if said not in VERDICTS:
        raise ValueError("its text is no verdict")
    return VERDICTS[said]


def _without_bold(text: str) -> str:
    bold = BOLD.fullmatch(_bare(text))
    return bold["inside"] if bold else text


def _bare(text: str) -> str:
    return text.strip(CLOSING_MARKS).removesuffix(".").strip(CLOSING_MARKS)


def distribution(reply: Any) -> dict[Verdict, float] | None:
    """Probabilities of the six verdicts by the first token, whose beginning tells them apart; None where unknown.

    What other tokens would have had is shared out in proportion.
    """
    try:
        tokens = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = [(str(token["token"]).strip(), float(token["logprob"])) for token in tokens]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    shares = dict.fromkeys(Verdict, 0.0)
    for beginning, logprob in found:
        if not math.isfinite(logprob) or logprob > 0.01:
            return None
        if (each := BEGINNINGS.get(beginning)) is not None:
            shares[each] += math.exp(logprob)
    total = math.fsum(shares.values())
    return {each: share / total for each, share in shares.items()} if total > 0 else None
