"""Every shipped config is read, checked against what it configures, and printed, without a model being built."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from fgvr.__main__ import main
from fgvr.callbacks.memory import spread_of
from fgvr.strategies.asked import ranks_of

CONFIGS = Path(__file__).parents[1] / "configs"
MAIN = {  # what a folder of variants is laid over
    CONFIGS / "speciarl": CONFIGS / "speciarl_qwen2_5_vl_7b.yaml",
    CONFIGS / "aviary" / "speciarl": CONFIGS / "aviary" / "speciarl.yaml",
    CONFIGS / "tapo": CONFIGS / "tapo_qwen2_5_vl_3b.yaml",
    CONFIGS / "aviary" / "tapo": CONFIGS / "aviary" / "tapo.yaml",
    CONFIGS / "divek": CONFIGS / "divek_qwen2_5_vl_7b.yaml",
    CONFIGS / "aviary" / "divek": CONFIGS / "aviary" / "divek.yaml",
}
VARIANTS = sorted(path for folder in MAIN for path in folder.glob("*.yaml"))
AVIARY = CONFIGS / "aviary"
TWINS = {  # of a run that thinks, one that answers first
    twin: next(path for folder in (AVIARY, CONFIGS) if (path := folder / twin.name).is_file())
    for twin in sorted((AVIARY / "answer_first").glob("*.yaml"))
}
START = ".model.init_args.policy.backbone.init_args.run"
OTHERS = {"hardware", "eval", "answer_first", "tuning", "tutorials"}
METHODS = sorted(path for path in CONFIGS.rglob("*.yaml") if not OTHERS & {*path.parts} and path not in VARIANTS)
KINDS = {  # of a method with its data, a config
    (values["model"]["class_path"], values["data"]["class_path"]): path
    for path in METHODS
    if (values := yaml.safe_load(path.read_text()))
}
EVALUATIONS = sorted((CONFIGS / "eval").glob("*.yaml"))
HARDWARE = sorted((CONFIGS / "hardware").glob("*.yaml"))
TUNING = sorted((CONFIGS / "tuning").glob("*.yaml"))


@pytest.mark.parametrize("config", METHODS, ids=lambda path: path.stem)
def test_a_config_prints_itself_whole(config: Path):
    values, own = printed(config), flat(yaml.safe_load(config.read_text()))
    assert values[".model.class_path"].startswith("fgvr.modules")
    assert values[".run.dir"] == own[".run.dir"] == f"runs/{config.stem}"
    lr = ".model.init_args.optimizer.lr"
    assert values[lr] == own[lr]


@pytest.mark.parametrize("config", EVALUATIONS, ids=lambda path: path.stem)
def test_an_evaluation_prints_itself_whole(config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "--config", str(config), "--print_config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["run"]["dir"] == f"runs/eval_{config.stem}"
    assert values["ckpt_path"] == "none"
    assert "fgvr.callbacks.ProtocolAudit" in {one["class_path"] for one in values["trainer"]["callbacks"]}


@pytest.mark.parametrize("hardware", HARDWARE, ids=lambda path: path.stem)
def test_hardware_goes_on_top_and_leaves_the_callbacks_alone(hardware: Path, capsys: pytest.CaptureFixture[str]):
    own = yaml.safe_load(hardware.read_text())
    assert set(own) == {"trainer"}
    assert "callbacks" not in own["trainer"]
    assert main(["fit", "--config", str(METHODS[0]), "--config", str(hardware), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    given = own["trainer"].keys() - {"strategy"}
    assert {key: printed["trainer"][key] for key in given} == {key: own["trainer"][key] for key in given}
    named = yaml.safe_load(METHODS[0].read_text())["trainer"]["callbacks"]
    assert [one["class_path"] for one in printed["trainer"]["callbacks"]] == [one["class_path"] for one in named]


@pytest.mark.parametrize("hardware", HARDWARE, ids=lambda path: path.stem)
def test_hardware_is_told_of_and_spreads_a_training_as_its_name_says(hardware: Path):
    trainer = yaml.safe_load(hardware.read_text())["trainer"]
    assert f"configs/hardware/{hardware.name}" in (CONFIGS.parent / "docs" / "configs.md").read_text()
    spread = spread_of(trainer, ranks_of(trainer))
    assert (spread.shards > 1) == hardware.stem.endswith("_fsdp2")
    assert spread.world == {"cpu": 1, "one": 1, "eight": 8, "nodes": 32}[hardware.stem.partition("_")[0]]
    assert spread.world % spread.shards == 0
    assert spread.gpu == spread.half == (hardware.stem != "cpu")


@pytest.mark.parametrize("method", ["sft_qwen2_5_vl_7b_lora.yaml", "grpo_qwen2_5_vl_3b.yaml"])
@pytest.mark.parametrize("tuning", TUNING, ids=lambda path: path.stem)
def test_tuning_goes_on_top_and_says_what_is_trained_and_how_fast_alone(tuning: Path, method: str):
    before, after = printed(CONFIGS / method), printed(CONFIGS / method, tuning)
    own = flat(yaml.safe_load(tuning.read_text()))
    assert {key: after[key] for key in own} == own
    changed = {key for key in {*before, *after} if before.get(key, "absent") != after.get(key, "absent")}
    within = (".model.init_args.policy.lora", ".model.init_args.policy.freeze", ".model.init_args.optimizer.rates")
    assert all(key.startswith(within) for key in changed)
    assert f"configs/tuning/{tuning.name}" in (CONFIGS.parent / "docs" / "configs.md").read_text()


@pytest.mark.parametrize("config", KINDS.values(), ids=lambda path: path.stem)
def test_a_misspelt_key_is_named_with_its_nearest(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = yaml.safe_load(config.read_text())
    values["data"]["init_args"]["batch_sise"] = values["data"]["init_args"].pop("batch_size")
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(values))
    assert main(["fit", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert "batch_sise" in error
    assert "batch_size" in error
    assert "Traceback" not in error


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict | list) or not values:
        return {prefix: values}
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    return {key: value for name, entry in entries for key, value in flat(entry, f"{prefix}.{name}").items()}


@cache
def printed(*configs: Path) -> dict[str, Any]:
    options = [option for config in configs for option in ("--config", str(config))]
    with redirect_stdout(StringIO()) as out:
        assert main(["fit", *options, "--print_config"]) == 0
    return flat(yaml.safe_load(out.getvalue()))


EXACT = (
    *("model.class_path", "init_args.reward", "_weight", "init_args.none_of_these", "init_args.outside", "terms"),
    *("train_task", "group_filter.score"),
)
ALLOWED = {  # what the paper changes between runs, and nothing else
    "binary": ("specificity.rule",),
    "correct": ("specificity.rule",),
    "scala": ("specificity.rule",),
    "dr_grpo": ("specificity.rule", "advantage.scale", "reduction", "kl"),
    "dapo_ds": ("specificity.rule", "terms", "clip", "kl", "group_filter"),
    "dapo": ("specificity.rule", "terms", "clip", "kl"),
    "n5": ("sampling.group_size",),
    "n15": ("sampling.group_size", "specificity.reached_by"),
    "noise": ("specificity.noise", "examples", "max_steps"),
    "data": ("examples", "updates", "batch_size", "max_steps"),
    "released": ("specificity.unparsable",),
    "test": ("trainer.callbacks",),
    "intra_only": ("triplet.gamma", "triplet.eta1"),
    "inter_only": ("sampling.positives",),
    "dapo_only": ("triplet.gamma", "triplet.eta1", "sampling.positives"),
    "anchor_conditioned": ("positive_conditioning",),
    "full_gradient": ("triplet.negative", "triplet.eta2"),
    "correct_only": ("triplet.scope",),
    "annealed": ("triplet.annealed_over",),
    "by": ("data.init_args.similarity", "data.init_args.epoch_length"),
    "n": ("sampling.positives",),
    "after_stage_1": ("backbone.init_args.run", "max_new_tokens", "max_steps", "val_check_interval", ".train.0."),
    "few_shot": ("data.init_args.train.", "max_steps"),
    "mixed_domain": ("data.init_args.train.", "task.init_args.question", "choice.init_args.question"),
    "random_options": ("train.0.options",),
    "alike_options": ("train.0.options",),
    "m3": ("train_task.init_args.options", "choice.init_args.options", "plan.options"),
    "refreshed": ("trainer.callbacks.5.", "data.init_args.epoch_length"),
    "none_of_these": tuple(f"{of}.init_args.{name}" for of in ("task", "choice") for name in ("none_of_these", "told")),
    "exact": EXACT,
    "exact_no_think": (*EXACT, "task.init_args.think", "choice.init_args.think"),
}


@pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.stem)
def test_a_twin_answers_first_and_differs_in_nothing_else(twin: Path):
    thinks, answers = printed(TWINS[twin]), printed(TWINS[twin], twin)
    for name in {*thinks, *answers}:
        before, after = thinks.get(name, "absent"), answers.get(name, "absent")
        if name.endswith(".think"):
            assert (before, after) == (True, False), name
        elif name == ".run.dir" or (name == START and thinks[".model.class_path"] != "fgvr.modules.SFT"):
            assert after == f"{before}_answer_first"
        elif name.endswith(".options") and isinstance(before, str):
            folder = Path(before).parent
            assert Path(after) == folder.with_name(f"{folder.name}_answer_first") / "options.jsonl"
        else:
            assert before == after, name


def test_every_method_has_a_twin_and_every_twin_a_start():
    kinds = {yaml.safe_load(path.read_text())["model"]["class_path"] for path in AVIARY.glob("*.yaml")}
    assert {printed(path)[".model.class_path"] for path in TWINS.values()} == kinds
    ends = {printed(TWINS[twin], twin)[".run.dir"] for twin in TWINS}
    starts = {printed(TWINS[twin], twin).get(START) for twin in TWINS if twin.stem != "fine_r1_sft"}
    assert starts - {None} <= ends
    assert {"grpo", "dapo", "tapo", "speciarl", "divek"} <= {twin.stem for twin in TWINS}


def test_the_second_stage_starts_where_the_first_one_ends():
    first = printed(AVIARY / "fine_r1_sft.yaml")
    second = printed(AVIARY / "tapo.yaml", AVIARY / "tapo" / "after_stage_1.yaml")
    assert second[START] == first[".run.dir"]
    own = [name for name in first if name.startswith((".data.init_args.task", ".model.init_args.policy.pixels"))]
    assert {name: second[name] for name in own} == {name: first[name] for name in own}
    longest = {values[".model.init_args.max_new_tokens"] for values in (first, second)}
    assert longest == {second[".model.init_args.sampling.max_new_tokens"]}
    assert [second[".data.init_args.train.0.path"]] == [first[".data.init_args.val.0"]]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_variant_differs_in_what_it_says_and_nothing_else(variant: Path):
    main_config = MAIN[variant.parent]
    before, after = printed(main_config), printed(main_config, variant)
    changed = {key for key in {*before, *after} if before.get(key, "absent") != after.get(key, "absent")}
    kind = max((name for name in ALLOWED if variant.stem.startswith(name)), key=len)
    meant = {key for key in changed if any(part in key for part in ALLOWED[kind])}
    assert meant, f"{variant.name} changes nothing"
    assert changed - meant <= {".run.dir"}, f"{variant.name} changes {sorted(changed - meant)} too"
    assert kind == "test" or (".run.dir" in changed and after[".run.dir"].endswith(f"_{variant.stem}"))


def test_every_variant_of_the_paper_has_its_aviary_twin():
    names = [{path.stem for path in folder.glob("*.yaml")} for folder in MAIN]
    assert names[0] - {"test_llama_70b"} == names[1] - {"correct"}
    splits = [{name for name in of if re.fullmatch(r"n\d+_\d+", name)} for of in names[2:4]]
    assert splits == [{"n10_0", "n8_2", "n2_8", "n0_10"}, {"n8_0", "n6_2", "n2_6", "n0_8"}]  # of ten, and of eight
    assert names[2] - splits[0] == names[3] - splits[1] - {"after_stage_1"}  # where the paper's own config starts
    assert names[4] <= names[5]
    folders = (CONFIGS, CONFIGS / "aviary")
    rivals = [{path.stem.removesuffix("_7b") for path in folder.glob("divek_sft_*")} for folder in folders]
    assert rivals[0] <= rivals[1]


def test_the_main_run_has_the_papers_values():
    values = printed(CONFIGS / "speciarl_qwen2_5_vl_7b.yaml")
    model, data = ".model.init_args", ".data.init_args"
    expected = {
        f"{model}.policy.lora.rank": 64, f"{model}.policy.lora.alpha": 32.0,
        f"{model}.policy.lora.exclude_vision": True,
        f"{model}.specificity.rule": "best_in_group", f"{model}.specificity.reached_by": 1,
        f"{model}.optimizer.lr": 3e-5, f"{model}.optimizer.weight_decay": 0.01,
        f"{model}.optimizer.schedule": "constant", f"{model}.optimizer.warmup": 0,
        f"{model}.optimizer.max_grad_norm": 1.0,
        f"{model}.sampling.group_size": 10, f"{model}.sampling.temperature": 1.0,
        f"{model}.sampling.max_new_tokens": 2048,
        f"{model}.advantage.baseline": "mean", f"{model}.advantage.scale": "sample", f"{model}.advantage.eps": 1e-6,
        f"{model}.clip.low": 0.2, f"{model}.clip.high": 0.2, f"{model}.clip.dual": 3.0,
        f"{model}.kl.coefficient": 0.01, f"{model}.kl.value": "k3", f"{model}.reduction": "token",
        f"{model}.updates": 2, f"{model}.epochs": 1, f"{data}.batch_size": 256, f"{data}.max_prompt_tokens": 2048,
        f"{data}.train.0.examples": 3000, ".trainer.max_steps": 2 * 165, ".trainer.precision": "bf16-mixed",
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(("size", "batch", "steps"), [("3b", 384, 3 * 40), ("7b", 192, 3 * 45)])
def test_the_second_stage_has_the_values_that_fine_r1s_code_ends_up_with(size: str, batch: int, steps: int):
    values = printed(CONFIGS / f"tapo_qwen2_5_vl_{size}.yaml")
    model, data = ".model.init_args", ".data.init_args"
    expected = {
        f"{model}.triplet.gamma": 0.01, f"{model}.triplet.eta1": 0.03, f"{model}.triplet.annealed_over": None,
        f"{model}.triplet.negative": "detached", f"{model}.triplet.scope": "all",
        f"{model}.positive_conditioning": "own", f"{model}.kl": None,
        f"{model}.optimizer.lr": 1e-6, f"{model}.optimizer.weight_decay": 0.01,
        f"{model}.optimizer.schedule": "constant", f"{model}.optimizer.warmup": 0, f"{model}.optimizer.eps": 1e-8,
        f"{model}.optimizer.betas.0": 0.9, f"{model}.optimizer.betas.1": 0.999, f"{model}.optimizer.max_grad_norm": 1.0,
        f"{model}.sampling.group_size": 10, f"{model}.sampling.positives": 5, f"{model}.sampling.temperature": 1.0,
        f"{model}.sampling.max_new_tokens": 2048,
        f"{model}.reward.init_args.terms.exact.weight": 0.9, f"{model}.reward.init_args.terms.format.weight": 0.1,
        f"{model}.advantage.baseline": "mean", f"{model}.advantage.scale": "sample", f"{model}.advantage.eps": 1e-6,
        f"{model}.clip.low": 0.2, f"{model}.clip.high": 0.28, f"{model}.clip.dual": 3.0, f"{model}.reduction": "token",
        f"{model}.group_filter.score": "exact", f"{model}.group_filter.low": 0.01, f"{model}.group_filter.high": 0.99,
        f"{model}.policy.freeze": [], f"{model}.policy.lora": None, f"{model}.policy.pixels.max": 589824,
        f"{model}.updates": 3, f"{model}.epochs": 1, f"{model}.mask_truncated": False,
        f"{data}.batch_size": batch, f"{data}.max_prompt_tokens": 4096, ".seed_everything": 1,
        ".trainer.max_steps": steps,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected


def test_divek_has_the_papers_values():
    values = printed(CONFIGS / "divek_qwen2_5_vl_7b.yaml")
    model, data, plan = ".model.init_args", ".data.init_args", ".trainer.callbacks.4.init_args.plan"
    expected = {
        f"{model}.choice_weight": 1.0, f"{model}.format_weight": 1.0, f"{model}.policy.lora": None,
        f"{model}.policy.freeze": [], f"{model}.policy.pixels.max": 401408, f"{model}.policy.pixels.min": 3136,
        f"{model}.optimizer.lr": 1e-6, f"{model}.optimizer.schedule": "linear", f"{model}.optimizer.warmup": 0,
        f"{model}.optimizer.weight_decay": 0.0, f"{model}.optimizer.betas.0": 0.9, f"{model}.optimizer.betas.1": 0.999,
        f"{model}.optimizer.max_grad_norm": 1.0, f"{model}.optimizer.floor": 0.0,
        f"{model}.sampling.group_size": 4, f"{model}.sampling.temperature": 1.0,
        f"{model}.sampling.max_new_tokens": 1024,
        f"{model}.advantage.eps": 1e-4, f"{model}.kl.coefficient": 0.04, f"{model}.kl.value": "k3",
        f"{model}.reduction": "sequence", f"{model}.updates": 1, f"{model}.group_filter": None,
        f"{data}.batch_size": 6, f"{data}.max_prompt_tokens": 1024, f"{data}.train_task.init_args.options": 5,
        f"{data}.train_task.init_args.letters": True, ".trainer.max_steps": 400, ".trainer.precision": "bf16-mixed",
        f"{plan}.samples": 20, f"{plan}.options": 5, f"{plan}.temperature": 1.0, f"{plan}.rotations": 1,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected
    smaller = printed(CONFIGS / "divek_qwen2_5_vl_3b.yaml")
    changed = {name for name in {*values, *smaller} if values.get(name) != smaller.get(name)}
    assert changed == {".run.dir", f"{model}.policy.backbone.init_args.path", f"{data}.train.0.options"}


DIVEK = [
    path
    for path in (*METHODS, *VARIANTS, *TWINS)
    if any(part.startswith("divek") for part in path.with_suffix("").parts)
]


@pytest.mark.parametrize("config", DIVEK, ids=lambda path: "-".join(path.parts[-3:]))
def test_what_a_run_of_choices_practises_is_what_it_is_judged_by(config: Path):
    over = MAIN.get(config.parent, TWINS.get(config))
    values = printed(*[over] if over else [], config)
    data = ".data.init_args"
    assert values[f"{data}.task.class_path"] == "fgvr.data.OpenWorld", "validation asks for the name"
    (two_step,) = (
        key.removesuffix(".class_path") for key, value in values.items() if value == "fgvr.callbacks.TwoStepInference"
    )
    choice = {key: value for key, value in values.items() if key.startswith(f"{two_step}.init_args.choice.")}
    assert choice, "the second question is written out"
    assert values[f"{two_step}.init_args.plan.options"] == values[f"{two_step}.init_args.choice.init_args.options"]
    assert values[f"{two_step}.init_args.choice.init_args.think"] == values[f"{data}.task.init_args.think"]
    if values.get(f"{data}.train_task.class_path") is not None:
        practised = {key.removeprefix(f"{data}.train_task."): v for key, v in values.items() if ".train_task." in key}
        assert practised == {key.removeprefix(f"{two_step}.init_args.choice."): value for key, value in choice.items()}


def test_photos_of_the_few_shot_run_are_of_all_species_that_its_model_knows():
    entry = ".data.init_args.train.0"
    values = printed(CONFIGS / "aviary" / "divek.yaml", CONFIGS / "aviary" / "divek" / "few_shot.yaml")
    assert values[f"{entry}.source.init_args.novel"] == 0
    assert (values[f"{entry}.path"], values[f"{entry}.pack.k_shot"]) == ("data/aviary_4shot", 4)


def test_the_line_that_the_page_gives_draws_what_the_config_asks_for():
    page = (CONFIGS.parent / "docs" / "divek.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"python -m fgvr shards (--source Aviary .*)", page)
    given = dict(re.findall(r"--([\w.]+) (\S+)", line))
    entry = ".data.init_args.train.0"
    values = printed(CONFIGS / "aviary" / "divek.yaml")
    assert given.pop("out") == values[f"{entry}.path"]
    assert values[f"{entry}.source.class_path"].endswith(f".{given.pop('source')}")
    own = {name.removeprefix("source."): yaml.safe_load(value) for name, value in given.items()}
    source = f"{entry}.source.init_args."
    asked = {key.removeprefix(source): value for key, value in values.items() if key.startswith(source)}
    defaults = ("size", "seed")
    assert own == {name: value for name, value in asked.items() if name not in defaults}


@pytest.mark.parametrize("share", [5, 10, 25])
def test_noise_is_compared_with_a_run_on_as_many_photos(share: int):
    folder, over = CONFIGS / "speciarl", MAIN[CONFIGS / "speciarl"]
    noisy, calm = printed(over, folder / f"noise{share}.yaml"), printed(over, folder / "data1024.yaml")
    changed = {name for name in {*noisy, *calm} if noisy.get(name) != calm.get(name)}
    assert changed == {".run.dir", ".model.init_args.specificity.noise"}
    assert noisy[".model.init_args.specificity.noise"] == share / 100
