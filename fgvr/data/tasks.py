"""What a model is asked and how its reply is read: prompt, target and parser as one pair.

The grammar of every reply in fgvr, and the only place where it is spelt:

    [<think>THOUGHT</think>] <answer>ANSWER</answer>

with nothing but white space around and between. So a reply that goes on after its answer, that answers twice, or that
was cut short is no answer at all. ANSWER is not blank and holds no angle bracket; THOUGHT holds no think tag, and an
answer tag within it is part of the thought.
"""

from __future__ import annotations

import copy
import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from fgvr.data.control_tokens import refuse_control_tokens
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.branch import Branch
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import spelling
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example

T = TypeVar("T", bound="Task")

COMPLETION = re.compile(
    r"\s*(?:<think>(?P<thought>[^<]*(?:<(?!/?think>)[^<]*)*)</think>\s*)?<answer>(?P<answer>[^<>]*)</answer>\s*"
)
OPENING = re.compile(r"\s*(?:<think>\s*(?P<closed></think>\s*)?)?")  # how a chat template may begin every reply


def parse_completion(text: str) -> Answer | None:
    """The answer and the thought of a reply, both without outer white space; None when it breaks the grammar."""
    match = COMPLETION.fullmatch(text)
    if match is None or not match["answer"].strip():
        return None
    return Answer(match["answer"].strip(), (match["thought"] or "").strip())


def format_answer(answer: str, thought: str | None = None) -> str:
    """The reply that `parse_completion` reads back; without a thought (None) there is no think block.

    Raises SampleError when answer or thought cannot be written in the grammar.
    """
    text = f"<answer>{answer}</answer>"
    if thought is not None:
        text = f"<think>{thought}</think>{text}"
    if parse_completion(text) != Answer(answer.strip(), (thought or "").strip()):
        raise SampleError(
            f"an answer must hold text and no angle bracket, and a thought no think tag, "
            f"got answer {answer!r} and thought {thought!r}: mend the label or the response"
        )
    return text


class Task(ABC):
    """One way to ask about a photo, and to read the reply. Drawn values come from the `rng` that is passed in.

    `bind` gives it the taxonomy of the data before use, `opened` what the model's chat template begins every reply
    with; `prepare` fixes what it draws for one showing of an example. Replies are whole, with that beginning.
    """

    think: bool
    question: str
    names: Names | None = None
    branch: Branch | None = None
    always_thinks = False  # True where the chat template begins every reply with <think>
    needs_label = False  # True when the question itself is made from the label

    def bind(self: T, taxonomy: Taxonomy) -> T:
        """A copy that knows the taxonomy.

        Raises UserError when a class name could not be written as an answer, or a rank in a thought.
        """
        bracketed = sorted(name for name in taxonomy.lineage if not spelling(name) or set(name) & set("<>"))
        if bracketed:
            raise UserError(
                f"a class name must hold a letter or digit and no angle bracket, got {bracketed[:3]}: rename the "
                "folder, or mend the table or the taxonomy"
            )
        if tagged := [rank for rank in taxonomy.ranks if re.search("</?think>", rank.casefold())]:
            raise UserError(f"the name of a rank must hold no think tag, got {tagged[0]!r}: mend the table or ranks")
        bound = copy.copy(self)
        bound.names = Names(taxonomy)
        return bound

    def opened(self: T, opening: str) -> T:
        """A copy whose targets begin as the chat template does: where that opens a thought, an answer alone follows an
        empty one.

        Raises UserError when no reply that the task asks for can go on from `opening`.
        """
        begun = OPENING.fullmatch(opening)
        if begun is None:
            raise UserError(
                f"the chat template must leave the reply to the model, or open its <think>, but it begins every reply "
                f"with {opening!r}, from which <think>…</think> <answer>…</answer> cannot go on: mend "
                "chat_template.jinja in the model's folder"
            )
        if begun["closed"] and self.think:
            raise UserError(
                f"the task asks for a thought, but the chat template closes it before the model can think, with "
                f"{opening!r}: set think to false in the task, or mend chat_template.jinja in the model's folder"
            )
        copied = copy.copy(self)
        copied.always_thinks = bool(opening.strip())
        return copied

    def within(self: T, branch: Branch | None) -> T:
        """A copy, not bound yet, that shows no class outside the branch; a task that shows no names is the same."""
        if branch is None:
            return self
        copied = copy.copy(self)
        copied.branch = branch
        return copied

    def holding_out(self: T, names: Collection[str]) -> T:
        """A copy that shows none of these classes in training; a task that shows no names is the same."""
        return self

    def prepare(self, example: Example, rng: random.Random) -> Example:
        """The example with what was drawn for this showing in its `extra`, so that prompt, target and parser agree."""
        return example

    def images(self, example: Example) -> tuple[bytes, ...]:
        """The encoded images that the prompt has places for: the photo alone."""
        return example.images[:1]

    def messages(self, example: Example, rng: random.Random) -> list[dict[str, Any]]:
        """One user turn in chat form: an entry for each of `images`, then the text."""
        text = f"{self.question}\n{self.choices(example)}{self.instruction()}"
        content: list[dict[str, Any]] = [{"type": "image"} for _ in self.images(example)]
        return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]

    def choices(self, example: Example) -> str:
        """Lines between the question and the instruction; none by default."""
        return ""

    def instruction(self) -> str:
        what = self.what_to_answer()
        if self.think:
            return f"Reason between <think> and </think>, then give {what} between <answer> and </answer>."
        return f"Give {what} between <answer> and </answer>."

    @abstractmethod
    def what_to_answer(self) -> str:
        """What stands inside the answer tag, as the prompt says it."""

    @abstractmethod
    def target(self, example: Example, rng: random.Random) -> str:
        """The assistant's text to learn. Raises SampleError for an example that cannot be taught."""

    @abstractmethod
    def parse(self, text: str, example: Example | None = None) -> Answer | None:
        """The answer in a reply, or None when the reply breaks the grammar. A closed-world reply needs its example."""

    def thought(self, example: Example, name: str) -> str | None:
        """What the target reasons before answering `name`; None in the answer-only style, for no think block.

        A stored response is used when it ends in that very name. Else the path is named from coarse to fine, as far as
        `name`. Raises SampleError as `response`.
        """
        if not self.think:
            return "" if self.always_thinks else None
        path = example.path[: example.path.index(name) + 1]
        told = self.response(example)
        if told is not None and told.text == name and told.thought:
            return told.thought
        ranks: tuple[str, ...] = self.names.taxonomy.ranks if self.names else ()
        if not ranks or len(ranks) < len(path):
            return f"From coarse to fine: {', '.join(path)}."
        if path == example.path:
            ranks = (*ranks[: len(path) - 1], ranks[-1])  # a path that is short of ranks ends at the finest
        return " ".join(f"{rank.capitalize()}: {name}." for rank, name in zip(ranks, path, strict=False))

    def response(self, example: Example) -> Answer | None:
        """The reply that is stored with an example (`extra["response"]`), its answer as the path spells it, or None.

        Raises SampleError when it is not well formed, or ends in something that the example is not.
        """
        stored = example.extra.get("response")
        if stored is None:
            return None
        told = parse_completion(str(stored))
        if told is None:
            raise SampleError(f"{example.uid}: a response must be <think>…</think><answer>…</answer>, got {stored!r}")
        name = self._node(told.text, example)
        if name is None:
            raise SampleError(f"{example.uid}: the response must end in {example.label!r}, it ends in {told.text!r}")
        return Answer(name, told.thought)

    def _node(self, text: str, example: Example) -> str | None:
        """The name on the example's path that the text stands for, by normalised name or synonym."""
        return self._among(text, example.path)

    def _among(self, text: str, names: Sequence[str]) -> str | None:
        known = self.names.find(text) if self.names else None
        return next((name for name in names if known == name or spelling(name) == spelling(text)), None)


