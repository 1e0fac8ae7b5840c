"""The text side of a CLIP or SigLIP checkpoint, to compare names with names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer

from fgvr.errors import UserError
from fgvr.models.image_tower import UNREADABLE, open_tower


class TextTower:
    """A pretrained encoder of texts in `folder`, in float32, on the GPU where there is one.

    Raises UserError for a folder that is not there, holds another kind of model, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.model, self.device = open_tower(folder)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except UNREADABLE as error:
            raise UserError(f"an encoder's folder must hold a tokenizer too, but {folder} does not: {error}") from error
        self.length = int(self.model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """One row of features per text, on the CPU, not normalised; what is longer than the tower reads is cut."""
        # SigLIP reads the last place, so that it was trained on texts that are padded to the full length
        inputs = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        kept = {name: inputs[name].to(self.device) for name in ("input_ids", "attention_mask") if name in inputs}
        features = self.model.get_text_features(**kept)
        return (features if isinstance(features, Tensor) else features.pooler_output).float().cpu()
