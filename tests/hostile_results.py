"""Hostile files whose end is a documented result, and weights that are not those of the model beside them."""

from __future__ import annotations

import atexit
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from conftest import tiny_policy
from hostile import animated, encoded, grey16, jpeg, palette_with_alpha, photo, turned
from safetensors.torch import load_file, save_file
from toy_stream import LABELS, write_set

from fgvr.data.images import open_image
from fgvr.models import Policy, PolicyConfig, Pretrained
from fgvr.models.saved import policy_card, write_hf_folder
from fgvr.models.trained import rebuild
from fgvr.shards.manifest import Manifest, load_index, load_manifest, save_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import CSV, ImageFolder

STRINGS = ("None", "NA", "nan", "no", "1e5", "=cmd()", "0x1F", "12:30", "true")
LINK, DEVICE = b"2", b"3"  # types of a tar's members
Case = Callable[[Path], object]


def rotten_jpeg() -> bytes:
    """A JPEG with a changed byte in the middle of its scan, which is no marker: it decodes, to other colours."""
    data = bytearray(jpeg(3, (200, 200)))
    place = next(n for n in range(len(data) // 2, len(data)) if not {data[n - 1], data[n], data[n + 1]} & {0, 255})
    data[place] ^= 1
    return bytes(data)


def decodes(folder: Path) -> object:
    image = open_image(rotten_jpeg(), "birds/1.jpg")
    assert image.size == (200, 200)
    assert image.tobytes() != open_image(jpeg(3, (200, 200)), "birds/1.jpg").tobytes()
    return image


def noted(make: Callable[[], bytes], note: str, size: tuple[int, int] | None = None) -> Case:
    """The picture is packed as upright RGB, and the manifest counts what was done to it."""

    def read(folder: Path) -> object:
        for name, data in (("wren/0.jpg", make()), ("owl/0.jpg", jpeg(1))):
            (folder / "in" / name).parent.mkdir(parents=True)
            (folder / "in" / name).write_bytes(data)
        manifest = pack(ImageFolder(folder / "in"), folder / "out", PackOptions(val=0, test=0))
        assert manifest.notes[note] == 1, manifest.notes
        (entry,) = (one for one in load_index(folder / "out", manifest.shards[0]) if one.label == "wren")
        assert size in (None, (entry.width, entry.height))
        whole = ShardSet(folder / "out", "train", ("seen",))
        return [open_image(whole.read(number).images[0], "again") for number in range(len(whole))]

    return read


def member_of_type(kind: bytes) -> Case:
    """A member that says it is a link or a device: members are read by their places, and nothing is followed."""

    def read(folder: Path) -> object:
        write_set(folder, {"train-seen": [3]})
        tar = folder / "train-seen-000000.tar"
        data = bytearray(tar.read_bytes())
        data[156:157] = kind
        data[157:168] = b"/etc/passwd"
        before = ShardSet(folder, "train", ("seen",)).read(0)
        tar.write_bytes(data)
        assert ShardSet(folder, "train", ("seen",)).read(0) == before
        return before

    return read


def shard_called(name: str) -> Case:
    """A manifest that names a shard which is a command or an address, signed by whoever made it."""

    def read(folder: Path) -> object:
        write_set(folder, {"train-seen": [3]})
        manifest: Manifest = load_manifest(folder)
        save_manifest(replace(manifest, shards=(replace(manifest.shards[0], file=name),)), folder)
        return ShardSet(folder, "train", ("seen",)).read(0)

    return read


def class_of(make: Callable[[Path], object]) -> Case:
    """A folder of photos in which one is something else."""

    def read(folder: Path) -> object:
        for label in ("wren", "owl"):
            (folder / label).mkdir()
            (folder / label / "1.jpg").write_bytes(jpeg(len(label)))
        make(folder / "wren/0.jpg")
        return pack(ImageFolder(folder), folder.with_name(f"{folder.name}-out"), PackOptions(val=0, test=0))

    return read


def labels_that_look_like_values(folder: Path) -> object:
    rows = [f"{number}.jpg,{label}" for number, label in enumerate(STRINGS)]
    for number in range(len(STRINGS)):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    (folder / "list.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    manifest = pack(CSV(folder / "list.csv"), folder / "out", PackOptions(val=0, test=0))
    whole = ShardSet(folder / "out", "train", ("seen",))
    assert {*manifest.cohorts} == {*STRINGS} == {whole.read(number).label for number in range(len(whole))}
    assert json.loads((folder / "out/manifest.json").read_text())["counts"]["train"] == dict.fromkeys(STRINGS, 1)
    return manifest


@cache
def model() -> Path:
    """An export of a small model, made and opened once; each case spoils a copy."""
    folder = Path(mkdtemp(prefix="hostile-model-"))
    atexit.register(shutil.rmtree, folder)
    write_hf_folder(tiny_policy(), folder, "merge", torch.float32, 8)
    Pretrained(str(folder)).build("sdpa")
    return folder


def spoilt(spoil: Callable[[Path], object]) -> Case:
    def read(folder: Path) -> object:
        shutil.copytree(model(), folder / "model")
        spoil(folder / "model")
        backbone = Pretrained(str(folder / "model"))
        return Policy(PolicyConfig(backbone), backbone.processor(None))

    return read


def changed(file: str, **values: Any) -> Case:
    return lambda folder: (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))


def other_shapes(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file({**weights, name: torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})


def adapter_beside(folder: Path) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "another/base", "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    layer = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    parts = {f"{layer}.lora_A.weight": torch.ones(2, 64), f"{layer}.lora_B.weight": torch.ones(64, 2)}
    save_file(parts, folder / "adapter_model.safetensors")


def more_tokens(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    alias = {
        **settings["added_tokens"][2],
        "content": LABELS[0],
        "special": False,
    }  # the id of the one that ends a turn
    (folder / "tokenizer.json").write_text(json.dumps({**settings, "added_tokens": [*settings["added_tokens"], alias]}))


def checkpoint_of_another(folder: Path) -> object:
    policy = tiny_policy()
    card, state = policy_card(policy, 8), dict(policy.state_dict())
    name = next(name for name in state if name.endswith("q_proj.weight"))
    return rebuild(card, {**state, name: torch.zeros(3, 3)})


def listed(cell: str) -> Case:
    def read(folder: Path) -> object:
        (folder / "list.csv").write_text(f"file,label\n{cell},wren\n{cell}x,owl\n")
        return pack(CSV(folder / "list.csv"), folder / "out")

    return read


def ids_in_a_column(folder: Path) -> object:
    (folder / "list.csv").write_text("file,label,input_ids\na.jpg,wren,151645\n")
    return list(CSV(folder / "list.csv").records())


RESULTS: dict[str, Case] = {  # which are not refused: what becomes of them is stated, and counted where it is changed
    "6 a rotten scan": decodes,
    "9 fifty frames": noted(lambda: frames(50), "first frame of an animation"),
    "9 frames of a png": noted(lambda: animated("PNG"), "first frame of an animation"),
    "9 CMYK": noted(lambda: encoded(photo(4).convert("CMYK")), "converted from CMYK to RGB"),
    "9 16 bits of grey": noted(grey16, "converted from 16-bit grey to RGB"),
    "9 a palette with alpha": noted(palette_with_alpha, "transparency laid on white"),
    "10 on its side": noted(lambda: turned(6), "turned upright", (32, 48)),
    "19 a member that is a link": member_of_type(LINK),
    "19 a member that is a device": member_of_type(DEVICE),
    "23 labels that look like values": labels_that_look_like_values,
}
REFUSED: dict[str, Case] = {
    "19 a shard that is a command": shard_called("pipe:touch ran"),
    "19 a shard that is an address": shard_called("http://127.0.0.1:9/train-seen-000000.tar"),
    "19 a shard elsewhere": shard_called("file:///etc/passwd"),
    "19 a photo that is a command": listed("pipe:touch ran"),
    "19 a photo that is an address": listed("http://127.0.0.1:9/a.jpg"),
    "19 a photo elsewhere": listed("/etc/passwd"),
    "19 a photo above": listed("../../etc/passwd"),
    "19 a photo that is a link to a device": class_of(lambda file: file.symlink_to("/dev/zero")),
    "19 a photo that is a queue": class_of(lambda file: os.mkfifo(file)),
    "26 tokens by their ids": ids_in_a_column,
    "41 weights of other shapes": spoilt(other_shapes),
    "41 another model": spoilt(changed("config.json", model_type="llama")),
    "41 an adapter for another base": spoilt(adapter_beside),
    "41 a tokenizer with a token more": spoilt(more_tokens),
    "41 a checkpoint of other shapes": checkpoint_of_another,
}


def frames(count: int) -> bytes:
    first, *others = (photo(number, (16, 12)) for number in range(count))
    return encoded(first, "GIF", save_all=True, append_images=others)
