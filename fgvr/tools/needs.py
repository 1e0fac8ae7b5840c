"""What the settings of a training name that must be on the machine: models, data, files, packages, servers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import features

from fgvr.checkpoints.kept import began_with
from fgvr.errors import UserError
from fgvr.models.hub_files import HubModel, look_up
from fgvr.runs.finding import resolve
from fgvr.shards.manifest import MANIFEST, load_manifest

FILES = ("text_encoder", "folder", "taxonomy", "key_file", "url_file", "options")  # settings that name what is read
ROOTS = ("root", "file", "folder")  # of a source: where its photos are
PACKAGES = {  # that a class needs beside what fgvr brings
    "RedisCache": "redis",
    "TrackioLogger": "trackio",
    "WandbLogger": "wandb",
    "TripletParquet": "pyarrow",
    "SpeciaRLParquet": "pyarrow",
}


@dataclass(frozen=True)
class Need:
    """One thing that must be there. `size` is in bytes, of what is here or is to be fetched.

    `remedy` is what to do about it, "" for nothing; `model` is the hub's account of it, None for anything else.
    """

    what: str
    name: str
    state: str
    lacking: bool = False
    size: int | None = None
    remedy: str = ""
    model: HubModel | None = None


def needs_of(settings: Mapping[str, Any], served: bool = False) -> list[Need]:
    """What a whole run's settings (as its config.yaml has them) need, each once, in the order that they name it.

    With `served` the models that judges' servers answer with are among them. Raises UserError for a model that the hub
    does not have.
    """
    found = [*_of_data(settings), *_of_classes(settings, served), *_of_machine(settings)]
    return list({(need.what, need.name): need for need in found}.values())


def of_hub_model(what: str, model: HubModel, fetched: bool = False) -> Need:
    """A model of the hub: here, to be fetched, or out of reach."""
    size = sum(file.size or 0 for file in model.files)
    if not model.missing:
        return Need(what, model.path, "fetched" if fetched else "here", size=size, model=model)
    lacks = sum(file.size or 0 for file in model.missing)
    state = f"{len(model.missing)} of {len(model.files)} files missing"
    remedy = (
        "run this where there is a network, without --fetch false"
        if model.asked
        else "the hub cannot be reached: run this where there is a network, with the same HF_HOME"
    )
    return Need(what, model.path, state, True, lacks or None, remedy, model)


def _of_data(settings: Mapping[str, Any]) -> Iterator[Need]:
    given = (settings.get("data") or {}).get("init_args") or {}
    for entry in given.get("train") or []:
        yield _of_shards(Path(entry["path"]), entry.get("source"))
        if entry.get("options"):
            yield _of_file("options", Path(entry["options"]), "python -m fgvr mine makes it")
    for folder in given.get("val") or []:
        yield _of_shards(Path(folder), None)


def _of_shards(folder: Path, source: Mapping[str, Any] | None) -> Need:
    if not (folder / MANIFEST).is_file():
        if source is None:
            return Need("shards", str(folder), "missing", True, remedy="pack them: python -m fgvr shards --help")
        kind = str(source["class_path"]).rpartition(".")[2]
        roots = [value for name in ROOTS if isinstance(value := (source.get("init_args") or {}).get(name), str)]
        gone = [root for root in roots if not Path(root).exists()]
        if gone:
            return Need("shards", str(folder), "missing", True, remedy=f"{kind} reads {gone[0]}, which is not there")
        return Need("shards", str(folder), f"fit packs them from {kind}")
    manifest = load_manifest(folder)
    lost = [shard for shard in manifest.shards if _size(folder / shard.file) != shard.size]
    size = sum(shard.size for shard in manifest.shards)
    if lost:
        remedy = f"{lost[0].file} is not whole: copy the set again, or run its `python -m fgvr shards` line"
        return Need("shards", str(folder), f"{len(lost)} of {len(manifest.shards)} damaged", True, size, remedy)
    return Need("shards", str(folder), "here", size=size)


def _of_classes(settings: Mapping[str, Any], served: bool) -> Iterator[Need]:
    for name, given in _classes(settings):
        if name == "Pretrained":
            yield from _of_pretrained("model", str(given.get("path")), given.get("revision"))
        elif name == "Trained":
            yield from _of_run(str(given.get("run")), given.get("checkpoint", "last"))
        elif name == "LLMJudge":
            yield from _of_judge(given, served)
        if name in PACKAGES:
            yield _of_package(PACKAGES[name], name)
        if not name[:1].islower():
            for key in FILES:
                if isinstance(given.get(key), str):
                    yield _of_file(key.replace("_", " "), Path(given[key]), "put it there")


def _classes(settings: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every class that the settings name, wherever, with its settings; sources and shard sets apart."""
    if isinstance(settings, list):
        for one in settings:
            yield from _classes(one)
    elif isinstance(settings, dict):
        given = settings.get("init_args") or {}
        if "class_path" in settings:
            yield str(settings["class_path"]).rpartition(".")[2], given
        for key, value in settings.items():
            if key not in ("source", "train", "val"):
                yield from _classes(value)


