"""fgvr: post-training of large vision-language models for fine-grained visual recognition."""

__version__ = "0.1.0"
