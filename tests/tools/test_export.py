import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import NAMES, photo, tiny_policy
from exported import CHAT, noisy, own_logits, strangers_logits, write_run
from rich.filesize import decimal
from safetensors.torch import load_file, save_file

from fgvr.checkpoints.format import read_manifest, write_checkpoint
from fgvr.errors import UserError
from fgvr.metrics.selective import Operating
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained, Trained
from fgvr.models.saved import compare, policy_card, tokens_evaluated
from fgvr.models.trained import rebuild
from fgvr.recogniser.calibration import Calibration, read_calibrations, write_calibrations
from fgvr.recogniser.carried import read_carried
from fgvr.runs.finding import read_config
from fgvr.runs.fingerprint import config_fingerprint
from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder
from fgvr.tools.export import changed_since, export, figures_of, precision_of, taken_along
from fgvr.whole_files import sealed


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        folder = tmp_path / "photos" / "val" / name
        folder.mkdir(parents=True)
        for index in range(2):
            photo(90, 70, seed=10 * number + index).save(folder / f"{index}.png")
    pack(ImageFolder(tmp_path / "photos"), tmp_path / "shards")
    return tmp_path / "shards"


def test_plain_transformers_gives_the_run_s_logits(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out")
    picture = photo(120, 64, seed=9)
    picture.save(tmp_path / "a.png")
    theirs = strangers_logits(tmp_path / "out", tmp_path / "a.png")
    torch.testing.assert_close(theirs, own_logits(policy, picture), rtol=0, atol=1e-5)
    modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(modes) == 1  # nobody is shut out of the weights alone


def test_the_folder_follows_the_hub_s_conventions(tmp_path: Path, shards: Path):
    export(write_run(noisy(tiny_policy()), shards, tmp_path / "run"), tmp_path / "out")
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert {
        "config.json",
        "fgvr.json",
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
    assert card["metrics"] == ["exact"]
    assert "| seen/exact | 0.5000 |" in text
    assert "8 of 8 greedy answers are the run's" in text
    assert generation["suppress_tokens"]


def test_names_question_and_thresholds_of_this_checkpoint_go_along(tmp_path: Path, shards: Path):
    policy = tiny_policy()
    run = write_run(policy, shards, tmp_path / "run")
    path = run / "checkpoints" / "step=3.ckpt"
    digest = read_manifest(path).digest
    own = Calibration("vote", digest, 8, 1.0, 0, "birds", "val", ("seen",), 0, 0.1, 0.9, (Operating(1.0, 0, (1, 9)),))
    write_calibrations(run, {"vote": own, "two_step": replace(own, mode="two_step", checkpoint="of an earlier one")})
    carried, kept = taken_along(path, read_config(run), policy_card(policy, 24), None)
    assert kept == {"vote": own}
    assert set(carried.names().paths) == set(NAMES)
    assert carried.asks().question == "What is it?"
    assert (carried.max_new_tokens, carried.checkpoint, carried.step) == (24, digest, 3)
    carried.write(tmp_path)
    write_calibrations(tmp_path, kept)
    assert read_carried(tmp_path) == carried
    assert read_calibrations(tmp_path) == kept


def adapted(tmp_path: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Policy:
    """On a base that was released in `dtype`, under the MIT licence."""
    base = tiny_policy()
    base.base.to(dtype).save_pretrained(tmp_path / "base")
    base.processor.save(tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: mit\n---\n")
    backbone = Pretrained(str(tmp_path / "base"))
    config = PolicyConfig(backbone, PixelBudget(784, 7056), lora=LoRA(rank=2, alpha=4.0, **options))
    return noisy(Policy(config, backbone.processor(config.pixels)))


@pytest.mark.parametrize("adapter", ["merge", "keep"])
@pytest.mark.parametrize(
    "options",
    [{}, {"dora": True, "rslora": True, "targets": r".*layers\.1\..*_proj"}, {"full": ("projector", r".*\.norm")}],
)
def test_adapters_are_merged_or_kept(tmp_path: Path, shards: Path, adapter, options):
    run = write_run(adapted(tmp_path, **options), shards, tmp_path / "run")
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


def dtypes(folder: Path) -> set[torch.dtype]:
    return {value.dtype for file in folder.glob("*.safetensors") for value in load_file(file).values()}


@pytest.mark.parametrize(
    ("base", "adapter", "dtype", "written"),
    [
        (torch.bfloat16, "merge", "auto", torch.bfloat16),  # as the base was released
        (torch.float32, "merge", "auto", torch.float32),
        (torch.bfloat16, "merge", "float32", torch.float32),
        (torch.float32, "merge", "bfloat16", torch.bfloat16),
        (torch.bfloat16, "keep", "auto", torch.float32),  # a small file, exact
        (torch.bfloat16, "keep", "bfloat16", torch.bfloat16),
    ],
)
def test_the_precision_written_is_the_base_s_or_the_one_asked_for(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str], base, adapter, dtype, written
):
    run = write_run(adapted(tmp_path, base), shards, tmp_path / "run")
    export(run, tmp_path / "out", adapter=adapter, dtype=dtype, samples=1)
    assert dtypes(tmp_path / "out") == {written}
    name = str(written).removeprefix("torch.")
    said = " ".join(capsys.readouterr().out.split())
    (weights,) = (tmp_path / "out").glob("*.safetensors")
    size = decimal(weights.stat().st_size)
    assert f"Writing the weights in {name}" in said
    assert f"{size} of weights in {name}: reopened" in said
    assert f"in {name}, {size}; transformers 4.57 or later opens" in (tmp_path / "out" / "README.md").read_text()


def test_a_checkpoint_that_does_not_say_its_base_s_precision_is_written_in_float32(tmp_path: Path):
    card = policy_card(tiny_policy(), 64)
    assert precision_of(card | {"origin": {"name": "x"}}, "merge") == "float32"


def test_random_weights_stay_in_float32_and_can_be_halved(tmp_path: Path, shards: Path):
    run = write_run(noisy(tiny_policy()), shards, tmp_path / "run")
    export(run, tmp_path / "out", samples=1)
    assert dtypes(tmp_path / "out") == {torch.float32}
    export(run, tmp_path / "half", dtype="bfloat16", samples=2)
    assert dtypes(tmp_path / "half") == {torch.bfloat16}


def test_a_folder_that_answers_differently_is_noticed(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out", samples=2)
    file = tmp_path / "out" / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights["lm_head.weight"] * 1.01
    save_file(weights, file, metadata={"format": "pt"})
    run = rebuild(policy_card(policy, 64), policy.state_dict())
    agreement = compare(run, tmp_path / "out", "merge", torch.float32, [(CHAT, [photo()])], 64)
    assert agreement.reopened > 1e-4
    assert agreement.written == 0


@pytest.mark.parametrize(("adapter", "limit"), [("merge", 24), ("keep", 7)])
def test_answers_are_cut_off_where_the_run_cut_off_what_it_evaluated(tmp_path: Path, shards: Path, adapter, limit):
    torch.manual_seed(0)  # answers longer than the limits
    policy = adapted(tmp_path)
    export(write_run(policy, shards, tmp_path / "run", limit), tmp_path / "out", adapter=adapter, samples=2)
    file = tmp_path / "out" / "generation_config.json"
    said = json.loads(file.read_text())
    assert said["max_new_tokens"] == limit
    assert f"at most {limit} tokens" in (tmp_path / "out" / "README.md").read_text()
    questions = [(CHAT, [photo(seed=seed)]) for seed in range(2)]
    for there, same in ((limit, 2), (limit - 3, 0)):  # another limit in the folder is noticed
        file.write_text(json.dumps(said | {"max_new_tokens": there}))
        run = rebuild(policy_card(policy, limit), policy.state_dict())
        assert all(len(run.answers([run.processor.encode_prompt(*one)], limit)[0]) == limit for one in questions)
        agreement = compare(run, tmp_path / "out", adapter, torch.float32, questions, limit)
        assert (agreement.same_answers, agreement.samples) == (same, 2)


def test_a_checkpoint_that_does_not_say_its_limit_is_exported_as_before(tmp_path: Path):
    card = policy_card(tiny_policy(), 2048)
    assert tokens_evaluated(card) == 2048
    del card["max_new_tokens"]
    assert tokens_evaluated(card) == 512


def test_another_pixel_budget_in_the_folder_is_noticed(tmp_path: Path, shards: Path):
    policy = noisy(tiny_policy())
    export(write_run(policy, shards, tmp_path / "run"), tmp_path / "out", samples=2)
    file = tmp_path / "out" / "preprocessor_config.json"
    values = json.loads(file.read_text())
    values |= {"size": {"shortest_edge": 784, "longest_edge": 784}, "max_pixels": 784}
    file.write_text(json.dumps(values))
    run = rebuild(policy_card(policy, 64), policy.state_dict())
    with pytest.raises(RuntimeError):  # another number of image tokens: the logits are not even of one shape
        compare(run, tmp_path / "out", "merge", torch.float32, [(CHAT, [photo()])], 64)


def test_settings_that_are_not_those_of_the_checkpoint_are_said(tmp_path: Path):
    config = {"data": {"init_args": {"task": {"init_args": {"question": "What is it?"}}}}}
    made_of = {"fingerprint": {"config": config_fingerprint(config)}}
    path = tmp_path / "step=3.ckpt"
    write_checkpoint({"state_dict": {}, "global_step": 3, "fgvr": made_of}, path)
    assert changed_since(path, config) == changed_since(path, {}) == []
    config["data"]["init_args"]["task"]["init_args"]["question"] = "What as it?"
    (said,) = changed_since(path, config)
    assert said == 'data.init_args.task.init_args.question: "What is it?" -> "What as it?"'


def test_damaged_figures_do_not_reach_the_card(tmp_path: Path):
    data = bytearray(sealed({"seen/exact": 0.5, "step": 3, "fgvr": "0"}, indent=1))
    (tmp_path / "final_metrics.json").write_bytes(data)
    assert figures_of(tmp_path, 3)["seen/exact"] == 0.5
    data[data.index(b"5")] ^= 1
    (tmp_path / "final_metrics.json").write_bytes(data)
    with pytest.raises(UserError, match=r"final_metrics\.json must be the run's figures as they were written"):
        figures_of(tmp_path, 3)


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
        rebuild(policy_card(policy, 64), state)


def test_a_base_that_changed_since_is_refused(tmp_path: Path):
    base = tiny_policy()
    base.base.save_pretrained(tmp_path / "base")
    base.processor.save(tmp_path / "base")
    backbone = Pretrained(str(tmp_path / "base"))
    config = PolicyConfig(backbone, PixelBudget(784, 7056), lora=LoRA(rank=2, alpha=4.0))
    policy = Policy(config, backbone.processor(config.pixels))
    card, state = policy_card(policy, 64), policy.state_dict()
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


def test_a_checkpoint_copied_out_of_its_run_is_exported_without_what_lies_around_it(tmp_path: Path, shards: Path):
    run = write_run(noisy(tiny_policy()), shards, tmp_path / "run")
    (run / "kept").mkdir()
    alone = (run / "checkpoints" / "step=3.ckpt").rename(run / "kept" / "alone.ckpt")
    with pytest.raises(UserError, match="name one with --data"):
        export(alone, tmp_path / "out", samples=1)
    export(alone, tmp_path / "out", samples=1, data=shards)
    assert "The run has no final figures of this step." in (tmp_path / "out" / "README.md").read_text()
