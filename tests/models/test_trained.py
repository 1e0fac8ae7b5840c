import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt, sequenced, tiny_policy
from small_checkpoints import save_sharded
from trained_runs import PIXELS, noisy, save

from fgvr.checkpoints.format import STATE, read_checkpoint, read_manifest, write_checkpoint
from fgvr.data.collate import pack
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained, Trained
from fgvr.models.saved import policy_card
from fgvr.models.trained import read_policy, rebuild


def policy_on(run: Path, **options: Any) -> Policy:
    backbone = Trained(str(run))
    return Policy(PolicyConfig(backbone, PIXELS, **options), backbone.processor(PIXELS)).eval()


def scores(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy(pack([sequenced(policy, "<answer>Jade Owl</answer>")], [[0]], 0))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_weights_and_processor_are_the_checkpoint_s_bit_for_bit(tmp_path: Path, family: str):
    first = noisy(tiny_policy(family))
    save(first, tmp_path / "run")
    second = policy_on(tmp_path / "run")
    theirs, ours = first.state_dict(), second.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert {name for name, _ in second.trainable()} == {name for name, _ in first.trainable()}
    assert torch.equal(scores(second), scores(first))
    assert prompt(second).input_ids.tolist() == prompt(first).input_ids.tolist()
    assert second.config.backbone.config().to_dict() == first.base.config.to_dict()


def test_weights_that_several_processes_wrote_are_read_as_one(tmp_path: Path):
    policy = noisy(tiny_policy())
    alone = save(policy, tmp_path / "alone")
    run = tmp_path / "together"
    path = save_sharded(read_checkpoint(alone), run / "checkpoints" / alone.name, 3)
    assert Trained(str(run)).origin()["digest"] == read_manifest(path).digest != read_manifest(alone).digest
    read, expected = policy_on(run).state_dict(), policy.state_dict()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_merged_adapters_answer_as_the_model_with_adapters(tmp_path: Path):
    first = noisy(tiny_policy(lora=LoRA(rank=2, alpha=4.0)))
    save(first, tmp_path / "run")
    second = policy_on(tmp_path / "run")
    assert not any("lora" in name for name in second.state_dict())
    assert all(parameter.requires_grad for parameter in second.parameters())
    torch.testing.assert_close(scores(second), scores(first), rtol=0, atol=1e-6)


def test_reading_one_leaves_the_random_state_alone(tmp_path: Path):
    save(noisy(tiny_policy(lora=LoRA(rank=2))), tmp_path / "run")
    before = torch.random.get_rng_state()
    Trained(str(tmp_path / "run")).build("sdpa")
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_chain_of_runs_is_read_and_rebuilt_to_its_beginning(tmp_path: Path):
    first = tiny_policy()
    first.base.save_pretrained(tmp_path / "hub")
    first.processor.save(tmp_path / "hub")
    (tmp_path / "hub" / "README.md").write_text("---\nlicense: mit\n---\n")
    backbone = Pretrained(str(tmp_path / "hub"))
    lora = LoRA(rank=2, alpha=4.0)
    last = noisy(Policy(PolicyConfig(backbone, PIXELS, lora=lora), backbone.processor(PIXELS)), 0)
    save(last, tmp_path / "run-0")
    chain: list[dict[str, Any]] = [{"lora": lora}, {"freeze": ("vision",)}, {"lora": lora}, {}]
    for number, options in enumerate(chain, start=1):
        following = policy_on(tmp_path / f"run-{number - 1}", **options)
        torch.testing.assert_close(scores(following), scores(last), rtol=0, atol=1e-6)
        path = save(noisy(following, number), tmp_path / f"run-{number}")
        torch.testing.assert_close(scores(rebuild(*read_policy(path))), scores(following), rtol=0, atol=1e-6)
        last = following
    origin = last.config.backbone.origin()
    assert (origin["name"], origin["license"]) == ("hub", "mit")
    before = tmp_path / "run-3" / "checkpoints" / "step-00000003.ckpt"
    assert origin["path"] == str(before)
    assert origin["digest"] == read_manifest(before).files[STATE].sha256


def test_a_checkpoint_that_holds_every_weight_needs_no_other(tmp_path: Path):
    save(noisy(tiny_policy()), tmp_path / "first")
    whole, adapters = noisy(policy_on(tmp_path / "first")), noisy(policy_on(tmp_path / "first", lora=LoRA(rank=2)))
    kept, base = save(whole, tmp_path / "whole"), save(adapters, tmp_path / "adapters")
    shutil.rmtree(tmp_path / "first")
    assert torch.equal(scores(rebuild(*read_policy(kept))), scores(whole))
    with pytest.raises(UserError, match=r"began with .*first/checkpoints/.*, which is not there or .*: put"):
        rebuild(*read_policy(base))


def test_a_base_that_is_another_one_now_is_refused(tmp_path: Path):
    save(noisy(tiny_policy()), tmp_path / "first")
    path = save(policy_on(tmp_path / "first", lora=LoRA(rank=2)), tmp_path / "second")
    save(noisy(tiny_policy(), 2), tmp_path / "first")
    with pytest.raises(UserError, match="is not there or holds others now: put it back there or, under any name"):
        rebuild(*read_policy(path))


def test_what_a_run_came_from_is_remembered_when_it_is_removed(tmp_path: Path):
    path = save(noisy(tiny_policy()), tmp_path / "first")
    policy = policy_on(tmp_path / "first", lora=LoRA(rank=2))
    digest = read_manifest(path).files[STATE].sha256
    shutil.rmtree(tmp_path / "first")
    assert policy_card(policy, 64)["origin"]["digest"] == digest


def test_the_newest_the_best_or_the_named_checkpoint_is_taken(tmp_path: Path):
    run = tmp_path / "run"
    paths = [save(noisy(tiny_policy(), step), run, step) for step in (1, 2, 10)]
    (run / "checkpoints" / "best.json").write_text(json.dumps({"checkpoint": paths[1].name}))
    assert Trained(str(run)).path == paths[2]
    assert Trained(str(run), "best").path == paths[1]
    assert Trained(str(paths[0])).path == paths[0]
    chosen = Trained(str(run))
    assert chosen.path == paths[2]
    save(noisy(tiny_policy(), 4), run, 11)
    assert chosen.path == paths[2]  # the run it belongs to went on


MISSING = "The run starts from the checkpoint of runs/quickstart, which is not there: "
MAKE = "make it with python -m fgvr fit --config"


def ask(backbone: Trained, method: str) -> None:
    {
        "check": backbone.check,
        "config": backbone.config,
        "build": lambda: backbone.build("sdpa"),
        "processor": lambda: backbone.processor(PIXELS),
        "origin": backbone.origin,
    }[method]()


@pytest.mark.parametrize("method", ["check", "config", "build", "processor", "origin"])
@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_missing_run_is_one_sentence_that_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, checkpoint: Any
):
    monkeypatch.chdir(tmp_path)
    backbone = Trained("runs/quickstart", checkpoint)
    for file, remedy in (
        ("runs/quickstart/checkpoints/.step-00000001.ckpt.new-abc", "train that run first, or start from another."),
        ("configs/aviary/quickstart.yaml", f"{MAKE} configs/aviary/quickstart.yaml."),
        ("configs/quickstart.yaml", f"{MAKE} configs/quickstart.yaml."),
    ):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
        with pytest.raises(UserError) as error:
            ask(backbone, method)
        assert str(error.value) == MISSING + remedy


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"step-00000009\.ckpt, which is not there: put it back, or start from another"):
        Trained(str(tmp_path / "run" / "checkpoints" / "step-00000009.ckpt")).check()


