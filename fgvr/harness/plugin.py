"""What lmms-eval finds of fgvr where both are installed: the models that it may be asked for by name."""

from __future__ import annotations

from typing import Any

HERE = "fgvr.harness.lmms_models"


def manifests() -> list[Any]:
    """lmms-eval's ModelManifest of each, for the entry point `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return [
        ModelManifest("fgvr_qwen2_5_vl", chat_class_path=f"{HERE}.ExportedQwen25VL"),
        ModelManifest("fgvr_qwen3_vl", chat_class_path=f"{HERE}.ExportedQwen3VL"),
    ]
