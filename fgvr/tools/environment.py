"""`python -m fgvr env`: what somebody must know of a machine to understand what happened on it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

import torch
from torch.cuda import nccl

import fgvr
from fgvr.errors import shown
from fgvr.next_steps import after_env
from fgvr.runs.fingerprint import code_fingerprint
from fgvr.runs.noted import PACKAGES, version_of

TELLING = re.compile(
    r"(CUDA|NCCL|GLOO|OMP|MKL|TORCH|PYTORCH|HF|TRANSFORMERS|SLURM|FGVR)_?.*|(MASTER|LOCAL|WORLD|RANK).*"
)
SECRET = re.compile(r"key|token|secret|passw|credential|cookie|auth|url|proxy", re.IGNORECASE)


def env() -> str:
    """Tell what an account of a problem needs: versions, devices, limits and variables, without anything secret.

    Returns what to do next.
    """
    for line in facts(os.environ):
        print(shown(line))
    return after_env()


def facts(variables: Mapping[str, str]) -> Iterator[str]:
    """Line by line `name: value`; of a variable whose name speaks of a secret only that it is set."""
    code = hashlib.sha256(repr(code_fingerprint()).encode()).hexdigest()[:12]
    yield f"fgvr: {fgvr.__version__} (code {code})"
    yield f"python: {platform.python_version()} ({platform.python_implementation()})"
    yield f"system: {platform.platform()}"
    yield f"cores: {_cores()}"
    yield f"memory: {_memory()}"
    yield f"open files at most: {_open_files()}"
    for name in PACKAGES:
        yield f"{name}: {version_of(name) or 'not installed'}"
    yield from _devices()
    yield f"SLURM: {'sbatch is here' if shutil.which('sbatch') else 'none'}"
    for name in sorted(variables):
        if TELLING.fullmatch(name):
            yield f"{name}={'(set)' if SECRET.search(name) else variables[name]}"


def _cores() -> str:
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{mine} of {os.cpu_count()}, torch takes {torch.get_num_threads()}"


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"


def _open_files() -> str:
    if sys.platform == "win32":
        return "unknown"
    import resource

    return str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _devices() -> Iterator[str]:
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield f"GPUs: none ({built})"
        return
    yield f"CUDA: {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, NCCL {nccl.version()}"
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "bfloat16" if card.major >= 8 else "no bfloat16"
        yield f"GPU {index}: {card.name}, {card.total_memory / 2**30:.1f} GiB, sm_{card.major}{card.minor}, {bf16}"
    from fgvr.models.attention_choice import choose_attention  # what computes takes seconds to load

    yield f"attention: {choose_attention('auto', None, torch.device('cuda'), 'bf16-mixed', trains=False)[0]}"
