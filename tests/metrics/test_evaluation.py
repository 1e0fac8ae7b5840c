import itertools
import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from preloaded import run_ranks
from toy_answers import BIRDS, JUDGE
from toy_validation import SEEN, batch_of

from fgvr.data.tasks import OpenWorld
from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.metrics.evaluation import WAITING, Evaluation, Findings
from fgvr.types import Example

TASK = OpenWorld().bind(BIRDS)


class Served(Judge):
    """The taxonomy's verdicts from a thread that waits, as one that asks a server does."""

    remote = True

    def __init__(self) -> None:
        self.asked = 0

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Judgement | Unjudged]:
        self.asked += 1
        self.wait(self.asked)
        return JUDGE.verdicts(pairs)

    def wait(self, call: int) -> None:
        time.sleep(0.05 / call)  # the first takes longest


class Gated(Served):
    """Answers when the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def wait(self, call: int) -> None:
        assert self.gate.wait(60)


class SideBySide(Served):
    """Answers only when four calls wait for it at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(4)

    def wait(self, call: int) -> None:
        self.barrier.wait(60)


class Losing(Judge):
    """Has no verdict on the first `lost` answers, for so many reasons in turn."""

    def __init__(self, lost: int, reasons: int = 1) -> None:
        self.lost, self.reasons = lost, itertools.cycle(range(500, 500 + reasons))

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Judgement | Unjudged]:
        gone, self.lost = min(self.lost, len(pairs)), max(0, self.lost - len(pairs))
        failures = [Unjudged(f"HTTP {next(self.reasons)}") for _ in range(gone)]
        return [*failures, *JUDGE.verdicts(pairs[gone:])]


class Failing(Served):
    def wait(self, call: int) -> None:
        raise UserError("the judge must answer, but it does not: start it again")


def evaluation(judge: Judge, **options: Any) -> Evaluation:
    return Evaluation(TASK, judge, BIRDS, ["seen"], **{"pictures": 0, **options})


def batch(number: int, size: int = 4) -> Any:
    found = batch_of("seen", (SEEN * size)[:size])
    found.examples[:] = [Example(**{**vars(e), "uid": f"{number:02d}-{e.uid}"}) for e in found.examples]
    return found


def run(judge: Judge, batches: int = 10, **options: Any) -> Findings:
    one = evaluation(judge, **options)
    try:
        for number in range(batches):
            one.add("seen", batch(number), [text for _, text in SEEN])
        return one.finish()
    finally:
        one.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fgvr-validation")]


def test_a_remote_judge_says_what_a_local_one_says() -> None:
    local, remote = run(JUDGE), run(Served())
    assert local == remote
    assert remote.figures["seen"]["n"] == 40
    assert [row["uid"] for row in remote.answers] == sorted(row["uid"] for row in remote.answers)
    assert not threads()


def test_batches_are_asked_about_side_by_side() -> None:
    assert run(SideBySide(), batches=8).figures["seen"]["n"] == 32


def test_only_so_many_batches_wait_for_their_verdicts() -> None:
    judge = Gated()
    one = evaluation(judge)
    for number in range(WAITING):
        one.add("seen", batch(number), [text for _, text in SEEN])
    assert len(one._waiting) == WAITING
    threading.Timer(0.2, judge.gate.set).start()
    one.add("seen", batch(99), [text for _, text in SEEN])  # waits until the first has its verdicts
    assert judge.gate.is_set()
    assert one.finish().figures["seen"]["n"] == 4 * (WAITING + 1)
    one.close()


def test_what_a_judge_raises_comes_out_and_its_threads_end() -> None:
    with pytest.raises(UserError, match="start it again"):
        run(Failing())
    assert not threads()
    judge = Gated()
    one = evaluation(judge)
    one.add("seen", batch(0), [text for _, text in SEEN])
    judge.gate.set()
    one.close()
    assert not threads()


def test_nothing_is_kept_of_the_photos_when_none_are_shown() -> None:
    one = evaluation(JUDGE)
    one.add("seen", batch(0), [text for _, text in SEEN])
    assert one.shown == {"seen": []}
    assert one.finish().confusions == {"seen": []}


def test_the_same_photos_are_shown_whatever_the_batches() -> None:
    def shown(sizes: list[int]) -> list[str]:
        one = evaluation(JUDGE, pictures=3)
        examples = batch_of("seen", [("Ruby", "")] * 12).examples
        for size in sizes:
            part = batch_of("seen", [])
            part.examples[:], examples = examples[:size], examples[size:]
            one.add("seen", part, ["<answer>Ruby</answer>"] * size)
        assert one.finish().figures["seen"]["n"] == 12
        return [entry.example.uid for entry in one.shown["seen"]]

    assert shown([12]) == shown([1, 5, 6]) == shown([4, 4, 4])


def test_a_few_answers_without_a_verdict_are_warned_of_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        findings = run(Losing(4, reasons=2), max_unjudged=0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "4 of 40 answers got no verdict and count as unjudged: 2 x HTTP 500; 2 x HTTP 501"
    ]
    # each batch of four: specific, wrong, less specific, no answer; the first three verdicts and one more are lost
    figures = findings.figures["seen"]
    assert (figures["n"], figures["unjudged"], figures["parse_failures"]) == (40, 0.1, 0.25)
    assert figures["correctness"] == pytest.approx((2 * 10 - 3) / 40)
    assert len([row for row in findings.answers if row["unjudged"]]) == 4


def test_more_than_a_few_end_the_validation() -> None:
    message = (
        r"at most 10\.0% .* answers may go without a verdict, but 5 of 40 did: 1 x HTTP 500; .*; and 2 other reasons\."
    )
    with pytest.raises(UserError, match=message):
        run(Losing(5, reasons=5), max_unjudged=0.1)
    with pytest.raises(UserError, match=r"answers to the second judge may go without .* 5 of 40"):
        run(JUDGE, second=Losing(5), max_unjudged=0.1)


def test_samples_have_an_outage_of_their_own() -> None:
    """Two of twelve sampled answers are too many, though of all sixteen they would be few."""
    one = evaluation(Losing(2), sampled=3, max_unjudged=0.13)
    one.add("seen", batch(0), [text for _, text in SEEN], [["<answer>Ruby</answer>"] * 3] * 4)
    with pytest.raises(UserError, match="sampled answers may go without a verdict, but 2 of 12 did"):
        one.finish()


def test_there_must_be_as_many_answers_as_were_asked_for() -> None:
    for sampled in ([["a", "b"]] * 3, None):
        with pytest.raises(ValueError, match="one completion per example"):
            evaluation(JUDGE, sampled=2).add("seen", batch(0), [text for _, text in SEEN], sampled)


def _rank(rank: int, port: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    said: list[str] = []
    for judge, most in ((Losing(rank), 0.0125), (Losing(rank), 0.01), (Failing() if rank else JUDGE, 1.0)):
        try:
            said.append(f"{run(judge, max_unjudged=most).figures['seen']['unjudged']}")
        except UserError as error:
            said.append(str(error))
    (folder / f"{rank}").write_text("\n".join(said))
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_processes_end_alike(tmp_path: Path) -> None:
    """One answer of 2 x 40 has no verdict, on the second process alone; then that one's judge fails altogether."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ranks(_rank, (port, tmp_path), 2)
    said = [(tmp_path / str(rank)).read_text().splitlines() for rank in range(2)]
    assert said[0] == said[1]
    assert said[0][0] == "0.0125"
    assert "1 of 80 did: 1 x HTTP 500" in said[0][1]
    assert said[0][2] == "the judge must answer, but it does not: start it again"
