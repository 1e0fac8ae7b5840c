"""LightningDataModules: streams of shards for training, validation and test."""

from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.datamodules.prompts import PromptData
from fgvr.datamodules.sft import SFTData

__all__ = ["PromptData", "SFTData", "ShardDataModule", "ShardSource"]
