"""Control tokens, which end a turn or stand for an image: no text of the data may spell one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from fgvr.errors import UserError

# what can be known before a tokenizer is there: those of the Qwen families
KNOWN = tuple(
    f"<|{name}|>"
    for name in (
        "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
        "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad", "fim_prefix", "fim_middle",
        "fim_suffix", "fim_pad", "repo_name", "file_sep",
    )
)  # fmt: skip
_KNOWN = re.compile("|".join(map(re.escape, KNOWN)))


def known_control_tokens_in(text: str) -> list[str]:
    """Those of `KNOWN` that a text spells, in their order."""
    return _KNOWN.findall(text)


def refuse_control_tokens(
    what: str, texts: Iterable[str], spelt_in: Callable[[str], list[str]] = known_control_tokens_in
) -> None:
    """Raises UserError when one of the texts, which are `what`, spells a control token that `spelt_in` finds."""
    for text in texts:
        if spelt := spelt_in(text):
            raise UserError(
                f"{what} must not spell a control token of the model's tokenizer, got {', '.join(spelt)} in {text!r}: "
                "mend it"
            )
