"""LightningDataModules: streams of shards for training, validation and test."""

from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.datamodules.sft import SFTData

__all__ = ["SFTData", "ShardDataModule", "ShardSource"]
