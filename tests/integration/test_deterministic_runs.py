"""`trainer.deterministic: true`: every operation of a run has a deterministic form, and one run is another's twin."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt_batch, sequenced, tiny_policy
from rl_run import ends, grpo_config, sft_config, start
from torch.utils._python_dispatch import TorchDispatchMode
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.data.collate import pack
from fgvr.kernels.group_packing import pack_groups
from fgvr.kernels.token_draws import draw_tokens
from fgvr.models import writing
from fgvr.models.sampling import Sampling
from fgvr.objectives import Clip, policy_loss
from fgvr.rollouts import InProcess

# what torch.use_deterministic_algorithms refuses on a GPU, of whole numbers too or of others only
REFUSED = ("put_", "histc", "median", "nll_loss", "scatter_reduce", "max_unpool", "_ctc_loss", "embedding_bag")
REFUSED_BACKWARD = ("avg_pool", "adaptive_", "fractional_max_pool", "upsample_", "reflection_pad", "grid_sampler")
REFUSED_FOR_FLOATS = ("cumsum", "cumprod", "bincount")
STRICT = ("--trainer.deterministic=true", "--trainer.max_steps=2")


def last(run: Path) -> dict[str, object]:
    return read_checkpoint(checkpoints_in(run / "checkpoints")[-1])


@pytest.mark.slow
def test_supervised_and_reinforced_they_end_alike(tmp_path: Path) -> None:
    ends(start(sft_config(tmp_path), tmp_path / "sft", *STRICT))
    changes = {"updates": 2, "kl": {"coefficient": 0.1}, "entropy_coefficient": 0.01, "max_start_failures": 1.0}
    config = grpo_config(tmp_path, "rl", **changes)
    for name in ("one", "two"):
        said = ends(start(config, tmp_path / name, *STRICT))
        assert "deterministic" not in said
    assert same_weights(last(tmp_path / "one"), last(tmp_path / "two"))


class Watching(TorchDispatchMode):
    """Operations that deterministic runs could not ask a GPU for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.refused = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        backward = "backward" in name and name.lstrip("_").startswith(REFUSED_BACKWARD)
        floats = name.startswith(REFUSED_FOR_FLOATS) and out.is_floating_point()
        self.asked += 1
        if name.startswith(REFUSED) or backward or floats:
            self.refused.add(name)
        return out


def test_what_watches_would_see_it() -> None:
    with Watching() as seen:
        torch.ones(3).cumsum(0)
        torch.ones(3, dtype=torch.long).cumsum(0)
        torch.nn.functional.interpolate(torch.ones(1, 1, 4, requires_grad=True), 8, mode="linear").sum().backward()
        torch.ones(3).median(0)
    assert seen.refused == {"cumsum", "upsample_linear1d_backward", "median"}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_no_step_asks_for_what_a_gpu_does_in_any_order(
    family: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "draw_tokens", partial(draw_tokens, sums=torch.long))  # as it draws on a GPU
    policy = tiny_policy(family, prefix_attention=backend)
    optimizer = torch.optim.AdamW([weight for _, weight in policy.trainable()], fused=True)
    with Watching() as seen:
        policy(pack([sequenced(policy, "an owl"), sequenced(policy, "a finch")], [[0, 1]], 0)).sum().backward()
        groups = InProcess().sample(policy, prompt_batch(policy), Sampling(3, 1.0, 20), (1, 2, 3))
        policy.generate(prompt_batch(policy), 20)
        completions = [[completion.ids for completion in group.completions] for group in groups]
        rows = pack_groups([group.prompt for group in groups], completions, [None] * 3, 0)
        logp, entropy = policy.completion_logprobs(rows)
        loss = policy_loss(logp, logp, torch.ones_like(logp), Clip(level="sequence"), rows.target_sequence)
        (loss.values.sum() + entropy.sum()).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    assert seen.asked > 1000
    assert not seen.refused
