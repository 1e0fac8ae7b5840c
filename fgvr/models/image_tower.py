"""The image side of a CLIP or SigLIP checkpoint, to compare photos with photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from fgvr.errors import UserError

FAMILIES = ("clip", "siglip", "siglip2")
# of a folder that cannot be opened: an ImportError where a library is lacking, a TypeError where settings clash
UNREADABLE = (OSError, ValueError, KeyError, ImportError, SafetensorError, TypeError)


def check_tower(folder: Path) -> None:
    """Raises UserError for a folder that is not there or holds another kind of model; reads no weights."""
    if not Path(folder).is_dir():
        raise UserError(f"the encoder must be a folder with a CLIP or SigLIP, but there is no folder {folder}")
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except UNREADABLE as error:
        raise _unreadable(folder, error) from error
    if kind not in FAMILIES:
        raise UserError(f"the encoder's folder must hold one of {', '.join(FAMILIES)}, but {folder} holds {kind!r}")


def open_tower(folder: Path) -> tuple[Any, torch.device]:
    """The model of both sides in `folder`, in float32 and evaluation mode, and the device that it is on.

    Raises UserError as `check_tower` does, and where the weights cannot be read.
    """
    check_tower(folder)
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except UNREADABLE as error:
        raise _unreadable(folder, error) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval().to(device), device


class ImageTower:
    """A pretrained encoder of images in `folder`, in float32, on the GPU where there is one.

    Raises UserError for a folder that is not there, holds another kind of model, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.model, self.device = open_tower(folder)
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        except UNREADABLE as error:
            raise _unreadable(folder, error) from error

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> Float[Tensor, "I D"]:
        """One row of features per image, on the CPU, not normalised."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        features = self.model.get_image_features(**inputs)
        return (features if isinstance(features, Tensor) else features.pooler_output).float().cpu()


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"the encoder's folder must hold a whole CLIP or SigLIP, but {folder} does not: {error}")
