"""The only door to transformers and peft."""

from fgvr.models.adapters import LoRA
from fgvr.models.backbone import Backbone, Pretrained
from fgvr.models.image_tower import ImageTower
from fgvr.models.policy import Policy, PolicyConfig
from fgvr.models.processor import PixelBudget, Processor
from fgvr.models.tiny_qwen import TinyQwen
from fgvr.models.trained import Trained

__all__ = [
    "Backbone",
    "ImageTower",
    "LoRA",
    "PixelBudget",
    "Policy",
    "PolicyConfig",
    "Pretrained",
    "Processor",
    "TinyQwen",
    "Trained",
]
