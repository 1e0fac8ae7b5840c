"""What a piece of work asks of a GPU: launches, synchronisations, and which kernels its time goes to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


@dataclass(frozen=True)
class Trace:
    """`seconds` passed while nothing was traced; `calls` of CUDA and seconds in each of the `kernels`, by name."""

    seconds: float
    calls: Counter[str]
    kernels: dict[str, float]

    @property
    def launches(self) -> int:
        return sum(self.calls[name] for name in LAUNCHES)

    @property
    def syncs(self) -> int:
        return sum(self.calls[name] for name in SYNCS)

    @property
    def busy(self) -> float:
        """Seconds in which the device computed, if its kernels ran one after the other."""
        return sum(self.kernels.values())

    def most(self, count: int) -> str:
        """The kernels that take longest, with their shares of the time in which the device computed."""
        longest = sorted(self.kernels.items(), key=lambda kernel: -kernel[1])[:count]
        return ", ".join(f"{seconds / self.busy:.0%} {name[:60]}" for name, seconds in longest)


def traced(work: Callable[[], object]) -> Trace:
    """Does the work three times: to warm up, by the clock, and traced. Without a GPU there is only the time."""
    work()
    began = _now()
    work()
    seconds = _now() - began
    calls, kernels = Counter[str](), dict[str, float]()
    if torch.cuda.is_available():
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            work()
        for event in trace.key_averages():
            calls[event.key] += event.count
            if event.device_type.name != "CPU":
                kernels[event.key] = kernels.get(event.key, 0.0) + event.self_device_time_total / 1e6
    return Trace(seconds, calls, kernels)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
