"""Which files of a model on the hub a run reads, which of them are on this machine, and fetching the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the client that the hub is asked with
)

from fgvr.errors import UserError
from fgvr.models.hub import PATIENCE

READ = (".json", ".txt", ".jinja", ".model", "README.md")  # beside weights: config, tokenizer, processor, licence
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class HubFile:
    """One file of a model: its bytes, None where nobody could say, and whether the cache of this machine has it."""

    name: str
    size: int | None
    here: bool


@dataclass(frozen=True)
class HubModel:
    """What a run reads of a model at one commit. `asked` says whether the hub could be asked.

    Without the hub `files` are those that the cache has, and weights that its index names.
    """

    path: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]
    asked: bool

    @property
    def missing(self) -> tuple[HubFile, ...]:
        return tuple(file for file in self.files if not file.here)


def look_up(path: str, revision: str | None = None) -> HubModel:
    """What the hub has of a model and the cache has of that; of the cache alone where the hub cannot be reached.

    Raises UserError for a name that the hub does not have or does not give to this user.
    """
    try:
        info = HfApi().model_info(path, revision=revision, files_metadata=True, timeout=PATIENCE)
    except GatedRepoError as error:
        raise UserError(
            f"{path} is given to those who have agreed to its terms: agree on its page and set HF_TOKEN, or give a "
            "folder with the model"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"the model must be a folder or what the hub has under its name, but of {path!r} it says: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (OSError, HTTPError):
        return _cached(path, revision)
    commit = info.sha or ""
    listed = {one.rfilename: one.size for one in info.siblings or ()}
    names = [name for name in sorted(listed) if _is_read(name, listed)]
    return HubModel(
        path, revision, commit, tuple(HubFile(name, listed[name], _has(path, name, commit)) for name in names), True
    )


def fetch(model: HubModel) -> HubModel:
    """Brings what is missing into the cache. Raises UserError when the hub stops giving it."""
    names = [file.name for file in model.files]
    try:
        # by the name that the run asks by, which the cache then knows without the hub
        snapshot_download(model.path, revision=model.revision, allow_patterns=names)
    except (OSError, HTTPError, HfHubHTTPError) as error:
        raise UserError(
            f"{model.path} must be fetched, but the hub stopped giving it ({str(error).splitlines()[0]}): run the same "
            "line again, it goes on where it stopped"
        ) from error
    return replace(
        model, files=tuple(replace(file, here=_has(model.path, file.name, model.commit)) for file in model.files)
    )


def cache_folder() -> Path:
    """Where the hub's files are kept on this machine (HF_HUB_CACHE, or below HF_HOME)."""
    return Path(constants.HF_HUB_CACHE)


def _is_read(name: str, listed: dict[str, int | None]) -> bool:
    """Of the model's own folder: what is said beside the weights, and these once, in the form that runs no code."""
    if "/" in name:
        return False
    if name.endswith(".safetensors"):
        return name.startswith("model") or "config.json" not in listed
    return name.endswith(READ)


def _has(path: str, name: str, commit: str | None) -> bool:
    return isinstance(try_to_load_from_cache(path, name, revision=commit or None), str)


def _cached(path: str, revision: str | None) -> HubModel:
    found = try_to_load_from_cache(path, "config.json", revision=revision)
    if not isinstance(found, str):
        return HubModel(path, revision, "", (HubFile("config.json", None, False),), False)
    folder = Path(found).parent
    names = {file.name for file in folder.iterdir() if file.is_file()}
    index = folder / INDEX
    weights = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    files = [
        HubFile(name, (folder / name).stat().st_size if name in names else None, name in names)
        for name in sorted(names | weights)
    ]
    return HubModel(path, revision, folder.name, tuple(files), False)
