"""On a GPU: a step recorded as a CUDA graph against the same step run as it is, in float32 and bfloat16."""

import pytest
import torch
from conftest import prompt_batch, tiny_policy

from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.replaying import Replayed
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


def test_a_recording_runs_no_step_twice():
    counter = torch.zeros(1, device="cuda")

    def count() -> None:
        counter.add_(1)

    step = Replayed(count)
    for _ in range(10):
        step()
    assert counter.item() == 10
