import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import NAMES, photo, tiny_policy
from safetensors.torch import load_file, save_file

from fgvr.checkpoints.format import write_checkpoint
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained, Trained
from fgvr.models.saved import compare, policy_card
from fgvr.models.trained import rebuild
from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder
from fgvr.tools.export import export

CHAT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
# what a stranger runs: transformers alone, from the photo's pixels to logits
STRANGER = """
import json, sys, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration
folder, picture = sys.argv[1:]
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder, backend="pil")([Image.open(picture)], return_tensors="pt")
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
count = int(images["image_grid_thw"].prod()) // 4
ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * count), return_tensors="pt")["input_ids"]
marks = (ids == model.config.image_token_id).int()
with torch.no_grad():
    logits = model(input_ids=ids, mm_token_type_ids=marks, **images).logits[0]
assert not any(name.split(".")[0] == "fgvr" for name in sys.modules)
torch.save(logits, sys.argv[2] + ".logits")
"""


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        folder = tmp_path / "photos" / "val" / name
        folder.mkdir(parents=True)
        for index in range(2):
            photo(90, 70, seed=10 * number + index).save(folder / f"{index}.png")
    pack(ImageFolder(tmp_path / "photos"), tmp_path / "shards")
    return tmp_path / "shards"


def write_run(policy: Policy, shards: Path, run: Path) -> Path:
    state = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    if policy.config.backbone.reloadable:
        kept = {f"policy.{name}" for name, _ in policy.trainable()}
        state = {name: value for name, value in state.items() if name in kept}
    checkpoint = {"state_dict": state, "fgvr_policy": policy_card(policy), "global_step": 3, "epoch": 0}
    write_checkpoint(checkpoint, run / "checkpoints" / "step=3.ckpt")
    data = {
        "train": [{"path": str(shards)}],
        "task": {"class_path": "fgvr.data.OpenWorld", "init_args": {"question": "What is it?"}},
    }
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": data}}))
    (run / "final_metrics.json").write_text(json.dumps({"seen/exact": 0.5, "step": 3, "fgvr": "0"}))
    return run


def noisy(policy: Policy) -> Policy:
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy.eval()


