"""Streaming from shards with one worker against a bare loop over the same JPEG files, interleaved in one run.

The bare loop reads a file, decodes it and preprocesses it for the model, and does nothing else. The stream does that
too, and besides it shuffles, checks every byte against the index, tokenises, packs and hands whole batches to the
training process. The processor's time per photo, of the loop and of the worker, is shown too: what else runs on a
machine stretches that less than it stretches a rate. Run: python benchmarks/streaming.py
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.table import Table

from fgvr.aviary.source import Aviary
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import SFTData, ShardSource
from fgvr.models import PixelBudget, Processor, TinyQwen
from fgvr.shards.loading import StepLoader
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources.image_folder import ImageFolder


def write_photos(folder: Path, count: int, width: int, height: int) -> None:
    """Drawn birds, enlarged to a camera's shape: detail enough for a JPEG of ordinary size."""
    aviary = Aviary(species=48, unseen=0, size=256)
    for index in range(count):
        species = aviary.species[index % 16]
        place = folder / "train" / species.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        aviary.draw(species, index).resize((width, height), Image.Resampling.BICUBIC).save(
            place / f"{index}.jpg", quality=90
        )


def bare_rate(files: list[Path], processor: Processor) -> tuple[float, float]:
    """Photos a second, one after the other, and the processor's milliseconds for each."""
    order = random.Random(0).sample(files, len(files))
    start, used = time.perf_counter(), time.process_time()
    for file in order:
        with Image.open(file) as image:
            processor.image_processor([image.convert("RGB")], return_tensors="pt")
    return len(order) / (time.perf_counter() - start), (time.process_time() - used) / len(order) * 1e3


def stream_rate(data: SFTData, batches: int) -> tuple[float, float]:
    """As `bare_rate` through the whole stream, after the worker has started and its first batches are gone.

    The milliseconds are the worker's.
    """
    data.stream = None
    seen, start, used = 0, 0.0, 0.0
    stream = data.train_dataloader()
    for number, batch in enumerate(stream):
        if number == 2:
            seen, start, used = 0, time.perf_counter(), worker_seconds(stream)
        for rows in batch.micro_batches:
            data.processor.pixel_values(rows.images)  # the last of the preprocessing, where the model would do it
        seen += batch.examples
        if number == batches:
            break
    found = seen / (time.perf_counter() - start), (worker_seconds(stream) - used) / seen * 1e3
    data.teardown("fit")
    return found


def worker_seconds(stream: StepLoader[Any]) -> float:
    """What the only worker has had of the processor (Linux alone says it, in hundredths)."""
    (worker,) = stream._loader._iterator._workers  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(name: str, folder: Path, files: list[Path], pixels: PixelBudget, rounds: int) -> dict[str, float | str]:
    processor = TinyQwen(str(folder / "manifest.json")).processor(pixels)
    data = SFTData([ShardSource(folder)], OpenWorld(), batch_size=32, micro_batch_tokens=65536, workers=1)
    data.processor = processor
    data.setup("fit")
    batches = len(ShardSet(folder, "train", ("seen",))) // 32 - 1
    bare, stream = [], []
    for _ in range(rounds):
        bare.append(bare_rate(files, processor))
        stream.append(stream_rate(data, batches))
    return {
        "photos": name,
        "bare": statistics.median(rate for rate, _ in bare),
        "stream": statistics.median(rate for rate, _ in stream),
        "ratio": statistics.median(s[0] / b[0] for s, b in zip(stream, bare, strict=True)),
        "bare_ms": statistics.median(ms for _, ms in bare),
        "worker_ms": statistics.median(ms for _, ms in stream),
    }


def main(count: int = 768, width: int = 500, height: int = 375, rounds: int = 5, json_file: Path | None = None) -> None:
    """Prints one table.

    Args:
        count: photos of the larger kind.
        width: in pixels, of the larger kind.
        height: likewise.
        rounds: bare loop and stream take turns this often; medians are shown.
        json_file: where to write the figures too.
    """
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_photos(root / "photos", count, width, height)
        pack(ImageFolder(root / "photos"), root / "shards", PackOptions(val=0.0, test=0.0))
        files = sorted((root / "photos").rglob("*.jpg"))
        results.append(compare(f"{width} x {height}", root / "shards", files, PixelBudget(784, 336 * 336), rounds))
        aviary = Aviary(species=48, unseen=0, train=24, val=0, test=0)
        pack(aviary, root / "aviary")
        small = root / "small"
        small.mkdir()
        for record in aviary.records():
            (small / f"{record.name}.jpg").write_bytes(record.load())  # pyright: ignore[reportAttributeAccessIssue]
        results.append(
            compare("Aviary, 84 x 84", root / "aviary", sorted(small.iterdir()), PixelBudget(784, 7056), rounds)
        )
    table = Table(
        *("photos", "bare loop, photos/s", "stream, one worker", "ratio", "processor ms, bare", "worker"),
        title="reading, decoding and preprocessing",
    )
    for row in results:
        table.add_row(
            str(row["photos"]), f"{row['bare']:.0f}", f"{row['stream']:.0f}", f"{row['ratio']:.2f}",
            f"{row['bare_ms']:.2f}", f"{row['worker_ms']:.2f}",
        )  # fmt: skip
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
