"""Photos as vectors, by any pretrained encoder of images in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from fgvr.errors import UserError
from fgvr.models.image_tower import FAMILIES, UNREADABLE, ImageTower


class PooledEncoder:
    """A transformers encoder of images in `folder` (ViT, DINOv2, or timm's where timm is installed), in float32.

    A photo's row is what the model pools, else the mean of its tokens. Raises UserError for one that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
            model = AutoModel.from_pretrained(
                folder, config=_config(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except UNREADABLE as error:
            raise _unreadable(folder, error) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> Float[Tensor, "I D"]:
        """One row of features per image, on the CPU, not normalised."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        output = self.model(**inputs)
        pooled = getattr(output, "pooler_output", None)
        return (output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1)).float().cpu()


def image_encoder(folder: Path) -> Callable[[Sequence[Image.Image]], Float[Tensor, "I D"]]:
    """What encodes photos by the folder's model. Raises UserError for one that is not there or cannot be read."""
    if not Path(folder).is_dir():
        raise UserError(f"an encoder's folder must hold an encoder of images, but there is no folder {folder}")
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except UNREADABLE as error:
        raise _unreadable(folder, error) from error
    return ImageTower(Path(folder)) if kind in FAMILIES else PooledEncoder(Path(folder))


def _config(folder: Path) -> Any:
    """The model's own, of features alone: newer folders of timm's state classes too, which AutoModel leaves out."""
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
    if stated := getattr(config, "model_args", None):
        config.model_args = {name: value for name, value in stated.items() if name != "num_classes"}
    return config


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"an encoder's folder must hold an encoder of images that can be read here, but {folder} does not: {error} "
        "(a folder of timm's needs `pip install timm` too)"
    )
