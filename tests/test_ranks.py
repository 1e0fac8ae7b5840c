import multiprocessing
from pathlib import Path

import torch.distributed as dist

from fgvr.ranks import of_all_ranks

FORK = multiprocessing.get_context("fork")


def gather(rank: int, meeting: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    rows = of_all_ranks([(rank, n) for n in range(rank + 1)])
    meeting.with_name(f"rank{rank}").write_text(repr(rows))
    dist.destroy_process_group()


def test_one_process_has_its_own_rows():
    assert of_all_ranks([3, 1]) == [3, 1]


def test_every_rank_gets_the_rows_of_all(tmp_path):
    ranks = [FORK.Process(target=gather, args=(rank, tmp_path / "meeting")) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    for rank in range(2):
        assert (tmp_path / f"rank{rank}").read_text() == "[(0, 0), (1, 0), (1, 1)]"
