"""Where a pretrained model's files are read: in a folder, at one commit of the hub, or in its cache on this machine."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the client that the hub is asked with
)
from transformers.utils.hub import cached_file

from fgvr.errors import UserError

PATIENCE = 10.0  # seconds for the one question to the hub

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """What transformers is told to read: `source`, a folder or a hub id, and the `commit` that all files are of.

    `commit` is "" for a folder of one's own, and where the hub would not say.
    """

    source: str
    commit: str = ""

    @property
    def revision(self) -> str | None:
        """The commit to ask the hub for; None where `source` is a folder."""
        return None if Path(self.source).is_dir() else self.commit or None

    def readme(self) -> Path | None:
        """The model's own README.md; None where it has none."""
        options = {"revision": self.revision, "_raise_exceptions_for_missing_entries": False}
        found = cached_file(self.source, "README.md", **options)
        return Path(found) if found else None


def place_of(path: str, revision: str | None) -> Place:
    """Finds the model once, as transformers asks the hub again for each file, and without a network for half a minute.

    Raises UserError for a folder that is not there, and for a hub id that is not in the cache when the hub is away.
    """
    if Path(path).is_dir():
        return Place(path)
    if path.startswith((".", "/")):
        raise UserError(f"the model must be a folder that is there or a hub id, but there is no folder {path}")
    try:
        return Place(path, HfApi().model_info(path, revision=revision, timeout=PATIENCE).sha or "")
    except (HfHubHTTPError, HFValidationError):
        return Place(path, revision or "")  # the hub answers: reading a file says what is wrong
    except (OSError, HTTPError) as error:
        kept = try_to_load_from_cache(path, "config.json", revision=revision)
        if not isinstance(kept, str):
            raise UserError(
                f"the hub cannot be reached ({error}) and its cache on this machine has no {path}: fetch it where "
                f"there is a network (hf download {path}), or give the path of a folder with the model"
            ) from error
        log.info("The hub cannot be reached (%s): %s is read from its cache on this machine.", error, path)
        return Place(str(Path(kept).parent), Path(kept).parent.name)
