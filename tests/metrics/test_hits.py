import pytest
import torch
from toy_answers import BIRDS, example, judged

from fgvr.judges.base import Judged, Judgement
from fgvr.metrics import PARSE_FAILURE, UNJUDGED, ClassTable, RankAccuracy, rank_hits
from fgvr.types import Answer, Verdict


@pytest.mark.parametrize(
    ("label", "answer", "hits"),
    [
        ("Ruby", "Ruby", [1, 1, 1, 1]),
        ("Ruby", "Ash", [1, 1, 0, 0]),  # a wrong species of the right family
        ("Ruby", "finches", [1, 1, 0, 0]),
        ("Ruby", "Barred", [1, 0, 0, 0]),
        ("Ruby", "Songbirds", [1, 0, 0, 0]),
        ("Ruby", "bird", [0, 0, 0, 0]),
        ("Ruby", "Emu", [0, 0, 0, 0]),
        ("Ruby", "Ruby or Ash", [0, 0, 0, 0]),
        ("Ruby", None, [0, 0, 0, 0]),
        ("Emu", "Emu", [1, 1, 1, 1]),  # a short path: its end stands at the second rank and at the finest
        ("Emu", "Ratites", [1, 0, 0, 0]),
    ],
)
def test_rank_hits(label: str, answer: str | None, hits: list[int]) -> None:
    assert rank_hits([judged(label, answer)], BIRDS).tolist() == [hits]


def test_a_finer_answer_is_right_at_every_rank_and_not_exact() -> None:
    finer = Judgement(Verdict.MORE_SPECIFIC, "Ruby of the hills")
    entry = Judged(example("Ruby"), "", Answer("Ruby of the hills"), finer)
    assert rank_hits([entry], BIRDS).tolist() == [[1, 1, 1, 0]]


def test_an_answer_without_a_verdict_is_a_hit_nowhere() -> None:
    entry = Judged(example("Ruby"), "", Answer("Ruby"), None, "time-out")
    assert rank_hits([entry], BIRDS).tolist() == [[0, 0, 0, 0]]


def test_rank_accuracy_leaves_out_labels_without_a_name_at_the_rank() -> None:
    metric = RankAccuracy(("order", "family"))
    metric.update(torch.tensor([[1, 1, 1], [1, 0, 0], [0, -1, 0]]))
    # order: 2 of 3; family: 1 of the 2 that have one; exact: 1 of 3.
    assert metric.compute() == pytest.approx({"order": 2 / 3, "family": 1 / 2, "exact": 1 / 3})


def test_class_table_by_hand() -> None:
    table = ClassTable(["Ash", "Emu", "Ruby"])
    verdicts = torch.tensor([4, 0, PARSE_FAILURE, 3, 5, UNJUDGED])
    table.update(torch.tensor([2, 2, 2, 0, 0, 0]), verdicts, torch.tensor([1, 0, 0, 0, 0, 0]))
    assert table.compute() == {
        "Ash": {"n": 3, "exact": 0, "correct": 2, "parse_failures": 0, "unjudged": 1},
        "Ruby": {"n": 3, "exact": 1, "correct": 1, "parse_failures": 1, "unjudged": 0},
    }
