"""LightningDataModules: streams of shards for training, validation and test."""

from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.datamodules.prompts import PromptData
from fgvr.datamodules.sft import SFTData
from fgvr.datamodules.triplets import TripletData

__all__ = ["PromptData", "SFTData", "ShardDataModule", "ShardSource", "TripletData"]