def _of_pretrained(what: str, path: str, revision: str | None) -> Iterator[Need]:
    folder = Path(path).expanduser()
    if folder.is_dir():
        yield _of_folder(what, folder)
    elif path.startswith((".", "/", "~")):
        yield Need(what, path, "missing", True, remedy="there is no such folder: copy the model there")
    else:
        yield of_hub_model(what, look_up(path, revision))


def _of_folder(what: str, folder: Path) -> Need:
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    lacks = [
        name
        for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json")
        if not (folder / name).is_file()
    ]
    lacks += [] if weights else ["*.safetensors"]
    if lacks:
        return Need(what, str(folder), f"no {', '.join(lacks)}", True, weights, "it is no whole model: copy it again")
    return Need(what, str(folder), "here", size=weights)


def _of_run(run: str, which: Any) -> Iterator[Need]:
    """The checkpoint of another run, and what that in turn leaves to the model that it began with."""
    try:
        checkpoint = resolve(Path(run), "the run to start from", which)
        then = began_with(checkpoint)
    except UserError as error:
        yield Need("run", run, "missing", True, remedy=str(error))
        return
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    yield Need("run", run, f"here, {checkpoint.name}", size=size)
    if then is not None and not Path(then["path"]).is_absolute():
        yield of_hub_model("model of that run", look_up(then["path"], then["digest"] or None))


def _of_judge(given: Mapping[str, Any], served: bool) -> Iterator[Need]:
    model, url = str(given.get("model")), (given.get("server") or {}).get("url")
    where = f"at {url}" if url else "at the address in FGVR_JUDGE_URL"
    yield Need("judge", model, f"asked {where}", remedy="" if served else "--served true fetches it for its server")
    if served:
        yield from _of_pretrained("judge's weights", model, None)


def _of_file(what: str, path: Path, how: str) -> Need:
    if not path.exists():
        return Need(what, str(path), "missing", True, remedy=f"there is no {path}: {how}")
    return Need(what, str(path), "here", size=_size(path) if path.is_file() else None)


def _of_machine(settings: Mapping[str, Any]) -> Iterator[Need]:
    policy = ((settings.get("model") or {}).get("init_args") or {}).get("policy") or {}
    if policy.get("attention") == "flash_attention_2":
        yield _of_package("flash_attn", "attention")
    drawn = features.check("freetype2")
    yield Need(
        "font",
        "Pillow's own",
        "here" if drawn else "missing",
        not drawn,
        remedy="" if drawn else "install Pillow's wheel, which brings FreeType",
    )


def _of_package(name: str, for_what: str) -> Need:
    if importlib.util.find_spec(name) is None:
        return Need(
            "package", name, "missing", True, remedy=f"{for_what} needs it: pip install {name.replace('_', '-')}"
        )
    return Need("package", name, "here")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
