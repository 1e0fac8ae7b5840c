"""What a training needs on the machine, from its settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, photo, tiny_policy

from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder
from fgvr.tools.needs import Need, needs_of


def settings(**data: Any) -> dict[str, Any]:
    return {"model": {"class_path": "fgvr.modules.SFT", "init_args": {}}, "data": {"init_args": data}}


def found(config: dict[str, Any], what: str, served: bool = False) -> Need:
    (need,) = [one for one in needs_of(config, served) if one.what == what]
    return need


def test_a_whole_set_is_here_and_one_with_a_cut_shard_is_not(tmp_path: Path):
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            photo(40, 40, seed=index).save(tmp_path / "photos" / name / f"{index}.png")
    manifest = pack(ImageFolder(tmp_path / "photos"), tmp_path / "set")
    config = settings(train=[{"path": str(tmp_path / "set")}])
    whole = found(config, "shards")
    assert (whole.state, whole.lacking, whole.size) == ("here", False, sum(one.size for one in manifest.shards))
    shard = tmp_path / "set" / manifest.shards[0].file
    shard.write_bytes(shard.read_bytes()[:-512])
    cut = found(config, "shards")
    assert cut.lacking
    assert f"{shard.name} is not whole" in cut.remedy


def test_a_set_that_fit_packs_needs_its_photos(tmp_path: Path):
    source = {"class_path": "fgvr.sources.ImageFolder", "init_args": {"root": str(tmp_path)}}
    entry = {"path": str(tmp_path / "set"), "source": source}
    assert found(settings(train=[entry]), "shards").state == "fit packs them from ImageFolder"
    source["init_args"] = {"root": str(tmp_path / "gone")}
    need = found(settings(train=[entry]), "shards")
    assert need.lacking
    assert need.remedy == f"ImageFolder reads {tmp_path / 'gone'}, which is not there"
    drawn = {"path": str(tmp_path / "set"), "source": {"class_path": "fgvr.aviary.Aviary", "init_args": {}}}
    assert not found(settings(train=[drawn]), "shards").lacking
    assert found(settings(train=[], val=[str(tmp_path / "none")]), "shards").lacking


def test_options_and_files_of_judges_are_looked_for(tmp_path: Path):
    entry = {"path": str(tmp_path), "options": str(tmp_path / "options.jsonl")}
    need = found(settings(train=[entry]), "options")
    assert need.lacking
    assert "python -m fgvr mine makes it" in need.remedy
    config = settings(train=[])
    judge = {"class_path": "fgvr.judges.TaxonomyJudge", "init_args": {"taxonomy": str(tmp_path / "tree.yaml")}}
    config["trainer"] = {"callbacks": [{"class_path": "JudgeValidation", "init_args": {"judge": judge}}]}
    assert found(config, "taxonomy").lacking
    (tmp_path / "tree.yaml").write_text("a: {}\n")
    assert found(config, "taxonomy").size == 6


def test_a_judge_s_server_is_asked_and_its_weights_are_fetched_when_told(tmp_path: Path):
    config = settings(train=[])
    config["model"]["init_args"]["judge"] = {
        "class_path": "fgvr.judges.LLMJudge",
        "init_args": {"model": str(tmp_path / "judge"), "server": {"url": "http://node:1/v1"}},
    }
    need = found(config, "judge")
    assert (need.state, need.lacking) == ("asked at http://node:1/v1", False)
    assert found(config, "judge's weights", served=True).lacking


def test_a_model_s_folder_must_be_whole(tmp_path: Path):
    folder = tmp_path / "tiny"
    policy = tiny_policy()
    policy.base.save_pretrained(folder)
    config = settings(train=[])
    backbone = {"class_path": "fgvr.models.Pretrained", "init_args": {"path": str(folder)}}
    config["model"]["init_args"]["policy"] = {"backbone": backbone}
    need = found(config, "model")
    assert need.lacking
    assert need.state == "no tokenizer_config.json, preprocessor_config.json"
    policy.processor.save(folder)
    assert found(config, "model").state == "here"
    backbone["init_args"]["path"] = str(tmp_path / "gone")
    assert found(config, "model").state == "missing"


def test_a_run_to_start_from_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = settings(train=[])
    backbone = {"class_path": "fgvr.models.Trained", "init_args": {"run": str(tmp_path / "run")}}
    config["model"]["init_args"]["policy"] = {"backbone": backbone, "attention": "flash_attention_2"}
    need = found(config, "run")
    assert need.lacking
    assert "holds none" in need.remedy or "not there" in need.remedy
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    package = found(config, "package")
    assert (package.name, package.lacking) == ("flash_attn", True)
    assert package.remedy == "attention needs it: pip install flash-attn"
    assert found(config, "font").state == "here"
