"""A step that is the same each time, recorded once as a CUDA graph: one launch in place of a thousand."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UP = 2  # steps before the recording: libraries make their plans and workspaces in the first


class Replayed:
    """Calls of `step`, which reads and writes the same tensors at every call and waits for none of their values.

    The first calls run it as it is, on the stream on which the next one is recorded; a step is never run for the
    recording's sake. What the recorded step allocates stays allocated until this is dropped. The slow twin is `step`.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self.step, self.calls = step, 0
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= WARM_UP + 1:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self._before_replay()
            torch.cuda.current_stream().wait_stream(self.stream)
        if self.calls > WARM_UP:
            self.graph.replay()

    def _before_replay(self) -> None:
        if self.calls <= WARM_UP:
            self.step()
            return
        # not `with torch.cuda.graph(...)`, which empties the allocator's cache and collects garbage first
        with _garbage_kept():
            # other threads, such as one that pins batches, may meanwhile do what a recording must not
            self.graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.step()
            finally:
                self.graph.capture_end()


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Within it no garbage is collected: to free an earlier recording would end this one."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
