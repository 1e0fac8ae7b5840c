"""A model whose head and embeddings are one weight, as Qwen2.5-VL-3B is: trained, resumed, begun from and exported."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import prompt, sequenced, tiny_backbone
from rl_run import Kill, ends, grpo_config, sft_config, start
from safetensors import safe_open
from toy_run import same_weights
from transformers import AutoModelForImageTextToText

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.data.collate import pack
from fgvr.models import PixelBudget, Policy, PolicyConfig, Pretrained

PIXELS = {"min": 784, "max": 7056}
HEAD, EMBEDDINGS = "policy.model.lm_head.weight", "policy.model.model.language_model.embed_tokens.weight"
SHORT = ("--trainer.max_steps=4", "--trainer.limit_val_batches=0", "--trainer.deterministic=true")


def tied_model(folder: Path, family: str = "qwen2_5_vl") -> Path:
    backbone = tiny_backbone(family)
    config = backbone.config()
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = True
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    backbone.processor(None).save(folder)
    return folder


def tied_policy(folder: Path) -> Policy:
    backbone, pixels = Pretrained(str(folder)), PixelBudget(**PIXELS)
    return Policy(PolicyConfig(backbone, pixels), backbone.processor(pixels))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_gradient_is_that_of_head_and_embeddings_together(tmp_path: Path, family: str) -> None:
    policy = tied_policy(tied_model(tmp_path, family))
    weight = policy.base.lm_head.weight
    assert weight is policy.base.model.language_model.embed_tokens.weight
    assert sum(parameter is weight for _, parameter in policy.trainable()) == 1
    answer = "<answer>Jade Owl</answer>"
    policy(pack([sequenced(policy, answer)], [[0]], 0)).sum().backward()
    ours, weight.grad = weight.grad, None

    asked, reply = prompt(policy), policy.processor.encode_target(answer)
    ids = torch.cat([asked.input_ids, torch.tensor(reply)])
    logits = policy.base(
        input_ids=ids[None],
        mm_token_type_ids=(ids[None] == policy.processor.image_token).int(),
        pixel_values=policy.processor.pixel_values(asked.images),
        image_grid_thw=asked.images.grid_thw,
    ).logits[0]
    logp = logits.log_softmax(-1)[len(asked.input_ids) - 1 : -1].gather(1, torch.tensor(reply)[:, None])
    logp.sum().backward()
    torch.testing.assert_close(ours, weight.grad, rtol=1e-4, atol=1e-4)
    only_asked = set(asked.input_ids.tolist()) - set(reply) - {policy.processor.image_token}
    assert all(bool(ours[token].any()) for token in only_asked)


def sft(folder: Path) -> Path:
    config = yaml.safe_load(sft_config(folder).read_text())
    backbone = {"class_path": "fgvr.models.Pretrained", "init_args": {"path": str(tied_model(folder / "tied"))}}
    config["model"]["init_args"]["policy"] |= {"backbone": backbone, "pixels": PIXELS}
    config["trainer"]["callbacks"].append({"class_path": "rl_run.Kill", "init_args": {"step": 2, "moment": "updating"}})
    config["run"] |= {"save_every": 2, "allow_changed": ["code"]}
    file = folder / "tied.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def assert_tied(checkpoint: dict[str, Any]) -> None:
    state = checkpoint["state_dict"]
    assert torch.equal(state[HEAD], state[EMBEDDINGS])


@pytest.mark.slow
def test_tied_weights_are_one_from_the_first_step_to_the_export(tmp_path: Path) -> None:
    config, whole, killed = sft(tmp_path), tmp_path / "sft", tmp_path / "killed"
    whole.mkdir()
    (whole / Kill(2, "updating").mark).touch()
    ends(start(config, whole, *SHORT))
    ends(start(config, killed, *SHORT), -signal.SIGKILL)
    ends(start(config, killed, *SHORT))
    one, two = (checkpoints_in(run / "checkpoints")[-1] for run in (whole, killed))
    expected = read_checkpoint(one)
    assert same_weights(read_checkpoint(two), expected)
    assert_tied(expected)
    storages = {value.untyped_storage().data_ptr() for value in expected["state_dict"].values()}
    assert len(storages) == len(expected["state_dict"]) - 1  # kept once under both names
    parameters = sum(1 for _ in tied_policy(tmp_path / "tied").parameters())
    assert len(expected["optimizer_states"][0]["state"]) == parameters

    untrained = ("--model.init_args.max_start_failures=1.0", *SHORT)
    for name, changes in (("full", {}), ("adapters", {"policy": {"lora": {"rank": 4, "alpha": 8}}})):
        run = tmp_path / name
        ends(start(grpo_config(tmp_path, name, **changes), run, *untrained))
        saved = read_checkpoint(checkpoints_in(run / "checkpoints")[-1])
        if name == "full":
            assert_tied(saved)
        else:
            assert all("lora" in key for key in saved["state_dict"] if key.startswith("policy."))
        out = tmp_path / f"{name}-out"
        assert main(["export", "--ckpt", str(run), "--out", str(out), "--samples", "1"]) == 0
        with safe_open(out / "model.safetensors", "pt") as file:
            assert not [key for key in file.keys() if key.startswith("lm_head")]  # noqa: SIM118
        assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
        reopened = tied_policy(out)
        assert reopened.base.lm_head.weight is reopened.base.model.language_model.embed_tokens.weight
