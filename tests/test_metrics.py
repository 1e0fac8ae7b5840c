import random
import socket

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.multiprocessing.spawn import spawn

from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import UserError
from fgvr.judges.base import Judged, Judgement
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.metrics import PARSE_FAILURE, ClassTable, CohortScores, RankAccuracy, VerdictHistogram, rank_hits
from fgvr.types import Answer, Example, Verdict

BIRDS = Taxonomy(
    {
        "Ruby": ("Songbirds", "Finches", "Ruby"),
        "Ash": ("Songbirds", "Finches", "Ash"),
        "Barred": ("Songbirds", "Wrens", "Barred"),
        "Emu": ("Ratites", "Emu"),
    },
    ("order", "family", "species"),
    "bird",
)
ANSWERS = [None, "Ruby", "Ash", "Barred", "Emu", "finches", "Songbirds", "bird", "unknown", "Ruby or Ash", "dodo"]
VERDICTS = st.lists(st.sampled_from([PARSE_FAILURE, *Verdict]), max_size=40)


def judged(label: str, answer: str | None, uid: str = "x") -> Judged:
    example = Example(uid, (b"",), label, BIRDS.paths[label], "val", "seen", "birds")
    if answer is None:
        return Judged(example, "no tags", None, None)
    (judgement,) = TaxonomyJudge(close=1).bind(BIRDS).verdicts([(label, answer)])
    return Judged(example, answer, Answer(answer), judgement)


def histogram(verdicts: list[int], **options) -> dict[str, float]:
    metric = VerdictHistogram(**options)
    metric.update(torch.tensor(verdicts, dtype=torch.long))
    return metric.compute()


def test_histogram_by_hand() -> None:
    figures = histogram([-1, -1, 0, 1, 2, 3, 3, 4, 4, 5])
    # n = 10; correct are G, S-, S-, S, S, S+: 6 of 10.
    # Their weights: 1/3 + 2 * 2/3 + 2 * 1 + 1 = 14/3; over 6: 7/9.
    # Harmonic mean: 2 * 3/5 * 7/9 / (3/5 + 7/9) = (14/15) / (62/45) = 21/31.
    assert figures == pytest.approx(
        {
            "n": 10,
            "correctness": 0.6,
            "specificity": 7 / 9,
            "harmonic_mean": 21 / 31,
            "parse_failures": 0.2,
            "wrong": 0.1,
            "abstain": 0.1,
            "generic": 0.1,
            "less_specific": 0.2,
            "specific": 0.2,
            "more_specific": 0.1,
        }
    )


def test_other_weights_change_specificity_alone() -> None:
    # G, S-, S with weights 0, 0.6, 1: (0 + 0.6 + 1) / 3.
    figures = histogram([2, 3, 4], weights=(0.0, 0.6, 1.0, 1.0))
    assert figures["specificity"] == pytest.approx(1.6 / 3)
    assert figures["correctness"] == 1
    for bad in ((1.0,), (0, 0, 0, 1.5), (-0.1, 0, 0, 0)):
        with pytest.raises(ValueError, match="four weights"):
            VerdictHistogram(bad)


def test_an_abstaining_model_scores_nothing() -> None:
    figures = histogram([int(Verdict.ABSTAIN)] * 5)
    assert (figures["correctness"], figures["specificity"], figures["harmonic_mean"]) == (0, 0, 0)
    assert figures["abstain"] == 1


def test_nothing_judged_is_all_zeros() -> None:
    scores = CohortScores(BIRDS)
    assert set(scores.figures().values()) == {0.0}
    assert scores.classes.compute() == {}


@given(VERDICTS)
def test_shares_add_up_and_the_harmonic_mean_lies_between(verdicts: list[int]) -> None:
    figures = histogram(verdicts)
    low, high = sorted((figures["correctness"], figures["specificity"]))
    assert low - 1e-12 <= figures["harmonic_mean"] <= high + 1e-12
    shares = [figures["parse_failures"], *(figures[verdict.name.lower()] for verdict in Verdict)]
    assert sum(shares) == pytest.approx(1 if verdicts else 0)
    assert sum(shares[3:]) == pytest.approx(figures["correctness"])


@given(st.lists(st.tuples(st.sampled_from(sorted(BIRDS.paths)), st.sampled_from(ANSWERS)), max_size=20), st.randoms())
def test_order_and_batches_do_not_matter(pairs: list[tuple[str, str | None]], rng: random.Random) -> None:
    whole, parts = CohortScores(BIRDS), CohortScores(BIRDS)
    entries = [judged(*pair) for pair in pairs]
    whole.update(entries)
    rng.shuffle(entries)
    cut = rng.randint(0, len(entries))
    parts.update(entries[:cut])
    parts.update(entries[cut:])
    assert whole.figures() == parts.figures()
    assert whole.classes.compute() == parts.classes.compute()


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
    example = Example("x", (b"",), "Ruby", BIRDS.paths["Ruby"], "val", "seen", "birds")
    finer = Judged(example, "", Answer("Ruby of the hills"), Judgement(Verdict.MORE_SPECIFIC, "Ruby of the hills"))
    assert rank_hits([finer], BIRDS).tolist() == [[1, 1, 1, 0]]


def test_rank_accuracy_leaves_out_labels_without_a_name_at_the_rank() -> None:
    metric = RankAccuracy(("order", "family"))
    metric.update(torch.tensor([[1, 1, 1], [1, 0, 0], [0, -1, 0]]))
    # order: 2 of 3; family: 1 of the 2 that have one; exact: 1 of 3.
    assert metric.compute() == pytest.approx({"order": 2 / 3, "family": 1 / 2, "exact": 1 / 3})


def test_class_table_by_hand() -> None:
    table = ClassTable(["Ash", "Emu", "Ruby"])
    verdicts = torch.tensor([4, 0, -1, 3, 5])
    table.update(torch.tensor([2, 2, 2, 0, 0]), verdicts, torch.tensor([1, 0, 0, 0, 0]))
    assert table.compute() == {
        "Ash": {"n": 2, "exact": 0, "correct": 2, "parse_failures": 0},
        "Ruby": {"n": 3, "exact": 1, "correct": 1, "parse_failures": 1},
    }


def test_unread_samples_are_counted_apart() -> None:
    scores = CohortScores(BIRDS)
    scores.update([judged("Ruby", "Ruby")], unread=2)
    figures = scores.figures()
    assert (figures["n"], figures["unread"], figures["exact"]) == (1, 2, 1)


def test_a_rank_called_like_a_figure_is_refused() -> None:
    with pytest.raises(UserError, match=r"\['generic'\]"):
        CohortScores(Taxonomy.flat(["a", "b"], rank="generic"))


def _entries() -> list[Judged]:
    rng = random.Random(3)
    return [judged(rng.choice(sorted(BIRDS.paths)), rng.choice(ANSWERS)) for _ in range(41)]


def _two_processes(rank: int, port: int, expected: tuple) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    scores = CohortScores(BIRDS)
    entries = _entries()
    scores.update(entries[:30] if rank == 0 else entries[30:], unread=rank)
    assert (scores.figures(), scores.classes.compute()) == expected
    empty = CohortScores(BIRDS)
    if rank == 0:
        empty.update(entries)
    assert empty.figures() == {**expected[0], "unread": 0.0}
    dist.destroy_process_group()


def test_two_processes_together_say_what_one_says() -> None:
    alone = CohortScores(BIRDS)
    alone.update(_entries(), unread=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_two_processes, (port, (alone.figures(), alone.classes.compute())), nprocs=2)
