"""Callbacks say when; what they trigger is a plain function that runs without a Trainer."""

from fgvr.callbacks.collapse_watch import CollapseWatch
from fgvr.callbacks.drift_watch import DriftWatch
from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.callbacks.option_refresh import OptionRefresh
from fgvr.callbacks.protocol_audit import ProtocolAudit
from fgvr.callbacks.protocol_photos import EncoderBaseline
from fgvr.callbacks.rollout_generation import RolloutGeneration
from fgvr.callbacks.sample_logging import SampleLogging
from fgvr.callbacks.throughput import Throughput
from fgvr.callbacks.trackio_logger import TrackioLogger
from fgvr.callbacks.triplets import TripletLogging
from fgvr.callbacks.two_step import TwoStepInference

__all__ = [
    "CollapseWatch",
    "DriftWatch",
    "EncoderBaseline",
    "JudgeValidation",
    "OptionRefresh",
    "ProtocolAudit",
    "RolloutGeneration",
    "SampleLogging",
    "Throughput",
    "TrackioLogger",
    "TripletLogging",
    "TwoStepInference",
]