class OpenWorld(Task):
    """Free naming: no options are shown.

    `question` is asked of each photo; with `think` the reply reasons before it answers, as a sample's stored
    response does where there is one. `depth` maps ranks to weights;
    the target is then the name at a rank drawn with these weights (the label, where its path ends above that rank).
    `depth_of` gives branches of the taxonomy weights of their own, by name; the deepest name on an example's path
    counts. None asks for the label itself. Raises UserError for negative or all-zero weights and, once bound, for a
    rank or a name that the taxonomy lacks.
    """

    def __init__(
        self,
        question: str = "What is shown in this photo? Name it as specifically as you can.",
        think: bool = False,
        depth: dict[str, float] | None = None,
        depth_of: dict[str, dict[str, float]] | None = None,
    ) -> None:
        for weights in ([] if depth is None else [depth]) + [*(depth_of or {}).values()]:
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()) or not sum(
                weights.values()
            ):
                raise UserError(f"depth must give ranks weights of 0 or more, one of them above 0, got {weights}")
        refuse_control_tokens("the task's question", [question])
        self.question, self.think, self.depth = question, think, dict(depth) if depth is not None else None
        self.depth_of = dict(depth_of or {})

    def bind(self, taxonomy: Taxonomy) -> OpenWorld:
        named = {*(self.depth or ()), *(rank for weights in self.depth_of.values() for rank in weights)}
        if unknown := sorted(named - set(taxonomy.ranks)):
            raise UserError(f"depth must name ranks of the taxonomy, {list(taxonomy.ranks)}, got {unknown}")
        if unknown := sorted(set(self.depth_of) - (set(taxonomy.lineage) - {taxonomy.root})):
            raise UserError(f"depth_of must give names of the taxonomy below its root, got {unknown}: mend them")
        return super().bind(taxonomy)

    def what_to_answer(self) -> str:
        return "the name"

    def target(self, example: Example, rng: random.Random) -> str:
        name = example.label
        own = (self.depth_of[node] for node in reversed(example.path) if node in self.depth_of)
        weights = next(own, self.depth)
        if weights is not None:
            if self.names is None:
                raise ValueError("a task with a depth must know the ranks: call bind(taxonomy), use what it returns")
            (rank,) = rng.choices(list(weights), list(weights.values()))
            name = example.path[min(self.names.taxonomy.ranks.index(rank), len(example.path) - 1)]
        return format_answer(name, self.thought(example, name))

    def parse(self, text: str, example: Example | None = None) -> Answer | None:
        return parse_completion(text)
