"""Texts as vectors: by any encoder in a folder, or by the embeddings of a policy's own tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from fgvr.errors import UserError
from fgvr.models.image_tower import FAMILIES
from fgvr.models.policy import Policy
from fgvr.models.text_tower import TextTower


class MeanEncoder:
    """A transformers encoder of texts in `folder` (BERT and its kin, as sentence-transformers save them), in float32.

    The row of a text is the mean of its tokens' last hidden states. Raises UserError for a folder that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"text_encoder must be a folder with an encoder of texts, {folder} is none: {error}"
            ) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)
        self.length = int(getattr(model.config, "max_position_embeddings", 512))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """One row per text, on the CPU, not normalised; what is longer than the encoder reads is cut."""
        written = [text.strip() or self.tokenizer.unk_token or "." for text in texts]  # a text of nothing has no mean
        inputs = self.tokenizer(written, padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        inputs = inputs.to(self.device)
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        return ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).float().cpu()


def text_encoder(folder: Path) -> Callable[[Sequence[str]], Float[Tensor, "N D"]]:
    """What encodes texts by the folder's model: the text side of a CLIP or SigLIP, or a mean over tokens.

    Raises UserError for a folder that is not there or cannot be read.
    """
    if not Path(folder).is_dir():
        raise UserError(f"text_encoder must be a folder with an encoder of texts, but there is no folder {folder}")
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"text_encoder must be a folder with an encoder of texts, {folder} is none: {error}") from error
    return TextTower(Path(folder)) if kind in FAMILIES else MeanEncoder(Path(folder))


def own_text_encoder(policy: Policy) -> Callable[[Sequence[str]], Float[Tensor, "N D"]]:
    """The mean of the embeddings that the policy's language model reads of a text's tokens. Knows no word order."""
    table: Any = policy.base.get_input_embeddings()

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        tokens = [policy.processor.tokenizer.encode(text or " ", add_special_tokens=False) for text in texts]
        device = next(table.parameters()).device
        return torch.stack([table(torch.tensor(ids, device=device)).float().mean(0).cpu() for ids in tokens])

    return encode
