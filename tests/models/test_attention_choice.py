import sys

import pytest
import torch
from conftest import tiny_policy

from fgvr.errors import UserError
from fgvr.kernels import attention
from fgvr.models.attention_choice import choose_attention

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def flash_attn(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Installs a package of that name which holds the given text."""

    def install(text: str) -> None:
        (tmp_path / "flash_attn.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
        attention.flash_attn_lacks.cache_clear()

    yield install
    sys.modules.pop("flash_attn", None)
    attention.flash_attn_lacks.cache_clear()


def test_on_a_cpu_auto_is_sdpa_and_split():
    chosen, said = choose_attention("auto", None, CPU, "32-true", trains=True)
    assert chosen == "sdpa"
    assert said == (
        "Attention is computed by torch's scaled_dot_product_attention under masks (sdpa), groups that share their "
        "prompt by 'split', because varlen kernels compute on a GPU only, and this run is on the cpu."
    )


def test_without_flash_attn_auto_is_torchs_own_varlen_kernel_on_a_gpu():
    chosen, said = choose_attention("auto", None, CUDA, "bf16-mixed", trains=True)
    assert chosen == "varlen"
    assert said.endswith("groups that share their prompt by 'varlen', because flash-attn is not installed.")


def test_with_flash_attn_auto_takes_it(flash_attn):
    flash_attn("")
    assert choose_attention("auto", None, CUDA, "bf16-mixed", trains=True)[0] == "flash_attention_2"
    assert choose_attention("auto", None, CUDA, "32-true", trains=True)[0] == "sdpa"


def test_a_flash_attn_of_another_torch_is_said_and_not_taken(flash_attn):
    flash_attn("raise ImportError('undefined symbol: _ZN3c10')")
    chosen, said = choose_attention("auto", None, CUDA, "bf16-mixed", trains=True)
    assert chosen == "varlen"
    assert "because flash-attn cannot be loaded (undefined symbol: _ZN3c10)" in said
    with pytest.raises(UserError, match=r"undefined symbol.*set policy.attention to auto"):
        choose_attention("flash_attention_2", None, CUDA, "bf16-mixed", trains=True)


def test_full_precision_on_a_gpu_is_sdpa():
    chosen, said = choose_attention("auto", None, CUDA, "32-true", trains=True)
    assert chosen == "sdpa"
    assert "bf16-mixed" in said
    assert "32-true" in said


def test_groups_may_attend_otherwise_than_packed_rows():
    assert "groups that share their prompt by 'flex'" in choose_attention("auto", "flex", CUDA, "32-true", True)[1]


@pytest.mark.parametrize(
    ("asked", "groups", "device", "precision", "sentence"),
    [
        ("flash_attention_2", None, CPU, "bf16-mixed", "on a GPU only, and this run is on the cpu"),
        ("varlen", None, CPU, "bf16-mixed", "on a GPU only, and this run is on the cpu"),
        ("sdpa", "varlen", CPU, "bf16-mixed", "on a GPU only, and this run is on the cpu"),
        ("auto", "flex", CPU, "bf16-mixed", "on a GPU only, and this run is on the cpu"),
        ("flash_attention_2", None, CUDA, "32-true", "bfloat16"),
        ("varlen", None, CUDA, "16-mixed", "bfloat16"),
        ("auto", "varlen", CUDA, "32-true", "bfloat16"),
        ("flash_attention_2", None, CUDA, "bf16-mixed", "flash-attn is not installed"),
    ],
)
def test_what_cannot_run_is_refused(asked, groups, device, precision, sentence):
    with pytest.raises(UserError, match=sentence):
        choose_attention(asked, groups, device, precision, trains=True)


def test_what_only_training_computes_is_no_matter_where_a_run_only_answers():
    assert choose_attention("varlen", "flex", CPU, "32-true", trains=False)[0] == "varlen"
    with pytest.raises(UserError, match="GPU"):  # the vision tower computes with it too
        choose_attention("flash_attention_2", None, CPU, "32-true", trains=False)


def test_a_policy_that_no_run_has_settled_is_one_that_runs_anywhere():
    policy = tiny_policy()
    assert (policy.prefix_backend, policy.packs_by) == ("split", "mask")
    assert policy.base.model.visual.config._attn_implementation == "sdpa"
    varlen = tiny_policy(attention="varlen")
    assert (varlen.prefix_backend, varlen.packs_by, varlen.varlen) == ("varlen", "varlen", "torch")
    assert varlen.base.model.visual.config._attn_implementation == "sdpa"
