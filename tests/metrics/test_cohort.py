import random
import socket
from typing import Any

import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from preloaded import run_ranks
from toy_answers import ANSWERS, BIRDS, answered, judged

from fgvr.judges.base import Judged
from fgvr.metrics import SPECIFICITY_WEIGHTS, CohortScores, DatasetCounts
from fgvr.metrics.lengths import LENGTH_FIGURES
from fgvr.taxonomy.reserved import BEFORE_FIGURES, FIGURES
from fgvr.types import Verdict


def test_nothing_judged_is_all_zeros() -> None:
    scores = CohortScores(BIRDS, sampled=4, compared=True)
    assert set(scores.figures().values()) == {0.0}
    assert scores.classes.compute() == {}


@given(st.lists(st.tuples(st.sampled_from(sorted(BIRDS.paths)), st.sampled_from(ANSWERS)), max_size=20), st.randoms())
def test_order_and_batches_do_not_matter(pairs: list[tuple[str, str | None]], rng: random.Random) -> None:
    whole, parts = CohortScores(BIRDS), CohortScores(BIRDS)
    entries = [judged(*pair, dataset=pair[0][:1]) for pair in pairs]
    whole.update(entries)
    rng.shuffle(entries)
    cut = rng.randint(0, len(entries))
    parts.update(entries[:cut])
    parts.update(entries[cut:])
    assert whole.figures() == parts.figures()
    assert whole.classes.compute() == parts.classes.compute()


def test_unread_samples_are_counted_apart() -> None:
    scores = CohortScores(BIRDS)
    scores.update([judged("Ruby", "Ruby")], unread=2)
    figures = scores.figures()
    assert (figures["n"], figures["unread"], figures["exact"]) == (1, 2, 1)


def test_several_names_are_counted_where_the_judge_saw_them() -> None:
    scores = CohortScores(BIRDS)
    scores.update([answered(Verdict.WRONG, several=True), answered(Verdict.WRONG), answered(-1), answered(-2)])
    figures = scores.figures()
    assert (figures["several"], figures["wrong"]) == (0.25, 0.5)


def test_the_second_judge_and_the_samples_have_figures_where_they_are_given() -> None:
    scores = CohortScores(BIRDS, sampled=2, compared=True)
    first, second = [answered(4), answered(0)], [answered(4), answered(3)]
    scores.update(first, second=second, sampled=[answered(value) for value in (4, 0, 0, 0)])
    figures = scores.figures()
    assert (figures["agreement"], figures["agreement_n"]) == (0.5, 2)
    # one of two photos has one S among two answers: 1/4 of single answers are correct, and the best of one photo is
    assert (figures["best_of/1/correctness"], figures["best_of/2/correctness"]) == (0.25, 0.5)
    assert not {"agreement", "best_of/1/correctness"} & set(CohortScores(BIRDS).figures())


def test_no_rank_can_be_called_like_a_figure() -> None:
    scores = CohortScores(BIRDS, sampled=4, compared=True)
    samples = [answered(value) for value in (4, 0, 0, 0)] * 2
    scores.update([answered(4), answered(0)], second=[answered(4), answered(0)], sampled=samples)
    two = [("cub", [0] * 7 + [1]), ("cars", [0] * 7 + [1])]
    names = {*scores.figures(), *DatasetCounts.figures(two, SPECIFICITY_WEIGHTS), *LENGTH_FIGURES} - {*BIRDS.ranks}
    assert {name for name in names if "/" not in name} == FIGURES
    assert {name.split("/")[0] for name in names if "/" in name} <= {*BEFORE_FIGURES, "cub", "cars"}


def _entries() -> list[Judged]:
    """Of two datasets; the first 30 are of one, so that a process may see only that."""
    rng = random.Random(3)
    return [
        judged(rng.choice(sorted(BIRDS.paths)), rng.choice(ANSWERS), "cub" if place < 30 else "cars")
        for place in range(41)
    ]


def _scores(*parts: list[Judged], unread: int = 0) -> CohortScores:
    scores = CohortScores(BIRDS, sampled=2, compared=True)
    for entries in parts:
        again = [other for entry in entries for other in (entry, entries[0])]
        scores.update(entries, unread, second=entries[::-1], sampled=again)
    return scores


def _gathered(rows: list[Any]) -> list[Any]:
    parts: list[Any] = [None, None]
    dist.all_gather_object(parts, rows)
    return parts[0] + parts[1]


def _two_processes(rank: int, port: int, expected: tuple) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    entries = _entries()
    scores = _scores(entries[:30] if rank == 0 else entries[30:], unread=rank)
    assert (scores.figures(_gathered), scores.classes.compute()) == expected
    empty = _scores(*([entries[:30], entries[30:]] if rank == 0 else []))
    assert empty.figures(_gathered) == {**expected[0], "unread": 0.0}
    dist.destroy_process_group()


def test_two_processes_together_say_what_one_says() -> None:
    entries = _entries()
    alone = _scores(entries[:30], entries[30:])
    alone.update([], unread=1)
    figures = alone.figures()
    assert (figures["cub/n"], figures["cars/n"]) == (30, 11)
    assert figures["agreement_n"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ranks(_two_processes, (port, (figures, alone.classes.compute())), 2)
