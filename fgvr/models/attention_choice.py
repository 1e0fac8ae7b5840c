"""Which attention a run computes with: the one asked for, or the fastest that its device and precision allow."""

from __future__ import annotations

from typing import Literal

import torch

from fgvr.errors import UserError
from fgvr.kernels.attention import Varlen, flash_attn_lacks
from fgvr.kernels.prefix_attention import Backend

AttentionSetting = Literal["auto", "sdpa", "varlen", "flash_attention_2"]
Device = Literal["auto", "cpu", "cuda"]
# the kernels of those that need no padding
VARLEN: dict[str, Varlen] = {"varlen": "torch", "flash_attention_2": "flash"}
ABILITY = (8, 0)  # compute capability that these kernels are written for
ELSE = "set policy.attention to auto, and leave policy.prefix_attention out"


def usual_groups(attention: AttentionSetting) -> Backend:
    """How groups attend where nothing else is asked for; "auto" that nobody has settled is what runs anywhere."""
    return "varlen" if attention in VARLEN else "split"


def choose_attention(
    asked: AttentionSetting, groups: Backend | None, device: torch.device, precision: str, trains: bool
) -> tuple[AttentionSetting, str]:
    """What to compute with, never "auto", and a sentence for the run's log that says why.

    `groups` is the backend asked for groups that share their prompt, `precision` the Trainer's. Raises UserError when
    what was asked for cannot run; packed rows and groups are only computed by a run that `trains`.
    """
    lacks = _varlen_lacks(device, precision)
    if asked == "auto":
        asked, why = ("sdpa", lacks) if lacks else ("varlen", flash_attn_lacks())
        if not why:
            asked, why = "flash_attention_2", "flash-attn is installed"
    else:
        why = "policy.attention says so"
    half = asked == "flash_attention_2" or (trains and (asked == "varlen" or groups == "varlen"))
    if half and lacks:
        raise UserError(f"flash and varlen attention cannot be computed here, because {lacks}: {ELSE}")
    if asked == "flash_attention_2" and flash_attn_lacks():
        raise UserError(
            f"attention flash_attention_2 needs flash-attn, but {flash_attn_lacks()}: pip install 'fgvr[flash]', or "
            "set policy.attention to auto"
        )
    if trains and groups == "flex" and device.type != "cuda":
        raise UserError(f"flex attention has a gradient on a GPU only, and this run is on the {device.type}: {ELSE}")
    return asked, f"Attention is computed by {_named(asked, groups)}, because {why}."


def _varlen_lacks(device: torch.device, precision: str) -> str:
    """Why kernels that need no padding cannot run; empty where they can."""
    if device.type != "cuda":
        return f"varlen kernels compute on a GPU only, and this run is on the {device.type}"
    if not precision.startswith("bf16"):
        return f"varlen kernels compute in bfloat16 (trainer.precision bf16-mixed), and this run is in {precision}"
    if torch.cuda.is_available() and torch.cuda.get_device_capability(device) < ABILITY:
        return f"varlen kernels need a GPU of compute capability 8.0, which {torch.cuda.get_device_name(device)} is not"
    return ""


def _named(attention: AttentionSetting, groups: Backend | None) -> str:
    names = {
        "sdpa": "torch's scaled_dot_product_attention under masks (sdpa)",
        "varlen": "torch's own varlen kernel, without padding",
        "flash_attention_2": "flash-attn, without padding",
    }
    return f"{names[attention]}, groups that share their prompt by {groups or usual_groups(attention)!r}"


def place_of(device: Device, name: str = "device") -> torch.device:
    """Where a model computes that nobody trains. Raises UserError, which has the setting's `name`, without a GPU."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UserError(f"{name} cuda needs a GPU that torch can use, but there is none: take cpu")
    return torch.device("cuda" if there and device != "cpu" else "cpu")


def attention_at(
    place: torch.device, asked: AttentionSetting = "auto", groups: Backend | None = None
) -> AttentionSetting:
    """What a model computes with that nobody trains, in half precision on a GPU; errors as `choose_attention`."""
    precision = "bf16-mixed" if place.type == "cuda" else "32-true"
    return choose_attention(asked, groups, place, precision, trains=False)[0]
