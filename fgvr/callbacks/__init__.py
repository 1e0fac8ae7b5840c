"""Callbacks say when; what they trigger is a plain function that runs without a Trainer."""

from fgvr.callbacks.judge_validation import JudgeValidation

__all__ = ["JudgeValidation"]
