"""A decision as a row of JSON: what was said, voted, asked and chosen, and what of it was right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fgvr.data.closed_world import ClosedWorld
from fgvr.rollouts.two_step import Decision, TwoStep
from fgvr.taxonomy.names import Names
from fgvr.types import Answer

NO_MATTER = ("seed", "max_rows")  # of a plan: evaluations that differ in these can be compared


def made_with(scope: str, plan: TwoStep, choice: ClosedWorld) -> dict[str, Any]:
    """What decides what a row's figures mean: the scope of the options, the plan, and the form of the question."""
    form = {name: getattr(choice, name) for name in ("letters", "told", "none_of_these")}
    return {"scope": scope, **{name: value for name, value in asdict(plan).items() if name not in NO_MATTER}, **form}


def as_row(
    decision: Decision,
    cohort: str,
    greedy: Answer | None,
    greedy_tokens: int,
    names: Names,
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """One line of two_step.jsonl; without a label nothing is "right".

    `greedy` is the answer without sampling, `made` what `made_with` says. An answer is right when it names the label
    by name or synonym, and the options are when the label is among them.
    """
    example, votes = decision.example, decision.votes
    row: dict[str, Any] = {
        "uid": example.uid,
        "dataset": example.dataset,
        "cohort": cohort,
        "label": example.label,
        "greedy": greedy.text if greedy else None,
        "vote": decision.vote,
        "answer": decision.answer,
        "by": decision.by,
        "gate": decision.gate,
        "lead": votes.margin,
        "confidence": decision.confidence,
        "replies": votes.replies,
        "votes": [{"name": one.name, "votes": one.votes, "logprob": one.logprob} for one in votes.ranked],
        "dropped": dict(votes.dropped),
        "options": list(decision.options),
        "questions": [
            {"shown": list(one.shown), "reply": one.reply, "chosen": one.chosen, "chances": list(one.probabilities)}
            for one in decision.questions
        ],
        "tokens": {
            "greedy": greedy_tokens,
            "sampled": decision.sampled_tokens,
            "choosing": decision.choosing_tokens,
        },
        "made_with": dict(made),
    }
    if example.label:
        row["right"] = {
            name: text is not None and names.find(text) == example.label
            for name, text in (("greedy", row["greedy"]), ("vote", decision.vote), ("answer", decision.answer))
        } | {"options": any(names.find(option) == example.label for option in decision.options)}
    return row


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    """The rows as JSON lines, by cohort, dataset and uid, so that they do not depend on who had which."""
    ordered = sorted(rows, key=lambda row: (row["cohort"], row["dataset"], row["uid"]))
    # a lone surrogate cannot be written as UTF-8; its escape is what json itself would have written
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered).encode("utf-8", "backslashreplace")
