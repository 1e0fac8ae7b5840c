"""Questions asked of a model in batches, canaries among them: no reply is believed before they are back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial

from fgvr.errors import UserError
from fgvr.judges.base import Unjudged
from fgvr.judges.served.canaries import EVERY, FIRST, LABELS, Watch, unrelated
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.patience import Unanswered
from fgvr.judges.served.prompt import Prompt, Question
from fgvr.judges.served.replies import Reply


class Asker:
    """Asks one model, and watches what it makes of canaries. Its coroutines run on the event loop of `chat`.

    `count` is told of "judge/canaries" that were sent and "judge/canaries_passed".
    """

    def __init__(self, chat: Chat, count: Callable[[str, int], None]) -> None:
        self.chat, self.count = chat, count
        self.watch = Watch()
        self._draw = random.Random(0)

    async def examine(self, prompt: Prompt) -> None:
        """Tries the model on canaries alone, twenty of them.

        Raises UserError when it finds more than one right, and when it has no verdict on half of them.
        """
        self.watch.clear()
        labels = list(prompt.taxonomy.paths) if prompt.taxonomy is not None else LABELS
        canaries = self._canaries(prompt, labels, FIRST)
        replies = await self._all(prompt, canaries)
        missing = [reply.reason for reply in replies if isinstance(reply, Unjudged)]
        if 2 * len(missing) >= FIRST:
            raise UserError(
                f"the judge {self.chat.model} must give verdicts, but it has none on {len(missing)} of {FIRST} pairs, "
                f"the first for this reason: {missing[0]}"
            )
        self._remember(canaries, replies)
        self.watch.refuse_if_bad(self.chat.model)

    async def batch(self, prompt: Prompt, questions: Sequence[Question]) -> list[Reply | Unjudged]:
        """One entry per question, in order. Raises UserError when too many canaries pass, and for a wrong set-up."""
        labels = list(dict.fromkeys(question.label for question in questions))
        canaries = self._canaries(prompt, labels, -(-len(questions) // EVERY))
        mixed: list[Question] = [*questions, *canaries]
        order = self._draw.sample(range(len(mixed)), len(mixed))
        by_place = dict(zip(order, await self._all(prompt, [mixed[n] for n in order]), strict=True))
        replies = [by_place[n] for n in range(len(mixed))]
        replies, watched = replies[: len(questions)], replies[len(questions) :]
        judged, passed = self._remember(canaries, watched)
        if passed or not (judged or _outage(watched)):
            # one slip is no proof of a bad judge, but it is looked into before anything is believed
            more = self._canaries(prompt, labels, FIRST if passed else len(canaries))
            watched = await self._all(prompt, more)
            judged += self._remember(more, watched)[0]
        self.watch.refuse_if_bad(self.chat.model)
        if judged:
            return replies
        reason = next((reply.reason for reply in watched if isinstance(reply, Unjudged)), "")
        unjudged = Unjudged(f"no canary of its batch was judged: {reason}", _outage(watched))
        return [unjudged] * len(questions)

    def _canaries(self, prompt: Prompt, labels: Sequence[str], number: int) -> list[Question]:
        drawn = [self._draw.choice(labels) for _ in range(number)]
        self.count("judge/canaries", number)
        return [prompt.question(label, unrelated(label, prompt.hint(label), self._draw)) for label in drawn]

    def _remember(self, canaries: Sequence[Question], replies: Sequence[Reply | Unjudged]) -> tuple[int, int]:
        """How many were judged and how many passed; one that was not judged says nothing of the judge."""
        judged = [(c, reply.verdict) for c, reply in zip(canaries, replies, strict=True) if isinstance(reply, Reply)]
        passed = self.watch.add([(c.label, c.answer) for c, _ in judged], [verdict for _, verdict in judged])
        self.count("judge/canaries_passed", passed)
        return len(judged), passed

    async def _all(self, prompt: Prompt, questions: Sequence[Question]) -> list[Reply | Unjudged]:
        tasks = [asyncio.create_task(self._one(prompt, question)) for question in questions]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _one(self, prompt: Prompt, question: Question) -> Reply | Unjudged:
        try:
            return await self.chat.ask(partial(prompt.body, question), prompt.read)
        except Unanswered as error:
            return Unjudged(str(error), error.outage)


def _outage(replies: Sequence[Reply | Unjudged]) -> int:
    """The number of the outage for which any of them is missing, 0 where there is none."""
    return max((reply.outage for reply in replies if isinstance(reply, Unjudged)), default=0)
