"""On a GPU: a step recorded as a CUDA graph against the same step run as it is, in float32 and bfloat16."""

import gc
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from conftest import prompt_batch, tiny_policy

from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.replaying import Replayed
from fgvr.kernels.token_logprobs import token_logprobs_and_entropy
from fgvr.models import LoRA
from fgvr.models.sampling import Sampling
from fgvr.rollouts import InProcess

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SEEDS = (11, 12, 13)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=4, alpha=8.0)}])
def test_a_recorded_step_writes_what_the_plain_one_writes(monkeypatch, family, half, options):
    policy = tiny_policy(family, **options).cuda().eval()
    batch, sampling = prompt_batch(policy).to("cuda"), Sampling(6, 1.0, 60)
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        recorded = InProcess().sample(policy, batch, sampling, SEEDS)
        monkeypatch.setattr(Replayed, "__call__", lambda self: self.step())
        plain = InProcess().sample(policy, batch, sampling, SEEDS)
        completions = [[c.ids for c in group.completions] for group in recorded]
        with torch.no_grad():
            rows = pack_groups([g.prompt.to("cpu") for g in recorded], completions, [None] * 3, 0)
            trained, _ = policy.completion_logprobs(rows.to("cuda"))
    for one, other in zip(recorded, plain, strict=True):
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert torch.equal(mine.ids, theirs.ids)
            torch.testing.assert_close(mine.logprobs, theirs.logprobs)
    sampled = torch.cat([c.logprobs for group in recorded for c in group.completions])
    assert (trained.cpu() - sampled).abs().max() < (0.05 if half else 1e-4)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Within it another thread does the work over and over."""
    done = threading.Event()

    def again() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_another_thread_may_pin_memory_while_a_step_is_recorded():
    with beside(lambda: torch.empty(random.randrange(1, 1 << 22)).pin_memory()):
        for _ in range(20):
            tensor = torch.zeros(1000, device="cuda")

            def add(tensor=tensor) -> None:
                for _ in range(200):
                    tensor.add_(1)

            step = Replayed(add)
            for _ in range(4):
                step()
            assert (tensor == 800).all()


def test_earlier_recordings_are_not_freed_while_a_step_is_recorded():
    before = gc.get_threshold()
    gc.set_threshold(5, 1, 1)
    try:
        for _ in range(20):
            tensor, cycle = torch.zeros(1000, device="cuda"), []

            def step(tensor=tensor) -> None:
                tensor.add_(sum((torch.ones_like(tensor) for _ in range(20)), torch.zeros_like(tensor)))

            cycle += [Replayed(step), cycle]
            for _ in range(4):
                cycle[0]()
            assert (tensor == 80).all()
    finally:
        gc.set_threshold(*before)


def test_a_recording_runs_no_step_twice():
    counter = torch.zeros(1, device="cuda")

    def count() -> None:
        counter.add_(1)

    step = Replayed(count)
    for _ in range(10):
        step()
    assert counter.item() == 10


@pytest.mark.parametrize("half", [False, True])
def test_sampler_and_trainer_read_one_head(half):
    policy, hidden = tiny_policy().cuda().eval(), 4 * torch.randn(9, 64, device="cuda")
    targets = torch.arange(9, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=half):
        policy.base.lm_head.weight *= 8
        scores = policy.decoder().scores(hidden, 0.7)
        head = policy.base.lm_head.weight
        logp, _ = token_logprobs_and_entropy(hidden, head, targets, policy.suppression, 0.7)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.log_softmax(-1)[targets, targets], logp, rtol=1e-5, atol=1e-4)
