from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import run_script
from two_processes import both, callback, said

from fgvr.callbacks.same_weights import first_that_differs, sum_of_bits


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("size", [1, 3, 8, 13])
def test_each_single_bit_makes_another_sum(kind: torch.dtype, size: int) -> None:
    weight = (torch.randn(size, 3) * 9).to(kind)
    whole = sum_of_bits(weight)
    octets = weight.view(-1).view(torch.uint8)
    for place in range(len(octets)):
        for bit in range(8):
            octets[place] ^= 1 << bit
            assert sum_of_bits(weight) != whole
            octets[place] ^= 1 << bit
    assert sum_of_bits(weight) == whole


def test_parts_that_begin_anywhere_have_a_sum() -> None:
    whole = torch.arange(20, dtype=torch.bfloat16)
    for begin in range(5):
        assert sum_of_bits(whole[begin:17]) == sum_of_bits(whole[begin:17].clone())
    square = torch.randn(5, 7)
    assert sum_of_bits(square.T) == sum_of_bits(square.T.contiguous())
    assert sum_of_bits(torch.tensor(3.0)) == sum_of_bits(torch.tensor([3.0]))
    assert sum_of_bits(torch.empty(0)) == 0


@pytest.mark.parametrize(
    ("sums", "found"),
    [
        ([[1, 2, 3], [1, 2, 4]], (1, 2)),
        ([[1, 2, 3], [1, 5, 3], [1, 2, 3]], (1, 1)),
        ([[9, 2, 3], [1, 5, 3], [1, 5, 3]], (0, 0)),
    ],
)
def test_the_one_is_named_that_is_unlike_most(sums: list[list[int]], found: tuple[int, int]) -> None:
    assert first_that_differs(sums) == found


@pytest.mark.slow
def test_a_flipped_bit_of_one_process_ends_the_run_before_it_is_saved(tmp_path: Path) -> None:
    flipped = callback("hanging_run.FlippedBit")
    codes = [process.wait(120) for process in both(tmp_path, flipped, "--run.compare_every=2")]
    assert codes == [2, 2], said(tmp_path)
    for rank, text in enumerate(said(tmp_path)):
        assert (
            "processes must hold the same weights, but those of process 1 differ from others' at step 4, from "
            "net.2.weight on, and were the same at step 2 (it or another one is wrong: as many hold the one as the "
            "other)"
        ) in text, rank
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").glob("*.ckpt"))] == ["step-00000002.ckpt"]


@pytest.mark.slow
def test_a_flipped_bit_is_found_by_the_next_save_at_the_latest(tmp_path: Path) -> None:
    flipped = callback("hanging_run.FlippedBit")
    codes = [process.wait(120) for process in both(tmp_path, flipped, "--run.compare_every=1000")]
    assert codes == [2, 2], said(tmp_path)
    assert "differ from others' at step 4, from net.2.weight on" in said(tmp_path)[0]


IN_COPIES = """
import sys
from forked_ranks import group, say, trained
from fgvr.callbacks.same_weights import sums_of_all
import torch

def work(rank, ranks):
    net, optimizer = trained(replicate=2)
    replicas = net.first.weight.device_mesh.get_group("replicate")
    before = sums_of_all(list(net.parameters()), replicas)
    if rank == 3:
        net.first.weight.to_local().view(-1).view(torch.int32)[0] ^= 1 << 25
    after = sums_of_all(list(net.parameters()), replicas)
    say([rank, before[0] == before[1], [own != other for own, other in zip(*after)]])

assert group(4, work) == [0] * 4
"""


@pytest.mark.slow
def test_under_fsdp2_those_with_the_same_rows_are_compared() -> None:
    told: list[Any] = sorted(run_script(IN_COPIES))
    assert all(same for _, same, _ in told)
    assert [any(unlike) for _, _, unlike in told] == [False, True, False, True]  # 1 and 3 hold the same rows
    assert told[3][2] == [True, False, False]
