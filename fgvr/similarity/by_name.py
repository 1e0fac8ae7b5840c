"""Likeness by name: what a text encoder makes of the names of classes, compared by cosine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fgvr.errors import UserError
from fgvr.similarity.base import Classes, Ranking, Similarity, best

PLACE = "{}"  # where in a prompt the name stands


class FolderNames(Similarity):
    """By the text side of a CLIP or SigLIP in `folder`, as the hub has it; no network is asked.

    `prompt` is the text around a name, which stands at {}. It says what sounds alike, and little of what looks so: a
    rival for the other measures. Raises UserError for a prompt without a place for the name.
    """

    needs_photos = False

    def __init__(self, folder: Path, prompt: str = "a photo of a {}.") -> None:
        if prompt.count(PLACE) != 1:
            raise UserError(f"similarity.prompt must have one {PLACE}, where the name stands, got {prompt!r}")
        self.folder, self.prompt = Path(folder), prompt

    @torch.no_grad()
    def nearest(self, classes: Classes, k: int) -> Ranking:
        from fgvr.models.text_tower import TextTower

        names = list(classes.names)
        with torch.random.fork_rng(devices=[]):  # what loading a model draws must not move what training draws
            table = TextTower(self.folder)([self.prompt.replace(PLACE, name) for name in names])
        table = torch.nn.functional.normalize(table, dim=-1)
        return {
            name: best(
                {
                    other: round(score, 6)
                    for other, score in zip(names, row, strict=True)
                    if classes.differ(name, other)
                },
                k,
            )
            for name, row in zip(names, (table @ table.T).tolist(), strict=True)
        }

    def describe(self) -> dict[str, Any]:
        from fgvr.models.folders import folder_digest

        digest = folder_digest(self.folder)[:16] if (self.folder / "config.json").is_file() else None
        return {**super().describe(), "folder": digest, "prompt": self.prompt}
