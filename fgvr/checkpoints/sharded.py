"""Tensors of which each process holds some rows: written by those who hold them, read by whoever needs which.

In `state.pt` a tensor on the meta device stands for each of them, which says its shape and holds nothing; its name in
the shards is its place there ("optimizer_states/0/state/7/exp_avg"). A shard's header says, under the same names, which
row of the whole is its first.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from fgvr.checkpoints.hashed import hashed, write_state
from fgvr.checkpoints.manifest import (
    SHARD_FORM,
    STATE,
    CheckpointManifest,
    DamagedCheckpoint,
    FileRecord,
    open_confined,
)
from fgvr.checkpoints.plain_data import with_each
from fgvr.errors import UserError
from fgvr.retries import patiently

DTYPES = {  # as safetensors spells them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
METADATA = "__metadata__"

Rows = dict[str, tuple[int, Tensor]]  # by the place of the whole tensor: which of its rows the first is, and the rows


@dataclass(frozen=True)
class Part:
    """What one process writes of a checkpoint: the `state`, if it leads, and the `rows` that it holds, as `shard`."""

    state: dict[str, Any] | None
    rows: Rows = field(default_factory=dict[str, tuple[int, Tensor]])
    shard: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.state is None and not self.rows

    def write(self, folder: Path) -> dict[str, FileRecord]:
        """The files, by name, that are now on the disk. Raises OSError."""
        files: dict[str, FileRecord] = {}
        if self.rows:
            shard = folder / self.shard
            files[self.shard] = patiently(lambda: write_shard(self.rows, shard), shard)
        if self.state is not None:
            files[STATE] = write_state(self.state, folder / STATE)
        return files


def part_of(content: dict[str, Any], rank: int) -> Part:
    """This process's part of a checkpoint's plain dictionary; process 0 leads. No tensor is copied.

    Of rows that several processes hold alike, the first of these writes them. Raises UserError for tensors that are
    split otherwise than by rows.
    """
    rows: Rows = {}
    known: dict[tuple[Any, ...], Tensor] = {}  # weights that are tied stay so, and are written once

    def taken_out(tensor: Tensor, place: str) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        own = own_rows(tensor)
        if tensor.dim() == 0:
            return own
        same = (own.data_ptr(), own.stride(), tensor.shape, tensor.dtype)
        if same not in known:
            known[same] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
            if own.numel() and _writes(tensor):
                rows[place] = first_row(tensor), own
        return known[same]

    state = with_each(Tensor, content, taken_out)
    return Part(state if rank == 0 else None, rows, f"shard-{rank:05d}.safetensors")


def own_rows(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: some rows, or all of one that is not split."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def first_row(tensor: DTensor) -> int:
    """Which row of the whole is the first that this process holds. Raises UserError for another split than by rows."""
    if any(type(one) not in (Replicate, Shard) for one in tensor.placements) or any(
        one.is_shard() and not one.is_shard(0) for one in tensor.placements
    ):
        raise UserError(f"a checkpoint's tensors must be split by rows alone, but one is split by {tensor.placements}")
    return compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)[1][0]


def write_shard(rows: Rows, file: Path) -> FileRecord:
    """A safetensors file, written as a stream: hashed on its way, and never in memory a second time. Raises OSError."""
    firsts = {place: str(first) for place, (first, _) in rows.items()}
    header: dict[str, Any] = {METADATA: firsts}
    names = sorted(rows, key=lambda place: -rows[place][1].element_size())  # so that each is aligned
    end = 0
    for place in names:
        tensor = rows[place][1]
        if tensor.dtype not in DTYPES:
            raise UserError(f"a sharded checkpoint has no word for {tensor.dtype}, which {place} is of")
        start, end = end, end + tensor.nbytes
        header[place] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with hashed(file) as writer:
        writer.write(len(text).to_bytes(8, "little"))
        writer.write(text)
        for place in names:
            writer.write(rows[place][1].cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return writer.record


class StoredTensor:
    """A tensor whose rows are in the shards of a checkpoint and have not been read yet."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype, pieces: list[tuple[int, Any]]) -> None:
        self.shape, self.dtype, self._pieces = shape, dtype, pieces

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        """The rows from `first` up to, but not including, `last`; of the files only those that hold some are read."""
        last = self.shape[0] if last is None else last
        rows = torch.empty((last - first, *self.shape[1:]), dtype=self.dtype)
        for start, piece in self._pieces:
            low, high = max(first, start), min(last, start + piece.get_shape()[0])
            if low < high:
                rows[low - first : high - first] = piece[low - start : high - start]
        return rows


def opened(path: Path, manifest: CheckpointManifest, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's dictionary as `state.pt` has it, with a StoredTensor for each that the shards hold.

    Raises DamagedCheckpoint when they do not hold every row of it once.
    """
    pieces: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for name in filter(SHARD_FORM.fullmatch, manifest.files):
        for place, piece in _pieces(path, name).items():
            pieces[place].append(piece)
    known: dict[int, StoredTensor] = {}

    def found(tensor: Tensor, place: str) -> Tensor | StoredTensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in known:
            known[id(tensor)] = _stored(path, place, tensor, sorted(pieces[place], key=lambda piece: piece[0]))
        return known[id(tensor)]

    return with_each(Tensor, state, found)


def read_whole(value: Any) -> Any:
    """The same with every row of every StoredTensor read; those that stand in several places stay one."""
    read: dict[int, Tensor] = {}

    def filled(stored: StoredTensor, _: str) -> Tensor:
        if id(stored) not in read:
            read[id(stored)] = stored.read()
        return read[id(stored)]

    return with_each(StoredTensor, value, filled)


def _writes(tensor: DTensor) -> bool:
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return not any(at for at, placement in zip(coordinate, tensor.placements, strict=True) if placement.is_replicate())


def _pieces(path: Path, name: str) -> Mapping[str, tuple[int, Any]]:
    """The rows that a shard holds, unread, by the place of their tensor, with the number of the first."""
    with open_confined(path, name):
        pass
    try:
        file = safe_open(path / name, framework="pt")
        firsts = file.metadata() or {}
        return {place: (int(firsts[place]), file.get_slice(place)) for place in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"The checkpoint {path} has a shard {name} that cannot be read: {error}.") from error


def _stored(path: Path, place: str, like: Tensor, pieces: list[tuple[int, Any]]) -> StoredTensor:
    end = 0
    for first, piece in pieces:
        shape = torch.Size(piece.get_shape())
        fits = first == end and shape[1:] == like.shape[1:] and piece.get_dtype() == DTYPES.get(like.dtype)
        end = end + shape[0] if fits else -1
    if end != like.shape[0]:
        raise DamagedCheckpoint(f"The checkpoint {path} must hold every row of {place} once, but its shards do not.")
    return StoredTensor(like.shape, like.dtype, pieces)
