"""Our attention under a name that transformers knows: it follows a plan where one is passed, else it is torch's own.

The plan goes to the language model's forward as the keyword `plan` and from there to every layer, also when a layer is
computed again under gradient checkpointing. Nothing of the library is replaced.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from fgvr.kernels.attention import AttentionPlan

NAME = "fgvr"


def planned_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    plan: AttentionPlan | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What a language model's layer calls, with heads before tokens; the answer has tokens before heads."""
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    return plan.attend(module.layer_idx, query, key, value, scaling).transpose(1, 2), None


def plan_attention(language_model: nn.Module) -> None:
    """Lets a language model's layers take plans."""
    language_model.config._attn_implementation = NAME  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]


# at import, so that a process which is sent a policy knows the name too
AttentionInterface.register(NAME, planned_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