def test_a_damaged_checkpoint_is_never_the_start(tmp_path: Path, caplog: Any):
    run = tmp_path / "run"
    first, second = (save(noisy(tiny_policy(), step), run, step) for step in (1, 2))
    os.truncate(second / STATE, 1000)
    assert Trained(str(run)).path == first
    assert f"{second} is damaged" in caplog.text
    with pytest.raises(UserError, match=r"is damaged: state\.pt has 1000 bytes"):
        Trained(str(second)).processor(PIXELS)
    (run / "checkpoints" / "best.json").write_text(json.dumps({"checkpoint": second.name}))
    with pytest.raises(UserError, match=r"is damaged: state\.pt has 1000 bytes"):
        Trained(str(run), "best").check()
    os.truncate(first / STATE, 1000)
    with pytest.raises(UserError, match=r"none that it holds is whole: restore one .* --run\.fresh true\.$"):
        Trained(str(run)).check()


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path):
    write_checkpoint({"state_dict": {}, "global_step": 1}, tmp_path / "checkpoints" / "step-00000001.ckpt")
    with pytest.raises(UserError, match="does not describe a policy"):
        Trained(str(tmp_path)).processor(PIXELS)


def test_no_best_checkpoint_is_refused(tmp_path: Path):
    save(noisy(tiny_policy()), tmp_path)
    with pytest.raises(UserError, match=r"has no best\.json"):
        Trained(str(tmp_path), "best").check()
    (tmp_path / "checkpoints" / "best.json").write_text("{}")
    with pytest.raises(UserError, match=r"start from the last checkpoint of .* instead"):
        Trained(str(tmp_path), "best").check()


def test_another_pixel_budget_than_the_checkpoint_s_is_refused(tmp_path: Path):
    save(noisy(tiny_policy()), tmp_path)
    with pytest.raises(UserError, match=r"has min=784 and max=784: leave it out, or set min=784 and max=7056"):
        Trained(str(tmp_path)).processor(PixelBudget(784, 784))


def test_without_a_pixel_budget_the_checkpoint_s_is_kept_to(tmp_path: Path):
    save(noisy(tiny_policy()), tmp_path)
    backbone = Trained(str(tmp_path))
    policy = Policy(PolicyConfig(backbone), backbone.processor(None))
    assert policy.processor.pixels == PIXELS
    assert PixelBudget(**policy_card(policy, 64)["pixels"]) == PIXELS


def test_the_settings_of_the_run_are_known_where_it_had_any(tmp_path: Path):
    path = save(noisy(tiny_policy()), tmp_path / "run")
    assert Trained(str(path)).settings == {}
    content = read_checkpoint(path) | {"fgvr": {"config": {"data": {"init_args": {"task": {"class_path": "x"}}}}}}
    write_checkpoint(content, tmp_path / "other" / "checkpoints" / "step-00000004.ckpt")
    assert Trained(str(tmp_path / "other")).settings["data"]["init_args"]["task"] == {"class_path": "x"}
