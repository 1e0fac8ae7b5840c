"""Help that a user asks for, and the rule that every setting has a sentence."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

import docstring_parser
import pytest

from fgvr.__main__ import main
from fgvr.modules import GRPO
from fgvr.modules.base import Optimizer
from fgvr.settings.classes import class_parameters
from fgvr.settings.said import sentences

CHOSEN = ("modules", "datamodules", "models", "sources", "aviary", "data", "rewards", "similarity")
NOT_TOLD = {
    "Policy",
    "Processor",
    "Classes",
    "Listing",
    "PartnerRecord",
    "Record",
    "Refusal",
    "SourceGone",
    "AnsweredGroup",
    "Scores",
}  # made in code, never in a yaml


def classes() -> list[type]:
    rooms = [importlib.import_module(f"fgvr.{name}") for name in CHOSEN]
    named = [getattr(room, name) for room in rooms for name in room.__all__]
    more = ["modules.base.Optimizer", "models.sampling.Sampling", "callbacks.JudgeValidation"]
    more += ["callbacks.RolloutGeneration", "callbacks.TripletLogging", "runs.folder.RunFolder"]
    more += ["callbacks.TwoStepInference", "rollouts.two_step.TwoStep", "callbacks.OptionRefresh"]
    for path in more:
        room, _, name = path.rpartition(".")
        named.append(getattr(importlib.import_module(f"fgvr.{room}"), name))
    return [kind for kind in named if inspect.isclass(kind) and kind.__name__ not in NOT_TOLD]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_setting_is_spoken_of(kind: type):
    if not dataclasses.is_dataclass(kind) and kind.__init__ is object.__init__:
        return
    documented = {param.arg_name for param in docstring_parser.parse(kind.__doc__ or "").params}
    assert class_parameters(kind) <= {*sentences(kind), *documented}


class Coarse:
    """Sorts by size. The `mesh` is in mm. Below `mesh` all is kept; `turns` says how often. `low`, `high` are ends.

    With (a `mesh`, `high` at most) and `low` all is kept. In one thing, `low` is odd.

    Raises UserError for no mesh.
    """


class Fine(Coarse):
    """Sorts finely. A `mesh` of wire."""


def test_a_sentence_belongs_to_what_it_names():
    said = sentences(Coarse)
    bracket = "With (a `mesh`, `high` at most) and `low` all is kept."
    assert said["mesh"] == f"The `mesh` is in mm. Below `mesh` all is kept. {bracket}"
    assert said["turns"] == "`turns` says how often."
    assert said["low"] == f"`low`, `high` are ends. {bracket} In one thing, `low` is odd."
    assert said["high"] == f"`low`, `high` are ends. {bracket}"
    assert said[""] == "Sorts by size. Raises UserError for no mesh."
    assert sentences(Fine)["mesh"] == "A `mesh` of wire."
    assert sentences(Fine)["turns"] == said["turns"]


def test_what_each_setting_of_grpo_does_is_said_of_it_alone():
    said = sentences(GRPO)
    assert said["reward"] == "`reward` scores a completion (a single one counts under its own name)."
    assert said["advantage"] == "`advantage` compares it with its group."
    assert said["clip"] == "`clip` bounds how far one rollout batch moves the policy."
    assert said["kl"].startswith("`kl` holds it near the policy the run began with")
    assert said["updates"] == "Each rollout batch is split into `updates` optimiser steps."
    assert said["epochs"] == "It is gone through `epochs` times."
    assert sentences(Optimizer)["lr"] == "`lr` is the rate at its highest."
    assert sentences(Optimizer)["schedule"] == "`schedule` says what becomes of it then."


HELP = {
    ("fit", "--model.help", "SFT"): "bounds the answers given at validation",
    ("fit", "--config", "configs/photos.yaml", "--model.help"): "Negative log-likelihood of the assistant's tokens",
    ("fit", "--config", "configs/aviary/grpo.yaml", "--model.policy.backbone.help"): "What another run has learned",
    ("fit", "--data.help", "PromptData"): "`eval_examples` caps each cohort",
    ("fit", "--data.help"): "fgvr.datamodules.SFTData",
    ("fit", "--model.help"): "fgvr.modules.SpeciaRL",
    ("shards", "--source.help"): "fgvr.sources.ImageFolder",
    ("shards", "--source.help", "ImageFolder"): "`splits` says whether the top folders are splits",
    ("validate", "--help"): "zero-shot baseline",
}


@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_help_is_sentences_of_the_docstrings(line: tuple[str, ...], capsys: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(list(line)) == 0
    out = capsys.readouterr().out
    assert HELP[line] in " ".join(out.split())
    assert "__main__.py" not in out


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "shards", "export"])
def test_the_usage_line_says_what_is_typed(command: str, capsys: Any):
    assert main([command, "--help"]) == 0
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage == f"usage: python -m fgvr {command} [--config FILE] [--SETTING VALUE ...]"


def test_the_help_of_a_class_says_where_the_command_goes(capsys: Any):
    for line in (["fit", "--model.help", "GRPO"], ["shards", "--source.help", "CSV"]):
        assert main(line) == 0
        usage = capsys.readouterr().out.splitlines()[0]
        assert usage == "usage: python -m fgvr COMMAND [--config FILE] [--SETTING VALUE ...]"
