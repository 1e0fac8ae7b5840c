import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from toy_birds import classes

from fgvr.datamodules.rivals import Rivals
from fgvr.ranks import of_all_ranks
from fgvr.similarity import Classes, OnlineConfusion, Siblings, Similarity

FORK = multiprocessing.get_context("fork")
RED, ASH, WREN = "Red Finch", "Ash Finch", "Barred Wren"

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def alone(rows: list[Any]) -> list[Any]:
    return rows


def birds() -> dict[str, Classes]:
    return {"birds": classes()}


class Counted(Siblings):
    """Remembers how often it was asked."""

    def __init__(self, every: int | None = None) -> None:
        self.every, self.asked = every, 0

    def nearest(self, classes: Classes, k: int) -> Any:
        self.asked += 1
        return super().nearest(classes, k)


def epochs(rivals: Rivals, begin: int, end: int, gather: Callable[[list[Any]], list[Any]] = alone) -> list[Any]:
    """What each epoch's ranking says of a bird that is taken for another in every one of them."""
    found = []
    for epoch in range(begin, end):
        rivals.begin(epoch, birds, gather)
        found.append(rivals.rankings["birds"][RED])
        rivals.count([("birds", RED, WREN)] * (epoch + 1) + [("birds", RED, ASH)])
    return found


@pytest.mark.parametrize(("every", "asked"), [(None, 1), (1, 6), (2, 3), (4, 2)])
def test_a_measure_is_asked_once_or_every_so_many_epochs(every: int | None, asked: int):
    measure = Counted(every)
    rivals = Rivals(measure, 1)
    fresh = [rivals.begin(epoch, birds, alone) for epoch in range(6)]
    assert measure.asked == sum(fresh) == asked
    assert not rivals.begin(5, birds, alone)


def test_what_was_confused_loses_weight_from_epoch_to_epoch():
    rivals = Rivals(OnlineConfusion(decay=0.5), 2)
    found = epochs(rivals, 0, 3)
    assert found[0] == Siblings().nearest(classes(), 2)[RED]
    assert found[1] == ((ASH, 0.5), (WREN, 0.5))  # 1 and 1
    assert found[2] == ((WREN, 0.625), (ASH, 0.375))  # .5 + 2 and .5 + 1, of 4
    rivals.begin(3, birds, alone)
    assert rivals.confusions("birds") == {RED: {WREN: 4.25, ASH: 1.75}}  # half of 2.5 and 3, half of 1.5 and 1
    sources = rivals.sources()["birds"]
    assert {name for name, measure in sources.items() if measure == "OnlineConfusion"} == {RED}
    assert set(sources.values()) == {"OnlineConfusion", "Siblings"}


@pytest.mark.parametrize("measure", [OnlineConfusion(), OnlineConfusion(Counted(2), 0.25), Counted(3)])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(measure: Similarity):
    whole = epochs(Rivals(measure, 2), 0, 6)
    for stop in range(1, 6):
        first = Rivals(measure, 2)
        begun = epochs(first, 0, stop)
        state = json.loads(json.dumps(first.state_dict(alone)))  # plain data
        second = Rivals(measure, 2)
        second.load_state_dict(state, first=True)
        assert second.state_dict(alone) == first.state_dict(alone)
        assert second.sources() == first.sources()
        assert [*begun, *epochs(second, stop, 6)] == whole


def test_another_measure_starts_anew(caplog: pytest.LogCaptureFixture):
    rivals = Rivals(Siblings(), 1)
    rivals.begin(0, birds, alone)
    other = Rivals(Siblings(), 2)
    other.load_state_dict(rivals.state_dict(alone), first=True)
    assert other.epoch is None
    assert "negatives are chosen by another measure than before" in caplog.text


def share(rank: int, meeting: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    rivals, found = Rivals(OnlineConfusion(), 2), []
    for epoch in range(4):
        if epoch == 2:  # the run goes on from a checkpoint that all wrote
            state = rivals.state_dict(of_all_ranks)
            rivals = Rivals(OnlineConfusion(), 2)
            rivals.load_state_dict(state, first=rank == 0)
        rivals.begin(epoch, birds, of_all_ranks)
        found.append([list(one) for one in rivals.rankings["birds"][RED]])
        rivals.count([("birds", RED, WREN)] * (epoch + 1) if rank else [("birds", RED, ASH)])
    meeting.with_name(f"rank{rank}").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_ranks_count_together(tmp_path: Path):
    ranks = [FORK.Process(target=share, args=(rank, tmp_path / "meeting")) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    expected = [[list(one) for one in row] for row in epochs(Rivals(OnlineConfusion(), 2), 0, 4)]
    assert [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2)] == [expected] * 2
