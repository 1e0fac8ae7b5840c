from collections.abc import Sequence

import pytest

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld
from fgvr.judges.base import Judge, Judgement, Unjudged, judge_completions
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, Verdict

BIRDS = Taxonomy({"Robin": ("Thrushes", "Robin"), "Wren": ("Wrens", "Wren")}, ("family", "species"), "bird")
JUDGE = TaxonomyJudge().bind(BIRDS)


def example(uid: str, label: str, **extra: object) -> Example:
    return Example(uid, (b"",), label, BIRDS.paths[label], "val", "seen", "birds", dict(extra))


def test_each_reply_keeps_its_own_example_and_verdict() -> None:
    examples = [example("a", "Robin"), example("b", "Wren"), example("c", "Robin")]
    replies = ["<answer>thrushes</answer>", "no tags", "<think>small</think><answer>Wren</answer>"]
    judged = judge_completions(OpenWorld(), JUDGE, examples, replies)
    assert [entry.example.uid for entry in judged] == ["a", "b", "c"]
    assert [entry.judgement.verdict if entry.judgement else None for entry in judged] == [
        Verdict.LESS_SPECIFIC,
        None,
        Verdict.WRONG,
    ]
    assert [entry.answer.text if entry.answer else None for entry in judged] == ["thrushes", None, "Wren"]
    assert judged[2].judgement is not None
    assert judged[2].judgement.node == "Wren"


def test_a_closed_world_letter_is_judged_as_the_option_it_stands_for() -> None:
    task = ClosedWorld(options=2, letters=True).bind(BIRDS)
    (judged,) = judge_completions(task, JUDGE, [example("a", "Robin", shown=["Wren", "Robin"])], ["<answer>B</answer>"])
    assert judged.judgement is not None
    assert judged.judgement.verdict == Verdict.SPECIFIC


class WithoutNodes(Judge):
    """As a language model, which knows no taxonomy."""

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement | Unjudged]:
        said = {"thrushes": Verdict.LESS_SPECIFIC, "redbreast": Verdict.SPECIFIC, "Wren": Verdict.WRONG}
        return [Judgement(said[answer]) if answer in said else Unjudged("no answer") for _, answer in pairs]


def test_nodes_that_a_judge_does_not_know_are_those_of_the_tasks_taxonomy() -> None:
    replies = [f"<answer>{text}</answer>" for text in ("thrushes", "redbreast", "Wren", "what")]
    examples = [example(str(n), "Robin") for n in range(4)]
    judged = judge_completions(OpenWorld().bind(BIRDS), WithoutNodes(), examples, replies)
    assert [entry.judgement and entry.judgement.node for entry in judged] == ["Thrushes", "Robin", "Wren", None]
    assert [entry.unjudged for entry in judged] == [None, None, None, "no answer"]


def test_a_missing_reply_is_never_passed_over() -> None:
    with pytest.raises(ValueError, match="one completion per example, got 1 for 2"):
        judge_completions(OpenWorld(), JUDGE, [example("a", "Robin"), example("b", "Wren")], ["<answer>Robin</answer>"])
    assert judge_completions(OpenWorld(), JUDGE, [], []) == []
