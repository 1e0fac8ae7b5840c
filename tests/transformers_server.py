"""A real `transformers serve` of a folder on a CPU, in the environment that .ci/make-lmms-eval-env makes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port
from vllm_server import end, wait_until_healthy

# The command itself. Only the decoding of a file's bytes is Pillow's: torchvision's own comes built for CUDA alone.
COMMAND = """
import io
import torchvision.io.image as images
from PIL import Image
from torch.library import define, impl
from torchvision.transforms.functional import pil_to_tensor
from transformers.cli.transformers import main

define("image::decode_image", "(Tensor data, int mode, bool apply_exif_orientation=False) -> Tensor")

@impl("image::decode_image", "CPU")
def decode_image(data, mode, apply_exif_orientation=False):
    assert mode == images.ImageReadMode.RGB.value and not apply_exif_orientation
    return pil_to_tensor(Image.open(io.BytesIO(data.numpy().tobytes())).convert("RGB"))

images._assert_has_image_ops = lambda: None
main()
"""


@contextmanager
def serving(python: str, model: Path, beside: Path) -> Iterator[str]:
    """The address of a server of the folder `model`, whose name there is its path; the log goes into `beside`."""
    port, log = free_port(), beside / "log"
    command = [python, "-c", COMMAND, "serve", str(model), "--device", "cpu", "--host", "127.0.0.1"]
    own = {"HF_HOME": str(beside / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | own,
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(server)
