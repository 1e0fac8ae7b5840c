import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_checkpoints import save_sharded

from fgvr.checkpoints.format import (
    checkpoints_in,
    newest_checkpoint,
    open_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    verify_checkpoint,
)
from fgvr.checkpoints.manifest import MANIFEST, SHARDED, STATE, DamagedCheckpoint, read_manifest
from fgvr.checkpoints.sharded import Part, StoredTensor, write_shard
from fgvr.errors import UserError

SHARDS = ["shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"]


def content(step: int = 4) -> dict[str, Any]:
    torch.manual_seed(step)
    kinds = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
    tensors = {str(kind): torch.randint(0, 2, (7, 3), dtype=torch.int8).to(kind) for kind in kinds}
    state = {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(7, 3)}}
    return {
        "global_step": step,
        "state_dict": tensors | {"short": torch.randn(2), "none": torch.empty(0, 4), "odd": torch.randn(5, 1, 3)},
        "optimizer_states": [{"state": state, "param_groups": [{"params": [0]}]}],
    }


def confirm_again(path: Path) -> None:
    """Has the manifest say what the files now are, as somebody might who means harm."""
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["sha256"]
    for name in manifest["files"]:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / MANIFEST).write_text(json.dumps({**manifest, "sha256": own}))


def test_all_rows_come_back_and_any_of_them_alone(tmp_path: Path) -> None:
    given = content()
    path = save_sharded(given, tmp_path / "step-4.ckpt", 3)
    manifest = verify_checkpoint(path)
    assert (manifest.format, manifest.step, sorted(manifest.files)) == (SHARDED, 4, [*SHARDS, STATE])
    read, opened = read_checkpoint(path), open_checkpoint(path)
    for name, tensor in given["state_dict"].items():
        assert read["state_dict"][name].dtype == tensor.dtype
        assert torch.equal(read["state_dict"][name], tensor)
        stored = opened["state_dict"][name]
        assert isinstance(stored, StoredTensor)
        assert (stored.shape, stored.dtype) == (tensor.shape, tensor.dtype)
        for first in range(len(tensor) + 1):
            assert all(torch.equal(stored.read(first, to), tensor[first:to]) for to in range(first, len(tensor) + 1))
    moments, expected = (one["optimizer_states"][0]["state"][0] for one in (read, given))
    assert torch.equal(moments["exp_avg"], expected["exp_avg"])
    assert moments["step"] == expected["step"]
    held = [load_file(path / name) for name in SHARDS]  # as whoever has safetensors reads them
    odd = "state_dict/odd"
    assert torch.equal(torch.cat([one[odd] for one in held if odd in one]), given["state_dict"]["odd"])


def test_the_digest_is_of_all_files_and_the_folder_is_as_any_other(tmp_path: Path) -> None:
    first, second = content(1), content(1)
    second["state_dict"]["short"][1] += 1.0  # in the second shard alone
    one, other, same = (
        save_sharded(given, tmp_path / f"step-{n}.ckpt") for n, given in ((1, first), (2, second), (3, content(1)))
    )
    digests = [read_manifest(path).digest for path in (one, other, same)]
    assert digests[0] == digests[2] != digests[1]
    assert read_manifest(one).files[STATE] == read_manifest(other).files[STATE]
    assert len(checkpoints_in(tmp_path)) == 3
    remove_checkpoint(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1.ckpt", "step-3.ckpt"]


@pytest.mark.parametrize("name", [*SHARDS[:2], STATE, MANIFEST])
def test_a_flipped_bit_or_a_file_that_lacks_is_noticed_in_each(tmp_path: Path, name: str) -> None:
    whole = save_sharded(content(1), tmp_path / "step-1.ckpt")
    path = save_sharded(content(2), tmp_path / "step-2.ckpt")
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(DamagedCheckpoint, match=r"damaged|hash"):
        read_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=f"lacks a readable {name}"):
        open_checkpoint(path)
    assert newest_checkpoint(tmp_path) == whole


def test_rows_that_lack_or_stand_twice_are_refused_though_the_manifest_fits(tmp_path: Path) -> None:
    path = save_sharded({"global_step": 1, "w": torch.arange(6.0)}, tmp_path / "step-1.ckpt")
    for rows in (
        {"w": (4, torch.zeros(2))},
        {"w": (2, torch.zeros(4))},
        {"w": (3, torch.zeros(4))},
        {"w": (3, torch.zeros(3, 1))},
        {"w": (3, torch.zeros(3).double())},
        {"v": (3, torch.zeros(3))},
    ):
        write_shard(rows, path / SHARDS[1])
        confirm_again(path)
        with pytest.raises(DamagedCheckpoint, match="must hold every row of w once, but its shards do not"):
            read_checkpoint(path)
    (path / SHARDS[1]).write_bytes(b"no safetensors")
    confirm_again(path)
    with pytest.raises(DamagedCheckpoint, match=f"has a shard {SHARDS[1]} that cannot be read"):
        read_checkpoint(path)


def test_other_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    path = save_sharded(content(), tmp_path / "a.ckpt")
    text = (path / MANIFEST).read_text()
    for change, error, sentence in (
        ({"files": {STATE: {"size": 1, "sha256": ""}}}, DamagedCheckpoint, "must list state.pt and its shards"),
        ({"files": {STATE: {"size": 1, "sha256": ""}, "../x": {"size": 1, "sha256": ""}}}, DamagedCheckpoint, "its sh"),
        ({"format": 1}, DamagedCheckpoint, "must list state.pt alone"),
        ({"format": 3}, UserError, "has format 3, this version reads 1 and 2: use the version of fgvr that wrote it"),
    ):
        manifest = json.loads(text) | change
        del manifest["sha256"]
        own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        (path / MANIFEST).write_text(json.dumps({**manifest, "sha256": own}))
        with pytest.raises(error, match=sentence):
            read_checkpoint(path)


def test_what_a_shard_has_no_word_for_and_what_has_no_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no word for torch.complex64, which w is of"):
        Part(None, {"w": (0, torch.zeros(2, dtype=torch.complex64))}, SHARDS[0]).write(tmp_path)
    with pytest.raises(UserError, match=r"but checkpoint\['w'\] is on the meta device"):
        save_sharded({"w": torch.empty(2, device="meta")}, tmp_path / "a.ckpt")
