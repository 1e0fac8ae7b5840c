"""The folder of a run that nobody has trained: everything that a run leaves, in small, for a report to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from toy_triplets import FAMILY, packed

from fgvr.runs.folder import Start
from fgvr.runs.noted import note_start
from fgvr.shards.reading import ShardSet
from fgvr.whole_files import sealed, sealed_line

BIRDS = tuple(FAMILY)
HOSTILE = "</script><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(1)>\u202e&\"'`{{7*7}}"


def write_shards(folder: Path) -> Path:
    """Five photos of each of six birds to train on, one of each to validate on."""
    return packed(folder)


def write_run(
    folder: Path,
    shards: Path,
    groups: int = 6,
    size: int = 4,
    reply: str = "",
    right: Sequence[int] = (0, 1, 2),
    model: str = "fgvr.modules.GRPO",
    **train: Any,
) -> Path:
    """A run of `groups` groups of `size` completions, the first of each right. `reply` is said after each answer.

    Of the validation's six birds, those at the places `right` are named rightly, the others taken for the next one.
    """
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "seed_everything": 3,
        "trainer": {"callbacks": [{"class_path": "fgvr.callbacks.SampleLogging", "init_args": {}}]},
        "model": {"class_path": model, "init_args": {"policy": {"pixels": {"min": 784, "max": 3136}}}},
        "data": {
            "class_path": "fgvr.datamodules.PromptData",
            "init_args": {
                "train": [{"path": str(shards), **train}],
                "task": {"class_path": "fgvr.data.OpenWorld", "init_args": {"question": "Which bird is this?"}},
            },
        },
        "run": {"dir": str(folder)},
    }
    note_start(folder, config, Start(), 1)
    photos = ShardSet(shards, "train", ("seen",))
    with (folder / "rollouts.jsonl").open("wb") as file:
        for number in range(groups):
            uid, label = photos.uid(number % len(photos)), photos.labels()[number % len(photos)]
            file.writelines(map(sealed_line, rows_of_group(number, uid, label, size, reply)))
    write_figures(folder)
    write_answers(folder, shards, right)
    write_curves(folder / "tensorboard", max(2, groups))
    return folder


def rows_of_group(number: int, uid: str, label: str, size: int, reply: str = "") -> list[dict[str, Any]]:
    other = BIRDS[(BIRDS.index(label) + 1) % len(BIRDS)]
    return [
        {
            "epoch": 0, "step": number, "global_step": number + 1, "learned": True, "place": number, "uid": uid,
            "label": label, "completion": f"<answer>{name}</answer>{reply} {n}", "answer": None if reply else name,
            "rewards": {"exact": float(n == 0)}, "reward": float(n == 0), "advantage": 1.5 if n == 0 else -0.5,
            "length": 4 + n, "truncated": n == size - 1,
        }
        for n, name in enumerate([label] + [other] * (size - 1))
    ]  # fmt: skip


def write_figures(folder: Path, exact: float = 0.5) -> None:
    figures = {
        f"seen/{name}": 0.0 for name in ("abstain", "generic", "less_specific", "more_specific", "parse_failures")
    }
    figures |= {"seen/n": 6.0, "seen/exact": exact, "seen/specific": exact, "seen/wrong": 1 - exact, "seen/family": 1.0}
    figures |= {"seen/correctness": exact, "seen/correctness_low": 0.2, "seen/correctness_high": 0.8}
    began = {f"start/{name}": value for name, value in figures.items()} | {"start/seen/exact": 0.25}
    facts = {"step": 6, "epoch": 1, "seconds": 125.0, "fgvr": "0.1.0"}
    (folder / "final_metrics.json").write_bytes(sealed(figures | began | facts))


def write_answers(folder: Path, shards: Path, right: Sequence[int]) -> None:
    photos = ShardSet(shards, "val", ("seen",))
    lines = []
    for number, label in enumerate(photos.labels()):
        said = label if BIRDS.index(label) in right else BIRDS[(BIRDS.index(label) + 1) % len(BIRDS)]
        lines.append({
            "uid": photos.uid(number), "dataset": "birds", "split": "val", "cohort": "seen", "label": label,
            "completion": said, "answer": said, "verdict": "specific" if said == label else "wrong", "node": said,
            "several": False, "unjudged": None, "distribution": None,
        })  # fmt: skip
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_curves(folder: Path, steps: int, **tags: float) -> None:
    """Curves of the tags that a run of GRPO draws; `tags` besides, with slashes as two underscores."""
    from torch.utils.tensorboard.writer import SummaryWriter

    values = {
        "reward": 0.5, "rewards/exact/mean": 0.5, "rewards/format/mean": 1.0, "reward_std": 0.4, "entropy": 0.1,
        "kl": 0.01, "clip_ratio/low_mean": 0.01, "clip_ratio/high_mean": 0.02, "completions/mean_length": 40.0,
        "completions/min_length": 30.0, "completions/max_length": 48.0, "loss": 0.1, "lr": 1e-4, "step_time": 2.0,
        "time/sample": 1.0, "time/update": 0.75, "time/score": 0.05, "seen/exact": 0.5,
    }  # fmt: skip
    values |= {name.replace("__", "/"): value for name, value in tags.items()}
    with SummaryWriter(str(folder)) as writer:
        for step in range(1, steps + 1):
            for name, value in values.items():
                writer.add_scalar(name, value * (1 + 0.1 * (step % 3)), step)


def add_two_steps(folder: Path) -> None:
    """Rows of two-step inference before and after the training, about four photos."""
    (folder / "two_step").mkdir()
    for step, good in ((0, 1), (6, 3)):
        rows = [_two_steps(number, number < good) for number in range(4)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"two_step/step-{step:08}.jsonl").write_text(text)


def _two_steps(number: int, right: bool) -> dict[str, Any]:
    return {
        "uid": f"u{number}", "dataset": "birds", "cohort": "seen", "label": BIRDS[0], "by": "choice", "gate": "asked",
        "lead": 0.25, "confidence": 0.9 - 0.2 * number, "made_with": {"scope": "classes"},
        "right": {"greedy": right, "vote": right, "answer": right, "options": True},
        "tokens": {"greedy": 4, "sampled": 80, "choosing": 20},
    }  # fmt: skip


def add_choices(folder: Path, file: Path) -> None:
    """Options beside every row of the rollouts and, beside `file`, which the config names, a sweep."""
    path = folder / "rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    with path.open("wb") as lines:
        for row in rows:
            row.pop("check")
            other = BIRDS[(BIRDS.index(row["label"]) + 1) % len(BIRDS)]
            lines.write(sealed_line(row | {"shown": [other, row["label"]]}))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = config["data"]["init_args"]
    data["train"][0]["options"] = str(file)
    data["train_task"] = {
        "class_path": "fgvr.data.ClosedWorld",
        "init_args": {"options": 2, "letters": True, "question": "Which of these?"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [f"seen,{k},{m},0.{k}{m},0.1,0.9,0.25,1.5,40" for k in (1, 2) for m in (1, 2, 3)]
    head = "cohort,k,m,recall,low,high,guessed,options,tokens"
    (file.parent / "sweep.csv").write_text("\n".join([head, *cells]) + "\n")


def add_triplets(folder: Path, shards: Path) -> None:
    """A positive and a negative beside every row of the rollouts, and a table of rivals."""
    photos = ShardSet(shards, "train", ("seen",))
    path = folder / "rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    with path.open("wb") as lines:
        for row in rows:
            row.pop("check")
            lines.write(sealed_line(row | {"photo": "anchor", "positive": photos.uid(1), "negative": photos.uid(9)}))
    (folder / "triplets").mkdir()
    (folder / "triplets/epoch-0000.csv").write_text(
        f"dataset,class,negative,score,measure\nbirds,{BIRDS[0]},{BIRDS[1]},3.0,Siblings\n"
    )
