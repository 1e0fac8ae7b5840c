"""Hostile files of every kind, each opened as a user would, by a process that watches itself: `hostile_set.py FOLDER`.

Prints, as JSON, of each case how it ended, what was said, its seconds (of work, and with all waiting), the megabytes
that it took at the most, and what of code, processes and network it touched. A case's number is its kind's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hostile import REFUSED, write_folder
from hostile_results import REFUSED as MORE
from hostile_results import RESULTS
from hostile_results import model as small_model
from parquet_rows import row, written
from small_checkpoints import save
from toy_stream import write_set

from fgvr.__main__ import main
from fgvr.checkpoints.format import read_checkpoint, verify_checkpoint
from fgvr.checkpoints.manifest import MANIFEST as CONFIRMED
from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError
from fgvr.shards.manifest import (
    MemberEntry,
    SampleEntry,
    dump_index,
    load_manifest,
    parse_index,
    save_manifest,
)
from fgvr.shards.packing import pack
from fgvr.shards.reading import ShardSet
from fgvr.sources import CSV, ChoiceJSON, ImageFolder, TripletParquet

CODE = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request")
TELLTALE = ("this", "antigravity")  # modules that nothing but hostile files names
touched: list[str] = []
Case = Callable[[Path], object]


def watch(event: str, given: tuple[Any, ...]) -> None:
    if event in CODE or event in NETWORK or (event == "import" and given[0] in TELLTALE):
        touched.append(f"{event} {given[0]!r}")


class Runs:
    """What a pickle would do: leave a file."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HOSTILE_MARK"],)


def picture(make: Callable[[], bytes]) -> Case:
    return lambda folder: open_image(make(), "birds/1.jpg")


def index_changed(change: Callable[[SampleEntry], SampleEntry]) -> Case:
    """A set whose first sample's entry is another, with hashes that fit: whoever made it could sign it."""

    def read(folder: Path) -> object:
        write_set(folder, {"train-seen": [3]})
        manifest = load_manifest(folder)
        shard = manifest.shards[0]
        index = parse_index(folder / shard.index_file, (folder / shard.index_file).read_bytes())
        data = dump_index(dataclasses.replace(index, samples=(change(index.samples[0]), *index.samples[1:])))
        (folder / shard.index_file).write_bytes(data)
        signed = dataclasses.replace(shard, index_sha256=hashlib.sha256(data).hexdigest())
        save_manifest(dataclasses.replace(manifest, shards=(signed,)), folder)
        return ShardSet(folder, "train", ("seen",)).read(0)

    return read


def member(**changes: Any) -> Case:
    def changed(entry: SampleEntry) -> SampleEntry:
        first, *others = entry.members
        return dataclasses.replace(entry, members=(dataclasses.replace(first, **changes), *others))

    return index_changed(changed)


def renamed(suffix: str) -> Case:
    return index_changed(
        lambda entry: dataclasses.replace(
            entry, members=(*entry.members, MemberEntry(f"{entry.key}.{suffix}", 0, 8, 0))
        )
    )


def tar_changed(change: Callable[[bytearray], bytes | bytearray]) -> Case:
    def read(folder: Path) -> object:
        write_set(folder, {"train-seen": [3]})
        tar = folder / "train-seen-000000.tar"
        tar.write_bytes(change(bytearray(tar.read_bytes())))
        whole = ShardSet(folder, "train", ("seen",))
        return [whole.read(number) for number in range(3)]

    return read


def listed(text: bytes) -> Case:
    def read(folder: Path) -> object:
        (folder / "list.csv").write_bytes(text)
        return all_good(CSV(folder / "list.csv"))

    return read


def items(text: str) -> Case:
    def read(folder: Path) -> object:
        (folder / "mcq.json").write_text(text)
        return all_good(ChoiceJSON(folder / "mcq.json"))

    return read


def all_good(source: Any) -> list[Any]:
    """The records. Raises UserError for the first that is refused, as a source counts it."""
    found = list(source.records())
    for one in found:
        if hasattr(one, "reason"):
            raise UserError(str(one))
    return [one.load() for one in found]


def parquet(change: Callable[[Path], object]) -> Case:
    def read(folder: Path) -> object:
        change(folder / "a.parquet")
        return all_good(TripletParquet(folder / "a.parquet"))

    return read


def pickled_metadata(file: Path) -> None:
    table = pa.table({"images": pa.array([b"x"])}).replace_schema_metadata({b"pandas": pickle.dumps(Runs())})
    pq.write_table(table, file)


def config(text: str) -> Case:
    def fit(folder: Path) -> object:
        (folder / "config.yaml").write_text(text)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(["fit", "--config", str(folder / "config.yaml")])
        if code == 2:
            raise UserError(said.getvalue())
        return code

    return fit


def model(class_path: str) -> Case:
    return config(f"model: {{class_path: {class_path}}}\ndata: {{class_path: fgvr.datamodules.SFTData}}\n")