def test_plain_transformers_gives_the_run_s_logits(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out")
    picture = tmp_path / "a.png"
    photo(120, 64, seed=9).save(picture)
    subprocess.run([sys.executable, "-c", STRANGER, str(tmp_path / "out"), str(picture)], check=True, cwd=tmp_path)
    theirs = torch.load(f"{picture}.logits", weights_only=True)
    prompt = policy.processor.encode_prompt(CHAT, [photo(120, 64, seed=9)])
    marks = (prompt.input_ids == policy.processor.image_token).int()
    images = {"pixel_values": policy.processor.pixel_values(prompt.images), "image_grid_thw": prompt.images.grid_thw}
    with torch.no_grad():
        ours = policy.base(input_ids=prompt.input_ids[None], mm_token_type_ids=marks[None], **images).logits[0]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


def test_the_card_s_own_lines_ask_the_model(tmp_path: Path, shards: Path):
    export(write_run(noisy(tiny_policy()), shards, tmp_path / "run"), tmp_path / "out", samples=1)
    lines = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    photo(90, 70).save(tmp_path / "photo.jpg")
    code = (
        lines.replace("PATH/TO/THIS/FOLDER", str(tmp_path / "out")) + "\nimport sys; assert 'fgvr' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    modes = {path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1  # nobody is shut out of the weights alone


def test_the_folder_follows_the_hub_s_conventions(tmp_path: Path, shards: Path):
    export(write_run(noisy(tiny_policy()), shards, tmp_path / "run"), tmp_path / "out")
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    } <= names
    assert "chat_template" in (out / "tokenizer_config.json").read_text() or "chat_template.jinja" in names
    assert json.loads((out / "preprocessor_config.json").read_text())["size"] == {
        "shortest_edge": 784,
        "longest_edge": 7056,
    }
    generation = json.loads((out / "generation_config.json").read_text())
    assert len(generation["eos_token_id"]) == 2
    head, text = (out / "README.md").read_text().split("---\n")[1:3]
    card = yaml.safe_load(head)
    assert card["license"] == "apache-2.0"
    assert card["pipeline_tag"] == "image-text-to-text"
    assert card["metrics"] == ["seen/exact"]
    assert "| seen/exact | 0.5000 |" in text
    assert "8 of 8 greedy answers are the run's" in text
    assert generation["suppress_tokens"]


@pytest.mark.parametrize("adapter", ["merge", "keep"])
def test_adapters_are_merged_or_kept(tmp_path: Path, shards: Path, adapter):
    base = tiny_policy()
    base.base.save_pretrained(tmp_path / "base")
    base.processor.save(tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: mit\n---\n")
    backbone = Pretrained(str(tmp_path / "base"))
    config = PolicyConfig(backbone, PixelBudget(784, 7056), lora=LoRA(rank=2, alpha=4.0))
    policy = noisy(Policy(config, backbone.processor(config.pixels)))
    run = write_run(policy, shards, tmp_path / "run")
    export(run, tmp_path / "out", adapter=adapter, samples=2)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("adapter_model.safetensors" in names) == (adapter == "keep")
    assert ("model.safetensors" in names) == (adapter == "merge")
    card = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert card["license"] == "mit"
    assert card["library_name"] == ("peft" if adapter == "keep" else "transformers")


def test_a_run_that_began_where_another_ended_is_exported_like_any(tmp_path: Path, shards: Path):
    first = write_run(noisy(tiny_policy(lora=LoRA(rank=2, alpha=4.0))), shards, tmp_path / "first")
    backbone = Trained(str(first))
    config = PolicyConfig(backbone, PixelBudget(784, 7056), lora=LoRA(rank=2, alpha=4.0))
    policy = noisy(Policy(config, backbone.processor(config.pixels)))
    run = write_run(policy, shards, tmp_path / "run")
    export(run, tmp_path / "out", samples=2)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Fine-tuned from `tiny random qwen2_5_vl`" in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    with pytest.raises(UserError, match="pretrained model can be kept apart"):
        export(run, tmp_path / "kept", adapter="keep", samples=2)


def test_bfloat16_weights_agree_with_the_run_s_rounded_alike(tmp_path: Path, shards: Path):
    export(write_run(noisy(tiny_policy()), shards, tmp_path / "run"), tmp_path / "out", dtype="bfloat16", samples=2)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}


def test_a_folder_that_answers_differently_is_noticed(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out", samples=2)
    file = tmp_path / "out" / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights["lm_head.weight"] * 1.01
    save_file(weights, file, metadata={"format": "pt"})
    run = rebuild(policy_card(policy), policy.state_dict())
    agreement = compare(run, tmp_path / "out", "merge", torch.float32, [(CHAT, [photo()])])
    assert agreement.reopened > 1e-4
    assert agreement.written == 0


def test_another_pixel_budget_in_the_folder_is_noticed(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out", samples=2)
    file = tmp_path / "out" / "preprocessor_config.json"
    values = json.loads(file.read_text())
    values["size"] = {"shortest_edge": 784, "longest_edge": 784}
    file.write_text(json.dumps(values))
    run = rebuild(policy_card(policy), policy.state_dict())
    with pytest.raises(RuntimeError):  # another number of image tokens: the logits are not even of one shape
        compare(run, tmp_path / "out", "merge", torch.float32, [(CHAT, [photo()])])


def test_figures_of_another_step_do_not_reach_the_card(tmp_path: Path, shards: Path):
    run = write_run(noisy(tiny_policy()), shards, tmp_path / "run")
    (run / "final_metrics.json").write_text(json.dumps({"seen/exact": 0.5, "step": 4}))
    export(run, tmp_path / "out", samples=1)
    assert "no final figures of this step" in (tmp_path / "out" / "README.md").read_text()


def test_overwriting_takes_an_export_and_nothing_else(tmp_path: Path, shards: Path):
    run = write_run(noisy(tiny_policy()), shards, tmp_path / "run")
    export(run, tmp_path / "out", samples=1)
    export(run, tmp_path / "out", samples=1, overwrite=True)
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="holds no model"):
        export(run, tmp_path / "precious", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "precious", "run", "shards"]


def test_weights_that_were_trained_must_be_in_the_checkpoint(tmp_path: Path):
    base = tiny_policy()
    base.base.save_pretrained(tmp_path / "base")
    base.processor.save(tmp_path / "base")
    backbone = Pretrained(str(tmp_path / "base"))
    policy = Policy(PolicyConfig(backbone, PixelBudget(784, 7056)), backbone.processor(PixelBudget(784, 7056)))
    state = dict(policy.state_dict())
    state.pop("model.lm_head.weight")
    with pytest.raises(UserError, match="are missing"):
        rebuild(policy_card(policy), state)


def test_a_base_that_changed_since_is_refused(tmp_path: Path):
    base = tiny_policy()
    base.base.save_pretrained(tmp_path / "base")
    base.processor.save(tmp_path / "base")
    backbone = Pretrained(str(tmp_path / "base"))
    config = PolicyConfig(backbone, PixelBudget(784, 7056), lora=LoRA(rank=2, alpha=4.0))
    policy = Policy(config, backbone.processor(config.pixels))
    card, state = policy_card(policy), policy.state_dict()
    noisy(base).base.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="holds other weights now"):
        rebuild(card, state)


def test_refusals_are_sentences_and_leave_nothing_behind(tmp_path: Path, shards: Path):
    run = write_run(noisy(tiny_policy()), shards, tmp_path / "run")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="must not exist yet"):
        export(run, tmp_path / "there")
    with pytest.raises(UserError, match="pretrained model can be kept apart"):
        export(run, tmp_path / "out", adapter="keep")
    with pytest.raises(UserError, match="holds none"):
        export(tmp_path / "there", tmp_path / "out")
    with pytest.raises(UserError, match="is not there"):
        export(tmp_path / "nowhere.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
