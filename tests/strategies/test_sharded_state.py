from pathlib import Path

import pytest
import torch
from forked_ranks import run_script
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy

from fgvr.errors import UserError
from fgvr.strategies.checkpoint_io import WholeCheckpointIO
from fgvr.strategies.sharded_state import refuse_other_savers

# Prints what each of three processes finds that open a checkpoint of two, of which the newest is damaged for one.
OPENED = """
import sys
from functools import partial
from pathlib import Path
import torch
from forked_ranks import checkpoint, gathered, group, say, trained
from toy_run import same_weights
from fgvr.checkpoints.format import open_checkpoint, read_checkpoint, write_checkpoint
from fgvr.errors import UserError
from fgvr.strategies.checkpoint_io import load_together
from fgvr.strategies.saving import begin_together, complete_together
from fgvr.strategies.sharded_state import laid_out

root = Path(sys.argv[1])

def save(rank, ranks, step):
    net, optimizer = trained()
    saving = begin_together(checkpoint(net, optimizer, step), root / f"step-{step}.ckpt", ranks, rank)
    complete_together(saving, saving.write, ranks)
    plain = gathered(checkpoint(net, optimizer, 1))  # as one process saves it
    if rank == 0 and step == 2:
        write_checkpoint(plain, root / "plain/step-1.ckpt")

def load(rank, ranks):
    opening = partial(open_checkpoint, rank=rank, world=ranks.world)
    loaded = load_together(root / "step-3.ckpt", opening)  # one file of it is damaged, which one process looks at
    plain = load_together(root / "plain/step-1.ckpt", opening)
    net, optimizer = trained()
    own = net.state_dict()
    same, taken = {}, {}
    for name, one in (("sharded", loaded), ("plain", plain)):
        state = {key: laid_out(value, own[key], key) for key, value in one["state_dict"].items()}
        taken[name] = sum(value.to_local().numel() for value in state.values())
        expected = read_checkpoint(root / "step-2.ckpt")["state_dict"]
        same[name] = all(torch.equal(gathered(state)[key], expected[key]) for key in expected)
    ranks.gather([0])
    if rank == 0:
        (root / "step-2.ckpt/shard-00001.safetensors").write_bytes(b"")
    ranks.gather([0])
    assert loaded["state_dict"]["first.bias"].read(0, 2).isfinite().all()  # of the other shard
    try:
        laid_out(loaded["state_dict"]["first.bias"], own["first.weight"], "first.bias")
        refusal = ""
    except UserError as error:
        refusal = str(error)
    say({"step": loaded["global_step"], "same": same, "taken": taken, "refusal": refusal})

for step in (2, 3):
    assert group(2, save, step) == [0, 0]
damaged = root / "step-3.ckpt/shard-00001.safetensors"
data = bytearray(damaged.read_bytes())
data[-1] ^= 1
damaged.write_bytes(data)
assert group(3, load) == [0, 0, 0]
"""


@pytest.mark.slow
def test_all_take_the_checkpoint_that_is_whole_for_all_and_each_its_rows(tmp_path: Path) -> None:
    found = run_script(OPENED, str(tmp_path))
    assert [one["step"] for one in found] == [2, 2, 2]
    assert all(one["same"] == {"sharded": True, "plain": True} for one in found)
    weights = 7 * 5 + 5 + 2 * 5 * 3  # of the two that are tied each name is counted
    for kind in ("sharded", "plain"):
        assert sum(one["taken"][kind] for one in found) == weights
        assert all(one["taken"][kind] < weights / 2 for one in found)
    assert all(
        "a checkpoint must fit the model, but first.bias is [5] there and [5, 7] here" in one["refusal"]
        for one in found
    )


def test_what_fgvr_s_own_checkpoints_are_needed_for_is_refused_with_another_s() -> None:
    strategy = SingleDeviceStrategy(torch.device("cpu"), checkpoint_io=TorchCheckpointIO())
    refuse_other_savers(strategy, in_background=False)
    with pytest.raises(UserError, match=r"run\.save_in_background must have the checkpoints .* has TorchCheckpointIO"):
        refuse_other_savers(strategy, in_background=True)
    strategy.checkpoint_io = WholeCheckpointIO()
    refuse_other_savers(strategy, in_background=True)
