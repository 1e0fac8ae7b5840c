import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_policy
from exported import noisy

from fgvr.checkpoints.format import write_checkpoint
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained
from fgvr.models.saved import policy_card, write_hf_folder
from fgvr.models.trained import read_policy, rebuild

PIXELS = PixelBudget(28 * 28, 84 * 84)  # of tiny_policy


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    write_hf_folder(tiny_policy(), folder, "merge", torch.float32, 64)
    return folder


def stock(folder: Path) -> Path:
    """As the hub has a model: its preprocessor_config.json states pixels that anyone may choose others than."""
    policy = tiny_policy()
    policy.base.save_pretrained(folder)
    policy.processor.save(folder)
    return folder


def test_an_export_keeps_to_the_pixels_it_was_trained_with(exported: Path):
    assert Pretrained(str(exported)).processor(None).pixels == PIXELS
    assert Pretrained(str(exported)).processor(PIXELS).pixels == PIXELS
    with pytest.raises(UserError) as error:
        Pretrained(str(exported)).processor(PixelBudget(784, 784))
    assert str(error.value) == (
        f"the pixel budget must be the one that {exported} was trained with, but policy.pixels has min=784 and "
        "max=784: leave it out, or set min=784 and max=7056, or take fgvr_pixels out of its config.json to train it "
        "for another"
    )
    config = json.loads((exported / "config.json").read_text())
    assert config.pop("fgvr_pixels") == {"min": 784, "max": 7056}
    (exported / "config.json").write_text(json.dumps(config))
    assert Pretrained(str(exported)).processor(PixelBudget(784, 784)).pixels.max == 784


def test_an_export_of_an_export_states_them_too(exported: Path, tmp_path: Path):
    backbone = Pretrained(str(exported))
    again = tmp_path / "again"
    again.mkdir()
    write_hf_folder(Policy(PolicyConfig(backbone), backbone.processor(None)), again, "merge", torch.float32, 64)
    assert Pretrained(str(again)).processor(None).pixels == PIXELS


def test_another_s_folder_takes_any_budget(tmp_path: Path):
    folder = stock(tmp_path / "hub")
    assert Pretrained(str(folder)).processor(None).pixels == PixelBudget()
    for pixels in (PIXELS, PixelBudget(784, 784)):
        assert Pretrained(str(folder)).processor(pixels).pixels == pixels


def adapted(folder: Path, run: Path) -> Path:
    """A checkpoint with adapters for the model in the folder, as a run saves it."""
    backbone = Pretrained(str(folder))
    policy = Policy(PolicyConfig(backbone, PIXELS, lora=LoRA(rank=2)), backbone.processor(PIXELS))
    origin = backbone.origin()
    base = {"digest": origin["digest"], "path": origin["path"]}
    state = {f"policy.{name}": value.detach() for name, value in policy.trainable()}
    path = run / "checkpoints" / "step-00000003.ckpt"
    content = {"state_dict": state, "fgvr_policy": policy_card(policy, 64), "global_step": 3}
    write_checkpoint(content | {"fgvr": {"fingerprint": {"base": base}}}, path)
    return path


@pytest.mark.parametrize("place", ["runs/rl/base/anything", "runs/moved"])
def test_a_model_whose_folder_has_moved_is_found_by_its_weights(tmp_path: Path, place: str):
    folder = stock(tmp_path / "models" / "hub")
    path = adapted(folder, tmp_path / "runs" / "rl")
    shutil.copytree(folder, tmp_path / "models" / "other")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    folder.rename(tmp_path / place)
    assert rebuild(*read_policy(path)).config.lora is not None
    backbone = Pretrained(str(folder))
    backbone.go_on_from(path)
    backbone.check()
    assert backbone.path == str(tmp_path / place)


def test_a_model_that_is_gone_is_named_with_where_to_put_it(tmp_path: Path):
    folder = stock(tmp_path / "models" / "hub")
    path = adapted(folder, tmp_path / "runs" / "rl")
    shutil.rmtree(folder)
    said = (
        rf"runs/rl began with the model in {folder}, which is not there: put it back there or, .* into .*runs/rl/base"
    )
    with pytest.raises(UserError, match=said):
        rebuild(*read_policy(path))
    with pytest.raises(UserError, match=said):
        Pretrained(str(folder)).go_on_from(path)


def test_of_a_checkpoint_outside_any_run_no_run_is_named(tmp_path: Path):
    folder = stock(tmp_path / "models" / "hub")
    path = adapted(folder, tmp_path / "runs" / "rl").rename(tmp_path / "alone.ckpt")
    assert rebuild(*read_policy(path)).config.lora is not None
    folder.rename(tmp_path / "beside")
    with pytest.raises(UserError) as error:
        rebuild(*read_policy(path))
    assert str(error.value) == (
        f"{path} began with the model in {folder}, which is not there: put it back there, or put the checkpoint back "
        "into its run, whose base/ is looked at."
    )


@pytest.mark.parametrize("fate", ["removed", "replaced"])
def test_a_model_that_the_run_kept_outlives_its_folder(tmp_path: Path, exported: Path, fate: str):
    run = tmp_path / "runs" / "rl"
    begun = Pretrained(str(exported))
    begun.keep(run)
    path = adapted(exported, run)
    (kept,) = (run / "base").iterdir()
    assert kept.name.startswith("exported-")
    shutil.rmtree(exported)
    if fate == "replaced":
        exported.mkdir()
        write_hf_folder(noisy(tiny_policy()), exported, "merge", torch.float32, 64)
    assert rebuild(*read_policy(path)).config.lora is not None
    backbone = Pretrained(str(exported))
    backbone.go_on_from(path)
    assert backbone.path == str(kept)
    backbone.keep(run)
    assert [*(run / "base").iterdir()] == [kept]


def test_what_a_model_s_folder_was_is_remembered_while_the_run_goes_on(exported: Path):
    backbone = Pretrained(str(exported))
    policy = Policy(PolicyConfig(backbone, lora=LoRA(rank=2)), backbone.processor(None))
    origin = policy_card(policy, 64)["origin"]
    shutil.rmtree(exported)
    assert policy_card(policy, 64)["origin"] == origin
    exported.mkdir()
    write_hf_folder(noisy(tiny_policy()), exported, "merge", torch.float32, 64)
    assert policy_card(policy, 64)["origin"] == origin
    assert Pretrained(str(exported)).origin()["digest"] != origin["digest"]
