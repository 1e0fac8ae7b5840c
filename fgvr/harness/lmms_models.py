"""lmms-eval's own classes for Qwen-VL, with the weights in the precision that an export's folder states.

lmms-eval loads every model in bfloat16. An export in bfloat16 is the same there; one in float32 would be rounded, and
now and then answer otherwise than its run did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL  # pyright: ignore[reportMissingImports]
from lmms_eval.models.chat.qwen3_vl import Qwen3_VL  # pyright: ignore[reportMissingImports]


class _AsStated:
    """Loads again what was rounded; whatever else there is comes from the class that it stands before."""

    device_map: Any

    def __init__(self, pretrained: str, **options: Any) -> None:
        super().__init__(pretrained=pretrained, **options)  # pyright: ignore[reportCallIssue]
        config = Path(pretrained) / "config.json"
        stated = json.loads(config.read_text()).get("dtype") if config.is_file() else "bfloat16"
        if stated != "bfloat16":
            own: Any = self._model
            how = {
                "dtype": stated,
                "device_map": self.device_map,
                "attn_implementation": own.config._attn_implementation,
            }
            self._model = type(own).from_pretrained(pretrained, **how).eval()


class ExportedQwen25VL(_AsStated, Qwen2_5_VL):
    """`--model fgvr_qwen2_5_vl`."""


class ExportedQwen3VL(_AsStated, Qwen3_VL):
    """`--model fgvr_qwen3_vl`."""
