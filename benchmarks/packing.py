"""Packing a folder of photos of 32 KB: seconds and memory per photo for few and for many, and one that is killed.

Each packing is a process of its own. The few are packed once more after the many, to show how steady the machine is;
one packing of the many is killed half-way by SIGKILL, run again, and its bytes are compared with those of the one that
was left alone. Linux only, for the peak of memory. Run: python benchmarks/packing.py
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from json import dumps
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder

BYTES = 32 * 1024
CLASSES = 200
WIDTH, HEIGHT = 248, 184  # of noise, which fills nearly 32 KB
SPAWN = get_context("spawn")


@dataclass(frozen=True)
class Packing:
    """What one packing took; `cpu` are seconds of the processor, which other programs beside it stretch less.

    `tenths` are the processor's seconds of each tenth of the photos, `peak` bytes of memory.
    """

    photos: int
    seconds: float
    cpu: float
    tenths: tuple[float, ...]
    peak: int
    planning: float

    @property
    def each(self) -> float:
        """The processor's milliseconds per photo."""
        return self.cpu / self.photos * 1e3


def write_photos(folder: Path, count: int, small: Path, fewer: int) -> None:
    """Photos that differ in their bytes, in class folders; the first `fewer` of them stand in `small` too, as links."""
    rng = np.random.default_rng(0)
    drawn: list[bytes] = []
    for _ in range(16):
        coarse = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=94)
        drawn.append(stream.getvalue())
    for number in range(count):
        place = Path(f"Class of letter {number % CLASSES:03d} birds") / f"{number:07d}.jpg"
        data = drawn[number % len(drawn)]
        length = BYTES - len(data) - 2  # a comment behind the first marker makes up for what is missing
        comment = b"\xff\xfe" + length.to_bytes(2, "big") + f"{number:020d}".encode().ljust(length - 2)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data[:2] + comment + data[2:])
        if number < fewer:
            (small / place).parent.mkdir(parents=True, exist_ok=True)
            (small / place).hardlink_to(folder / place)


def packed(photos: Path, out: Path, told: SimpleQueue[Packing]) -> None:
    """Packs, in this process, and tells what it took."""
    began, used = time.perf_counter(), time.process_time()
    marks: list[float] = []

    def progress(done: int, planned: int) -> None:
        if done * 10 >= planned * len(marks):
            marks.append(time.process_time())

    manifest = pack(ImageFolder(photos, dataset="photos"), out, progress=progress)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    tenths = tuple(end - start for start, end in pairwise(marks))
    count = sum(shard.samples for shard in manifest.shards)
    told.put(Packing(count, seconds, cpu, tenths, peak_memory(), marks[0] - used))


def peak_memory() -> int:
    """Bytes that this process had in memory at the most."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def start(photos: Path, out: Path) -> tuple[BaseProcess, SimpleQueue[Packing]]:
    told = SPAWN.SimpleQueue()
    process = SPAWN.Process(target=packed, args=(photos, out, told))
    process.start()
    return process, told  # pyright: ignore[reportReturnType]


def whole(photos: Path, out: Path) -> Packing:
    os.sync()  # what was written before is not written now
    process, told = start(photos, out)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"a packing ended with {process.exitcode}")
    return told.get()


def killed_and_resumed(photos: Path, out: Path, shards: int) -> Packing:
    """Kills a packing once it has written so many shards, in the middle of the next, and goes on."""
    process, _ = start(photos, out)
    while len(list(out.glob("*.index.json"))) < shards or not list(out.glob("*.part")):
        time.sleep(0.02)
    process.kill()
    process.join()
    return whole(photos, out)


def digest(folder: Path) -> str:
    """Of the names and bytes of all files."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            total.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def line(name: str, one: Packing) -> str:
    tenths = " ".join(f"{second / one.photos * 1e4:.2f}" for second in one.tenths)
    return (
        f"{name}: {one.photos:,} photos in {one.seconds:.1f} s; processor {one.cpu:.1f} s, {one.each:.3f} ms each, "
        f"planned in {one.planning:.1f} s; peak {one.peak / 2**20:.0f} MiB; ms each by tenths: {tenths}"
    )


def main(
    few: int = 10_000, many: int = 100_000, kill: bool = True, folder: Path | None = None, json: Path | None = None
) -> None:
    """Prints a line for each packing and the ratios.

    Args:
        few: photos of the smaller set.
        many: photos of the larger set.
        kill: whether to kill a packing of the larger set too and go on.
        folder: where to write photos and shards (default: a temporary folder); photos that are there are used again.
        json: where to write the figures too.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = folder or Path(name)
        photos, fewer = place / f"photos-{many}", place / f"photos-{many}-{few}"
        if not photos.is_dir():
            write_photos(photos, many, fewer, few)
        first = whole(fewer, Path(name) / "first")
        print(line("few", first), flush=True)
        large = whole(photos, Path(name) / "large")
        print(line("many", large), flush=True)
        again = whole(fewer, Path(name) / "again")
        print(line("few again", again), flush=True)
        base = (first.each + again.each) / 2
        growth = (large.peak - first.peak) / (large.photos - first.photos)
        print(f"time per photo {large.each / base:.3f} x; memory + {growth:.0f} bytes for each photo more")
        figures = {"first": vars(first), "large": vars(large), "again": vars(again), "bytes_per_photo": growth}
        if kill:
            resumed = killed_and_resumed(photos, Path(name) / "killed", many // 1000 // 2)
            same = digest(Path(name) / "killed") == digest(Path(name) / "large")
            print(line("killed half-way, then", resumed) + f"; the same bytes: {same}")
            figures["same_bytes_after_kill"] = same
        if json is not None:
            json.write_text(dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
