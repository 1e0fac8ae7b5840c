import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from warm_start import Started, Warm

import fgvr
from fgvr import __main__ as program
from fgvr.__main__ import TOOLS, Tool, main

ROOT = Path(__file__).parents[1]


def test_the_overview_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fgvr.__main__ import main; main(['--help']); main(['--version'])\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    for name in ("fit", "validate", "test", "predict", *TOOLS):
        assert f"  {name} " in run.stdout
    assert f"fgvr {fgvr.__version__}" in run.stdout.splitlines()


def test_an_unknown_command_and_a_misplaced_one(capsys: Any) -> None:
    assert main(["fti"]) == 2
    assert capsys.readouterr().err == "fgvr: There is no command fti; the nearest is fit.\n"
    assert main(["--config", "a.yaml", "fit"]) == 2
    assert "python -m fgvr fit --config a.yaml" in capsys.readouterr().err


def test_shards_audit_is_another_name_of_audit_and_of_nothing_else(capsys: Any, tmp_path: Path) -> None:
    for words in (["--audit", str(tmp_path / "no--audit")], [f"--audit={tmp_path}/no--audit"]):
        assert main(["shards", *words]) == 2
        assert f"{tmp_path}/no--audit" in capsys.readouterr().err


def test_within_is_a_setting_of_the_data_wherever_it_stands(capsys: Any) -> None:
    line = ["validate", "--config", "a.yaml", "--data.init_args.within", "Cat family"]
    assert program._with_within(["validate", "--within", "Cat family", "--config", "a.yaml"]) == line
    assert program._with_within(["predict", "--within=owl"]) == ["predict", "--data.init_args.within=owl"]
    assert main(["validate", "--within"]) == 2
    assert capsys.readouterr().err == "fgvr: --within needs a name of the taxonomy, as in --within NAME\n"


def test_a_run_without_a_config(capsys: Any) -> None:
    assert main(["fit"]) == 2
    assert capsys.readouterr().err == "fgvr: run.dir, data and model are required: give --config FILE.\n"


