"""How long a training takes to open a set of ten million members, up to its first batch, with and without columns.

Every shard of the set is the same tar under another name, so that five million samples take little room; their indexes
differ in the pictures' hashes, so that they are compared with those of a second set that is validated on. Each opening
is a process of its own; what is imported before does not count. Run: python benchmarks/opening.py
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import replace
from json import dumps
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli

from fgvr.aviary.source import Aviary
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import SFTData, ShardSource
from fgvr.models import PixelBudget, TinyQwen
from fgvr.shards.columns import HEAD, write_columns
from fgvr.shards.manifest import ShardInfo, index_name, load_manifest, save_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet

SAMPLES = 1000  # in a shard
SPAWN = get_context("spawn")


def write_set(folder: Path, packed: Path, split: str, shards: int, seed: int) -> None:
    """A set of so many shards of one split, all of them the only training shard of `packed`."""
    manifest = load_manifest(packed)
    (one,) = manifest.select("train", ("seen",))
    text = (packed / one.index_file).read_bytes()
    start, end = text.index(b',"file"') + 1, text.rindex(b"}")
    pieces = (b"{" + text[start:end] + b"}\n").replace(one.file.encode(), b"\0").split(b'"picture":"')
    rng, infos = np.random.default_rng(seed), list[ShardInfo]()
    folder.mkdir()
    for number in range(shards):
        file = f"{split}-seen-{number:06d}.tar"
        hashes = rng.bytes(32 * SAMPLES).hex().encode()
        filled = [b'"picture":"' + hashes[64 * n : 64 * n + 64] + piece[64:] for n, piece in enumerate(pieces[1:])]
        content = b"".join([pieces[0], *filled]).replace(b"\0", file.encode())
        digest = hashlib.sha256(content).hexdigest()
        index = b'{"digest":"sha256:' + digest.encode() + b'",' + content[1:]
        (folder / index_name(file)).write_bytes(index)
        (folder / file).hardlink_to(packed / one.file)
        hashed = hashlib.sha256(index).hexdigest()
        info = replace(one, file=file, index_file=index_name(file), split=split, index_sha256=hashed)
        infos.append(info)
    count = shards * SAMPLES
    counts = {split: {label: count // len(manifest.cohorts) for label in manifest.cohorts}}
    whole = replace(manifest, shards=tuple(infos), counts=counts, dataset=folder.name)
    if not write_columns(folder, whole):
        raise RuntimeError("the indexes are not spelt as packing spells them")
    save_manifest(whole, folder)


def opened(train: Path, val: Path, told: SimpleQueue[dict[str, float]]) -> None:
    """Seconds to open the set and read a sample of it, and to set a data module up and have a first batch.

    Also those of the processor, which other programs beside it stretch less.
    """
    processor = TinyQwen(str(train / "manifest.json")).processor(PixelBudget(784, 7056))
    seconds: dict[str, float] = {}
    began, used = time.perf_counter(), time.process_time()
    shard_set = ShardSet(train, "train", ("seen",))
    shard_set.read(len(shard_set) // 2)
    seconds["a sample"] = time.perf_counter() - began
    seconds["processor, a sample"] = time.process_time() - used
    began, used = time.perf_counter(), time.process_time()
    data = SFTData([ShardSource(train)], OpenWorld(), val=[val], batch_size=32, micro_batch_tokens=65536, workers=0)
    data.processor = processor
    data.setup("fit")
    seconds["setup, compared with the other set"] = time.perf_counter() - began
    next(iter(data.train_dataloader()))
    seconds["a first batch"] = time.perf_counter() - began
    seconds["processor, a first batch"] = time.process_time() - used
    began = time.perf_counter()
    data.val_dataloader()
    seconds["the order of validation besides"] = time.perf_counter() - began
    told.put(seconds)


def measured(train: Path, val: Path) -> dict[str, float]:
    told: Any = SPAWN.SimpleQueue()
    process = SPAWN.Process(target=opened, args=(train, val, told))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"an opening ended with {process.exitcode}")
    return told.get()


def main(
    shards: int = 5000, val_shards: int = 100, without: bool = True, rounds: int = 3, folder: Path | None = None,
    json: Path | None = None,
) -> None:  # fmt: skip
    """Prints the seconds of each round.

    Args:
        shards: of 1000 samples of two members each.
        val_shards: of the set that is validated on.
        without: whether to open it once without its columns too.
        rounds: openings with columns.
        folder: where to write the sets (default: a temporary folder); what is there is used again.
        json: where to write the figures too.
    """
    with tempfile.TemporaryDirectory() as name:
        place = folder or Path(name)
        packed, train, val = place / "packed", place / f"train-{shards}", place / f"val-{val_shards}"
        if not packed.is_dir():
            options = PackOptions(samples_per_shard=SAMPLES, val=0, test=0)
            pack(Aviary(species=50, unseen=0, train=SAMPLES // 50, val=0, test=0, size=56), packed, options)
        for target, split, count, seed in ((train, "train", shards, 0), (val, "val", val_shards, 1)):
            if not target.is_dir():
                write_set(target, packed, split, count, seed)
        figures: dict[str, Any] = {"members": 2 * SAMPLES * shards, "with": [], "without": None}
        print(f"{2 * SAMPLES * shards:,} members, validated on {SAMPLES * val_shards:,} samples of another set")
        for _ in range(rounds):
            figures["with"].append(measured(train, val))
            print("with columns:", said(figures["with"][-1]), flush=True)
        if without:
            heads = [(target / HEAD, target / f".{HEAD}") for target in (train, val)]
            for head, hidden in heads:
                head.rename(hidden)
            try:
                figures["without"] = measured(train, val)
            finally:
                for head, hidden in heads:
                    hidden.rename(head)
            print("without:", said(figures["without"]))
        if json is not None:
            json.write_text(dumps(figures, indent=1))


def said(seconds: dict[str, float]) -> str:
    return "; ".join(f"{what} {value:.2f} s" for what, value in seconds.items())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
