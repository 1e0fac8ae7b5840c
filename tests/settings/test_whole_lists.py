"""A list in a later config takes an earlier one's place whole: nothing of an entry stays because of where it stood."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from fgvr.__main__ import main

CONFIG = Path(__file__).parents[2] / "configs/aviary/divek.yaml"
KINDS = [
    "RolloutGeneration", "SampleLogging", "Throughput",
    "JudgeValidation", "TwoStepInference",
]  # fmt: skip


def printed(*options: str) -> dict[str, Any]:
    with redirect_stdout(StringIO()) as out:
        assert main(["fit", "--config", str(CONFIG), *options, "--print_config"]) == 0
    return yaml.safe_load(out.getvalue())


def test_entries_keep_nothing_of_those_at_their_place(tmp_path: Path):
    callbacks = [{"class_path": f"fgvr.callbacks.{kind}"} for kind in KINDS]
    callbacks[3]["init_args"] = {"judge": {"class_path": "fgvr.judges.TaxonomyJudge"}}  # pyright: ignore[reportArgumentType]
    second = {"data": {"init_args": {"train": [{"path": "other"}]}}, "trainer": {"callbacks": callbacks}}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    own = printed("--config", str(tmp_path / "second.yaml"))
    (entry,) = own["data"]["init_args"]["train"]
    assert (entry["path"], entry["source"], entry["options"]) == ("other", None, None)
    two_step = own["trainer"]["callbacks"][-1]["init_args"]
    assert (two_step["scope"], two_step["choice"]) == ("classes", None)
    assert own["trainer"]["callbacks"][0]["init_args"]["max_unscorable"] == 0.1


def test_so_does_a_list_on_the_command_line_but_not_a_setting_of_its_last_entry():
    (entry,) = printed("--data.init_args.train", '[{"path": "other"}]')["data"]["init_args"]["train"]
    assert (entry["path"], entry["options"]) == ("other", None)
    callbacks = printed("--trainer.callbacks.init_args.scope", "classes")["trainer"]["callbacks"]
    assert [one["class_path"].rpartition(".")[2] for one in callbacks] == KINDS
    two_step = callbacks[-1]["init_args"]
    assert (two_step["scope"], two_step["choice"]["init_args"]["told"]) == ("classes", False)


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_added_leaves_the_others_as_they_are(tmp_path: Path, count: int):
    (tmp_path / "more.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks+": [{"class_path": "fgvr.callbacks.SampleLogging"}] * count}})
    )
    callbacks = printed("--config", str(tmp_path / "more.yaml"))["trainer"]["callbacks"]
    assert len(callbacks) == len(KINDS) + count
    assert callbacks[4]["init_args"]["scope"] == "cohort"