def test_the_help_of_a_run(capsys: Any) -> None:
    assert main(["fit", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: python -m fgvr ")
    assert "--run.resume" in out
    assert "--trainer.max_steps" in out


TOOL = """
from pathlib import Path

from fgvr.errors import UserError


def greet(name: str, out: Path, times: int = 1) -> None:
    \"\"\"Writes a greeting.\"\"\"
    if name == "nobody":
        raise UserError("name must be somebody, got nobody: give another.")
    if name == "bug":
        raise ValueError("a mistake of ours")
    if name == "ctrl-c":
        raise KeyboardInterrupt
    out.write_text(f"hello {name} " * times)
"""


@pytest.fixture
def greet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "greeting_tool.py").write_text(TOOL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(program.TOOLS, "greet", Tool("greeting_tool", "greet", "write a greeting"))
    return tmp_path / "out.txt"


def test_a_tool_is_its_function(greet: Path, tmp_path: Path) -> None:
    assert main(["greet", "--name", "Ada", "--out", str(greet), "--times=2"]) == 0
    assert greet.read_text() == "hello Ada hello Ada "
    (tmp_path / "greet.yaml").write_text(f"name: Bob\nout: {greet}\n")
    assert main(["greet", "--config", str(tmp_path / "greet.yaml")]) == 0
    assert greet.read_text() == "hello Bob "


def test_errors_of_the_user_are_one_sentence(greet: Path, tmp_path: Path, capsys: Any) -> None:
    cases = {
        ("--name", "nobody", "--out", str(greet)): "name must be somebody, got nobody: give another.",
        ("--name", "A", "--out", str(greet), "--tims", "2"): "--tims: there is no setting tims; the nearest is times.",
        ("--name", "Ada", "--out", str(greet), "--times", "two"): "--times: times must be a whole number, got two.",
        ("--name", "Ada"): "out is required: give it in the config or as --out.",
        ("--name", "Ada", "--out", str(tmp_path)): f"{tmp_path}: Is a directory.",
        ("--config", "nowhere.yaml"): "nowhere.yaml: there is no such file.",
    }
    for line, sentence in cases.items():
        assert main(["greet", *line]) == 2, line
        assert capsys.readouterr().err == f"fgvr: {sentence}\n"


def test_a_full_disk_is_one_sentence(greet: Path, capsys: Any) -> None:
    assert main(["greet", "--name", "Ada", "--out", "/dev/full"]) == 2
    sentence = "The output must find room, but the disk is full (No space left on device)"
    assert capsys.readouterr().err == f"fgvr: {sentence}: make room, then start again.\n"


def test_a_bug_keeps_its_traceback(greet: Path) -> None:
    with pytest.raises(ValueError, match="a mistake of ours"):
        main(["greet", "--name", "bug", "--out", str(greet)])


def test_ctrl_c_in_a_tool(greet: Path, capsys: Any) -> None:
    assert main(["greet", "--name", "ctrl-c", "--out", str(greet)]) == 130
    assert capsys.readouterr().err == "fgvr: stopped by Ctrl-C.\n"


def line_of_a_long_run(folder: Path) -> list[str]:
    config = "model: {class_path: toy_run.ToyModel, init_args: {pause: 0.05}}\ndata: {class_path: toy_run.ToyData}\n"
    config += "trainer: {accelerator: cpu, max_epochs: 1000, log_every_n_steps: 1}\n"
    config += f"run: {{dir: {folder / 'run'}, save_every: 2}}\n"
    (folder / "toy.yaml").write_text(config)
    return ["fit", "--config", str(folder / "toy.yaml")]


@contextmanager
def running(folder: Path, on_ctrl_c: Any) -> Iterator[subprocess.Popen[str]]:
    """A long run that has saved its first checkpoint; a shell in the background starts it with Ctrl-C ignored."""
    command = [sys.executable, "-m", "fgvr", *line_of_a_long_run(folder)]
    environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    before = signal.signal(signal.SIGINT, on_ctrl_c)  # a child has what is ignored here, and otherwise the default
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    signal.signal(signal.SIGINT, before)
    with run:
        saves_after(run, folder, 0)
        yield run
        run.kill()


def saves_after(run: Started, folder: Path, step: int) -> int:
    """Waits for a checkpoint of a later step than `step`, and gives its step."""
    end = time.monotonic() + 120
    while time.monotonic() < end and run.poll() is None:
        steps = [int(path.stem.removeprefix("step-")) for path in folder.glob("run/checkpoints/step-*")]
        if max(steps, default=0) > step:
            return max(steps)
        time.sleep(0.05)
    raise AssertionError("the run does not go on")


def test_a_run_that_is_stopped_by_ctrl_c_says_so(tmp_path: Path) -> None:
    with running(tmp_path, signal.default_int_handler) as run:
        run.send_signal(signal.SIGINT)
        err = run.communicate(timeout=60)[1]
    says_what_stopped_it(run.returncode, err, "Ctrl-C", 130)


def test_a_run_that_is_stopped_by_sigterm_says_so(tmp_path: Path) -> None:
    run = Warm(line_of_a_long_run(tmp_path), os.environ)
    try:
        saves_after(run, tmp_path, 0)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    says_what_stopped_it(run.returncode, said, "SIGTERM", 143)


def says_what_stopped_it(returned: int | None, said: str, name: str, code: int) -> None:
    assert returned == code, said
    assert "Traceback" not in said
    assert "is ignored" not in said
    assert said.splitlines()[-1] == f"fgvr: stopped by {name}. The same command goes on from the last checkpoint."


def test_a_run_that_was_started_without_ctrl_c_says_how_to_stop_it(tmp_path: Path) -> None:
    with running(tmp_path, signal.SIG_IGN) as run:
        step = saves_after(run, tmp_path, 0)
        run.send_signal(signal.SIGINT)
        saves_after(run, tmp_path, step + 4)
        run.send_signal(signal.SIGTERM)
        err = run.communicate(timeout=60)[1]
    assert run.returncode == 143, err
    assert f"Ctrl-C is ignored, as nohup or a script's & has asked for: `kill {run.pid}` stops the run." in err


def test_what_needs_no_model_starts_without_loading_what_computes_one():
    code = (
        "import sys; from fgvr.__main__ import main\n"
        "for tool in ('shards', 'judgements', 'env'): assert main([tool, '--help']) == 0\n"
        "assert main(['shards', '--optons', '3']) == 2\n"
        "heavy = {'lightning', 'transformers', 'peft', 'torchmetrics'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
