"""The last strokes to a folder that transformers has saved: what its releases 4 and 5 read differently, said for both.

Release 4 is `OLDEST` or newer. It takes no list as `extra_special_tokens`, does not know the class that release 5 names
tokenizers by, reads an image's size from `min_pixels` and `max_pixels` alone, and rotary settings from `rope_theta` and
`rope_scaling` alone: left to itself it would refuse the folder, or resize and rotate otherwise than was trained.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

OLDEST = "4.57"  # of the releases of transformers that open an exported folder
PROCESSOR_CLASSES = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}
VIDEO_PROCESSORS = {"qwen2_5_vl": "Qwen2VLVideoProcessor", "qwen3_vl": "Qwen3VLVideoProcessor"}
OLD_TOKENIZER = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # a name that both releases know


def finish_layout(folder: Path, family: str, base: Path) -> None:
    """Rewrites the json files of a saved model or adapter; adds the one for videos, from `base` where it has one."""
    processor = {"processor_class": PROCESSOR_CLASSES[family]}  # so that AutoProcessor finds what combines the parts
    tokenizer, image, config = (
        folder / f"{name}.json" for name in ("tokenizer_config", "preprocessor_config", "config")
    )
    _rewrite(tokenizer, _tokenizer_for_both(_read(tokenizer)) | processor)
    _rewrite(image, _with_pixels(_read(image)) | processor)
    if config.is_file():  # an adapter has none
        _rewrite(config, _with_old_rope(_read(config)))
    _video_processor(folder, base, VIDEO_PROCESSORS[family])


def _tokenizer_for_both(values: dict[str, Any]) -> dict[str, Any]:
    extra = values.pop("extra_special_tokens", [])
    kind = str(values.get("tokenizer_class"))
    special = {"additional_special_tokens": extra} if isinstance(extra, list) else {"extra_special_tokens": extra}
    return values | special | {"tokenizer_class": OLD_TOKENIZER.get(kind, kind)}


def _with_pixels(values: dict[str, Any]) -> dict[str, Any]:
    size = values["size"]
    return values | {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}


def _with_old_rope(values: dict[str, Any]) -> dict[str, Any]:
    text = values["text_config"]
    rope = dict(text["rope_parameters"])
    theta = rope.pop("rope_theta")
    return values | {"text_config": text | {"rope_theta": theta, "rope_scaling": rope}}


def _video_processor(folder: Path, base: Path, name: str) -> None:
    """The combined processor class asks for a video processor too: the base's own where there is one."""
    target = folder / "video_preprocessor_config.json"
    if (base / target.name).is_file():
        shutil.copyfile(base / target.name, target)
        return
    image = _read(folder / "preprocessor_config.json")
    shared = ("patch_size", "merge_size", "temporal_patch_size", "size", "image_mean", "image_std")
    _rewrite(target, {key: image[key] for key in shared if key in image} | {"video_processor_type": name})


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _rewrite(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
