"""What a chat-completions server can do for a judge, found out by asking it: a server may ignore what it is sent."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from fgvr.errors import UserError
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.patience import Unanswered
from fgvr.judges.served.prompt import Constraint, Decoding, Limit, request
from fgvr.judges.served.replies import content

log = logging.getLogger(__name__)

Constrain = Literal["auto", "structured_outputs", "json_schema", "none"]
LIMITS: tuple[Limit, ...] = ("max_tokens", "max_completion_tokens")
KINDS: tuple[Constraint, ...] = ("structured_outputs", "json_schema")
NONSENSE = ("zorvik", "quellan", "mubrat")
TASK = "Reply with the word apple and with nothing else."
SAID = {
    "structured_outputs": "holds the model to the six verdicts (structured_outputs)",
    "json_schema": "holds the model to the six verdicts (response_format json_schema)",
    "none": "leaves the model free in what it writes: a reply that is no verdict is asked for again, then left out",
}


async def probe(chat: Chat, model: str, constrain: Constrain, wished: Decoding) -> Decoding:
    """How to have this model answer here, as `wished` where the server allows. Waits as long as its patience goes.

    Raises UserError when the server does not answer, does not serve the model, takes no temperature or seed that is
    wished for, or ignores the `constrain` asked for.
    """
    chat.forget_outage()
    await _refuse_unserved(chat, model)
    decoding = await _plain(chat, model, wished)
    if await _said(chat, model, thinking_off := replace(decoding, thinking_off=True)) is not None:
        decoding = thinking_off
    for kind in KINDS if constrain == "auto" else () if constrain == "none" else (constrain,):
        if (found := await _constrained(chat, model, replace(decoding, constraint=kind))) is not None:
            decoding = found
            break
    if constrain not in ("auto", decoding.constraint):
        raise UserError(
            f"judge.constrain is {constrain}, but the judge's server {chat.url} ignores it, as vLLM does behind a "
            "reasoning parser: start the server without one, or set judge.constrain to auto"
        )
    log.info("the judge's server %s %s", chat.url, SAID[decoding.constraint])
    return decoding


async def _plain(chat: Chat, model: str, wished: Decoding) -> Decoding:
    """What is wished for, with the limit of tokens under the name that the server knows."""
    for limit in LIMITS:
        if await _said(chat, model, found := replace(wished, limit=limit)) is not None:
            return found
    for limit in LIMITS:
        if await _said(chat, model, replace(wished, limit=limit, temperature=None, seed=None)) is not None:
            raise UserError(
                f"the judge's server {chat.url} must take judge.temperature {wished.temperature} and judge.seed "
                f"{wished.seed}, but it does not, only none: set those to null"
            )
    try:
        await chat.ask(partial(_asked, model, wished), content)
    except Unanswered as error:
        problem = str(error)
    else:
        return wished
    raise UserError(f"the judge's server {chat.url} must answer a plain request, but: {problem}; see its log")


async def _refuse_unserved(chat: Chat, model: str) -> None:
    try:
        served = await chat.models()
    except Unanswered as error:
        if error.outage:
            raise UserError(
                f"the judge's server {chat.url} must answer, but: {error}; start it, or mend its address"
            ) from None
        return  # not every server tells
    if model not in served:
        names = ", ".join(repr(name[:100]) for name in served[:10]) or "none"
        raise UserError(f"judge.model must be one that {chat.url} serves, got {model!r}: it serves {names}")


async def _constrained(chat: Chat, model: str, decoding: Decoding) -> Decoding | None:
    """The decoding, with log-probabilities where they can be had, if the server obeys its constraint, else None."""
    wishes = (20, 0) if decoding.constraint == "structured_outputs" else (0,)
    for wish in wishes:
        tried = replace(decoding, logprobs=wish)
        if (said := await _said(chat, model, tried)) is not None:
            return tried if _obeys(said, decoding.constraint) else None
    return None


def _obeys(said: str, kind: Constraint) -> bool:
    if kind == "structured_outputs":
        return said.strip() in NONSENSE
    try:
        members: Any = json.loads(said)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and list(members) == ["verdict"] and members["verdict"] in NONSENSE


async def _said(chat: Chat, model: str, decoding: Decoding) -> str | None:
    """What is replied with these fields in the request, None where they are refused. Raises UserError in an outage."""
    try:
        return await chat.ask(partial(_asked, model, decoding), content, probing=True)
    except Unanswered as error:
        if error.outage:
            raise UserError(
                f"the judge's server {chat.url} must answer, but: {error}; start it, or mend its address"
            ) from None
        return None


def _asked(model: str, decoding: Decoding) -> bytes:
    return request(model, [("user", TASK)], decoding.fields(NONSENSE))
