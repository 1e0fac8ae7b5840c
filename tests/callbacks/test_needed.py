from pathlib import Path
from typing import Any

import pytest
import yaml
from rl_run import divek_config, grpo_config, refreshed_config, sft_config, tapo_config

from fgvr.__main__ import main
from fgvr.callbacks.needed import refuse_timer
from fgvr.errors import UserError

THROUGHPUT = "trainer: {callbacks: [{class_path: fgvr.callbacks.Throughput}]}\n"
NO_JUDGE = "must hold a JudgeValidation, since the answers of a validation or test are judged, and this config has none"


def later_file(folder: Path, text: str = THROUGHPUT) -> str:
    (folder / "later.yaml").write_text(text)
    return str(folder / "later.yaml")


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_a_validation_without_a_judge_is_refused(tmp_path: Path, capsys: Any, verb: str) -> None:
    first, later = str(sft_config(tmp_path)), later_file(tmp_path)
    nothing = [] if verb == "fit" else ["--ckpt_path", "none"]
    assert main([verb, "--config", first, "--config", later, *nothing]) == 2
    err = capsys.readouterr().err
    assert f"{later} puts its own trainer.callbacks in the place of those in {first} (JudgeValidation" in err
    assert f"{NO_JUDGE}: add fgvr.callbacks.JudgeValidation" in err
    assert ("or switch validation off with --trainer.limit_val_batches 0." in err) == (verb == "fit")
    assert not (tmp_path / "sft").exists()  # nor has anything been drawn
    assert not (tmp_path / "aviary").exists()


def test_rollouts_are_asked_for_too(tmp_path: Path, capsys: Any) -> None:
    config = grpo_config(tmp_path, "grpo")
    read = yaml.safe_load(config.read_text())
    tiny = yaml.safe_load(sft_config(tmp_path).read_text())["model"]["init_args"]["policy"]["backbone"]
    read["model"]["init_args"]["policy"]["backbone"] = tiny
    read["trainer"]["callbacks"] = []
    config.write_text(yaml.safe_dump(read))
    assert main(["fit", "--config", str(config)]) == 2
    assert "must hold a RolloutGeneration, since GRPO learns from rollouts" in capsys.readouterr().err


def test_added_callbacks_replace_nothing(tmp_path: Path, capsys: Any) -> None:
    more = later_file(tmp_path, THROUGHPUT.replace("callbacks:", "callbacks+:"))
    assert main(["fit", "--config", str(sft_config(tmp_path)), "--config", more, "--trainer.max_steps=1"]) == 0
    assert "puts its own" not in capsys.readouterr().err


def test_a_timer_is_refused() -> None:
    refuse_timer(["fgvr.callbacks.Throughput"])
    with pytest.raises(UserError, match=r"give trainer\.max_time, the time of one job"):
        refuse_timer(["lightning.pytorch.callbacks.Timer"])


def test_a_callback_need_not_stand_in_a_list(tmp_path: Path, capsys: Any) -> None:
    assert main(["fit", "--config", str(sft_config(tmp_path)), "--trainer.callbacks", "Throughput"]) == 2
    assert NO_JUDGE in capsys.readouterr().err


def test_what_learns_from_confusions_needs_who_counts_them(tmp_path: Path, capsys: Any) -> None:
    config = tapo_config(tmp_path, "tapo")
    read = yaml.safe_load(config.read_text())
    tiny = yaml.safe_load(sft_config(tmp_path).read_text())["model"]["init_args"]["policy"]["backbone"]
    read["model"]["init_args"]["policy"]["backbone"] = tiny
    kept = [one for one in read["trainer"]["callbacks"] if not one["class_path"].endswith("TripletLogging")]
    read["trainer"]["callbacks"] = kept
    config.write_text(yaml.safe_dump(read))
    assert main(["fit", "--config", str(config)]) == 2
    assert "must hold a TripletLogging, since it tells the data what the policy confuses" in capsys.readouterr().err


@pytest.mark.parametrize(("part", "other", "said"), [
    ("data", "fgvr.datamodules.PromptData", "TripletLogging shows triplets, but PromptData gives none"),
    ("model", "fgvr.modules.GRPO", "the collapse watch looks at a divergence from negatives, which GRPO has not"),
])  # fmt: skip
def test_what_a_callback_looks_at_is_missed_before_the_start_is_scored(
    tmp_path: Path, capsys: Any, part: str, other: str, said: str
) -> None:
    config = tapo_config(tmp_path, "tapo")
    read = yaml.safe_load(config.read_text())
    tiny = yaml.safe_load(sft_config(tmp_path).read_text())["model"]["init_args"]["policy"]["backbone"]
    read["model"]["init_args"]["policy"]["backbone"] = tiny
    read[part]["class_path"] = other
    for name in ("similarity", "k") if part == "data" else ():
        del read["data"]["init_args"][name]
    config.write_text(yaml.safe_dump(read))
    assert main(["fit", "--config", str(config)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "aviary").exists()


def of_a_tiny_model(config: Path) -> dict[str, Any]:
    """What a config of tests/rl_run.py holds, with a model that is there."""
    read = yaml.safe_load(config.read_text())
    tiny = yaml.safe_load(sft_config(config.parent).read_text())["model"]["init_args"]["policy"]["backbone"]
    read["model"]["init_args"]["policy"]["backbone"] = tiny
    return read


@pytest.mark.parametrize(("kind", "said"), [
    ("missing", "alike/options.jsonl must be a file of options, but it cannot be read (No such file or directory)"),
    ("no options", "choices are practised among options of each photo, but"),
    ("no choice", "DiVEk practises choices, but training asks OpenWorld: let data.init_args.train_task be"),
    ("nothing to refresh", "options that are mined anew take the place of others, but no set of data.train has any"),
    ("refreshed by choices", "options are mined by asking for names, but data.init_args.task is ClosedWorld"),
])  # fmt: skip
def test_what_is_wrong_with_options_is_said_before_the_start_is_scored(
    tmp_path: Path, capsys: Any, kind: str, said: str
) -> None:
    config = (refreshed_config if "refresh" in kind else divek_config)(tmp_path, "divek")
    read = of_a_tiny_model(config)
    data = read["data"]["init_args"]
    if kind in ("no options", "nothing to refresh"):
        del data["train"][0]["options"]
    if kind == "no choice":
        del data["train_task"]
    if kind == "refreshed by choices":
        data["task"] = data["train_task"]
    config.write_text(yaml.safe_dump(read))
    assert main(["fit", "--config", str(config)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "aviary").exists()
