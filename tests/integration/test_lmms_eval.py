"""A real lmms-eval asks an exported model our questions: replies and scores are those of the run's evaluation."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from conftest import tiny_policy
from exported import run_alone
from rl_run import ends, learn_sft, sft_config, start
from trained_runs import noisy, save

from fgvr.__main__ import main
from fgvr.tools.export import export
from fgvr.tools.tasks import tasks

pytestmark = [pytest.mark.lmms_eval, pytest.mark.timeout(900)]
OPENS = """
import sys
from PIL import Image
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
text = processor.apply_chat_template(chat, add_generation_prompt=True)
inputs = processor(text=[text], images=[Image.new("RGB", (84, 56))], return_tensors="pt")
print(type(processor).__name__, type(processor.video_processor).__name__, inputs["image_grid_thw"].tolist())
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter beside that lmms-eval."""
    folder = os.environ.get("FGVR_LMMS_EVAL_ENV")
    assert folder, "name an environment made by .ci/make-lmms-eval-env in FGVR_LMMS_EVAL_ENV"
    return str(Path(folder) / "bin" / "python")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its evaluation on all photos of val, and its export."""
    folder = tmp_path_factory.mktemp("evaluated")
    learn_sft(folder)
    line = ["validate", "--config", str(folder / "sft/config.yaml"), "--run.dir", str(folder / "sft")]
    assert main([*line, "--data.init_args.eval_examples", "null"]) == 0
    export(folder / "sft", folder / "out")
    return folder


def test_scores_and_replies_are_the_run_s(evaluated: Path, python: str):
    tasks([evaluated / "aviary"], evaluated / "tasks", evaluated / "out", split="val")
    results, replies = asked(python, evaluated, "fgvr_val")
    held(results, evaluated / "sft/validate_metrics.json", "open_world")
    said = [json.loads(line) for line in (evaluated / "sft/answers.jsonl").read_text().splitlines()]
    assert {row["uid"]: row["completion"].strip() for row in said} == replies
    assert any(row["answer"] for row in said)


@pytest.fixture(scope="module", params=[True, False], ids=["by letter", "by name"])
def choosing(request: pytest.FixtureRequest, evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `evaluated`, of a model that was taught to choose among four names, and names nothing freely."""
    folder = tmp_path_factory.mktemp("choosing")
    copytree(evaluated / "aviary", folder / "aviary")
    config = yaml.safe_load(sft_config(folder).read_text())
    question = {"options": 4, "letters": request.param, "question": "Which bird is this?"}
    backbone = config["model"]["init_args"]["policy"]["backbone"]["init_args"]
    backbone["phrases"] += ["\nA) \nB) \nC) \nD) \n- ", "Give the letter of one option between <answer>"]
    config["data"]["init_args"]["task"] = {"class_path": "fgvr.data.ClosedWorld", "init_args": question}
    config["data"]["init_args"]["eval_examples"] = None
    file = folder / "choice.yaml"
    file.write_text(yaml.safe_dump(config))
    ends(start(file, folder / "sft", f"--trainer.max_steps={60 if request.param else 120}"))
    export(folder / "sft", folder / "out")
    return folder


def test_scores_of_a_choice_are_the_run_s(choosing: Path, python: str):
    tasks([choosing / "aviary"], choosing / "tasks", choosing / "out", split="val")
    results, replies = asked(python, choosing, "fgvr_val", "closed_world")
    held(results, choosing / "sft/final_metrics.json", "closed_world")
    said = [json.loads(line) for line in (choosing / "sft/answers.jsonl").read_text().splitlines()]
    assert {row["uid"]: row["completion"].strip() for row in said} == replies
    assert sum(row["answer"] is not None for row in said) > 0.9 * len(said)


def held(results: dict[str, Any], figures: Path, kind: str) -> None:
    """Every cohort's figures of lmms-eval are the run's own, within a tenth of a point."""
    ours = json.loads(figures.read_text())
    cohorts = {name.partition("/")[0] for name in ours if name.endswith("/exact")}
    assert cohorts == {"seen", "unseen", "novel"}
    for cohort in cohorts:
        theirs = results[f"fgvr_aviary_val_{cohort}_{kind}"]
        for figure in ("exact", "correctness", "specificity", "parse_failures"):
            assert theirs[f"{figure},none"] == pytest.approx(ours[f"{cohort}/{figure}"], abs=0.001)


def test_a_qwen3_vl_is_asked_too(evaluated: Path, python: str, tmp_path: Path):
    save(noisy(tiny_policy("qwen3_vl")), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out", data=evaluated / "aviary")
    tasks([evaluated / "aviary"], tmp_path / "tasks", tmp_path / "out", split="val")
    results, replies = asked(python, tmp_path, "fgvr_val", model="fgvr_qwen3_vl")
    assert len(results.keys() - {"fgvr_val"}) == 6  # naming and choice, of three cohorts
    assert len(replies) == 48
    assert all(replies.values())


def asked(
    python: str, folder: Path, group: str, kind: str = "open_world", model: str = "fgvr_qwen2_5_vl"
) -> tuple[dict[str, Any], dict[str, str]]:
    """The results of lmms-eval by task, and the replies to questions of a kind by photo."""
    given = f"pretrained={folder / 'out'},min_pixels=784,max_pixels=7056,device=cpu,device_map=cpu"
    line = [python, "-m", "lmms_eval", "--model", model, "--model_args", given, "--tasks", group]
    line += ["--include_path", str(folder / "tasks"), "--output_path", str(folder / "said"), "--log_samples"]
    alone = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*line, "--batch_size", "16"], env=alone, capture_output=True, text=True, timeout=800)
    (file,) = (folder / "said").rglob("*_results.json") if not done.returncode else [None]
    assert file is not None, done.stderr[-3000:]
    replies = dict[str, str]()
    for samples in (folder / "said").rglob(f"*_samples_*_{kind}.jsonl"):
        name = samples.name.partition("_samples_")[2]
        documents = [json.loads(row) for row in (folder / "tasks" / name).read_text().splitlines()]
        for row in map(json.loads, samples.read_text().splitlines()):
            replies[documents[row["doc_id"]]["uid"]] = row.get("resps", row["filtered_resps"]).strip()  # once if equal
    return json.loads(file.read_text())["results"], replies


def test_auto_processor_opens_the_export_where_torchvision_is(evaluated: Path, python: str):
    said = run_alone(OPENS, evaluated / "out", python=python)
    assert said.split()[:2] == ["Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"]
    assert said.strip().endswith("[[1, 4, 6]]")  # 56 x 84 pixels in patches of 14