def state(make: Callable[[Path], object]) -> Case:
    """A checkpoint whose state is what `make` writes, with a manifest that fits."""

    def read(folder: Path) -> object:
        path = save(folder, 1)
        file = path / "state.pt"
        make(file)
        manifest = json.loads((path / CONFIRMED).read_text())
        manifest.pop("sha256")
        data = file.read_bytes()
        manifest["files"]["state.pt"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        (path / CONFIRMED).write_text(json.dumps({**manifest, "sha256": own}))
        return read_checkpoint(path)

    return read


def linked_checkpoint(folder: Path) -> object:
    there = save(folder / "elsewhere", 5)
    (folder / "run").mkdir()
    (folder / "run/step-9.ckpt").symlink_to(there)
    return verify_checkpoint(folder / "run/step-9.ckpt")


def leaking_folder(folder: Path) -> object:
    """The same photo under two labels."""
    root = write_folder(folder / "birds", 2, 4)
    (root / "class 1/copy.jpg").write_bytes((root / "class 0/0.jpg").read_bytes())
    manifest = pack(ImageFolder(root), folder / "out")
    raise UserError(f"{root}: {len(manifest.leaks)} leaks are named in the manifest")


HEADER = struct.pack("<Q", 1 << 62) + b"{}"
DEEP = "[" * 100_000
CASES: dict[str, Case] = {
    **{f"1-10 {name}": picture(make) for name, (make, _) in REFUSED.items()},
    "11 cut at a member's border": tar_changed(lambda data: data[:1024]),
    "12 a flipped byte of a photo": tar_changed(lambda data: data[:520] + bytes([data[520] ^ 1]) + data[521:]),
    "13 a hole of zeros": tar_changed(lambda data: data[:512] + bytes(512) + data[1024:]),
    "14 a member of 2^60 bytes": member(size=1 << 60),
    "14 a member at 2^60": member(offset=1 << 60),
    "15 a member that is code": renamed("pyd"),
    "15 a member that is a pickle": renamed("pth"),
    "16 a name that climbs": member(name="../../x.png"),
    "16 a name with NUL": member(name="s00000\0.png"),
    "16 a name of 10,000": member(name="x" * 10_000 + ".png"),
    "17 another key": member(name="s00002.png"),
    "18 packed json": renamed("json.gz"),
    "20 an open quote": listed(b'file,label\na.jpg,wren\nb.jpg,"crow\nc.jpg,kite\n'),
    "21 a field of 140,000": listed(b"file,label\na.jpg," + b"x" * 140_000 + b"\n"),
    "22 another encoding": listed(b"file,label\na.jpg,M\xf6we\n"),
    "22 NUL": listed(b"file,label\na.jpg,wr\0en\n"),
    "24 a json 100,000 deep": items(DEEP),
    "24 a number of 5,000 digits": items('[{"image_path": ' + "1" * 5000 + "}]"),
    "24 NaN": items('[{"image_path": "a.png", "problem": NaN, "solution": "<answer>A</answer>"}]'),
    "25 a parquet that is cut": parquet(
        lambda file: file.write_bytes(written(file, [row(0, "Robin"), row(1, "Wren")]).read_bytes()[:-40])
    ),
    "25 another schema": parquet(lambda file: pq.write_table(pa.table({"x": [1]}), file)),
    "25 pickled metadata": parquet(pickled_metadata),
    "26 a photo under two labels": leaking_folder,
    "26 a label of two lines": listed(b'file,label\na.jpg,"wren\nowl"\n'),
    "26 a label from right to left": listed("file,label\na.jpg,wr\u202een\n".encode()),
    "27 a key twice": config("run: {dir: a}\nrun: {dir: b}\n"),
    "28 an alias bomb": config(
        "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 9}]\n" for n in range(9))
    ),
    "28 a yaml 5,000 deep": config("run: " + "[" * 5000 + "]" * 5000),
    "29 an object of python": config("run: !!python/object/apply:os.system ['touch x']\n"),
    "29 a function of the system": model("os.system"),
    "29 a module that speaks": model("this.s"),
    "30 an unknown key": config("runs: {dir: x}\n"),
    "30 a secret": config("run: {dir: '${oc.env:HOSTILE_SECRET}', keeep: 1}\n"),
    "38 a pickle that runs": state(lambda file: file.write_bytes(pickle.dumps({"a": Runs()}, protocol=2))),
    "38 torch's pickle that runs": state(lambda file: torch.save({"optimizer_states": [Runs()]}, file)),
    "39 a class to be made": state(
        lambda file: torch.save({"hyper_parameters": {"_instantiator": "os.system", "_class_path": "this.s"}}, file)
    ),
    "40 a header of 2^62": state(lambda file: file.write_bytes(HEADER)),
    "42 a link out of the run": linked_checkpoint,
    **MORE,
    **RESULTS,
}
PASSES = ("39 a class to be made", *RESULTS)  # the first is words, which nothing is made of
NAMED = {"29 a module that speaks": ["import 'this'"]}  # a config names classes, of one's own too: these are imported


def ended(case: Case, folder: Path) -> tuple[str, str]:
    folder.mkdir()
    try:
        case(folder)
    except (SampleError, UserError) as error:
        return type(error).__name__, str(error)
    except Exception as error:
        return f"untyped {type(error).__name__}", str(error)
    return "passed", ""


def held() -> float:
    """Megabytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak() -> float:
    """Megabytes that this process has ever held; less what it held before a case, no less than the case took."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def found(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, (name, case) in enumerate(CASES.items()):
        touched.clear()
        began, busy, before = time.monotonic(), time.process_time(), held()
        how, said = ended(case, folder / f"{number:02}")
        seconds = {"seconds": time.process_time() - busy, "waited": time.monotonic() - began}
        yield name, {"how": how, "said": said, **seconds, "megabytes": peak() - before, "touched": list(touched)}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    os.environ["HOSTILE_MARK"] = str(place / "ran")
    (place / "warm").mkdir()
    with contextlib.suppress(UserError):
        model("fgvr.modules.SFT")(place / "warm")  # loads what every command loads
    small_model()
    sys.addaudithook(watch)
    print(json.dumps({"cases": dict(found(place)), "ran": (place / "ran").exists()}))
