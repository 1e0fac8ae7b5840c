from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_checkpoints import content, save_sharded
from small_disks import fill, small_disk

from fgvr.__main__ import main
from fgvr.checkpoints.format import STATE, checkpoints_in, remove_checkpoint
from fgvr.runs.claim import claim
from fgvr.runs.fingerprint import code_fingerprint
from fgvr.runs.folder import RunFolder
from fgvr.whole_files import sealed

ROOT = Path(__file__).parents[2]
CONFIG = """
model: {{class_path: toy_run.ToyModel, init_args: {{lr: 1e-3}}}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_steps: 6, logger: false, enable_progress_bar: false}}
run: {{dir: {folder}, save_every: 2}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of six steps that is complete, with checkpoints of steps 2, 4 and 6."""
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    (tmp_path / "toy.yaml").write_text(CONFIG.format(folder=tmp_path / "run"))
    assert main(["fit", "--config", str(tmp_path / "toy.yaml")]) == 0
    return tmp_path / "run"


@pytest.fixture
def stopped(folder: Path) -> Path:
    """The same, as if it had been killed after step 6 was saved."""
    (folder / "final_metrics.json").unlink()
    return folder


def told(capsys: pytest.CaptureFixture[str], folder: Path, *line: str, code: int) -> str:
    """What is said; nothing of the folder may change, not even a time."""
    capsys.readouterr()
    before = contents(folder)
    assert main(["doctor", str(folder), *line]) == code
    assert contents(folder) == before
    return capsys.readouterr().out


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    paths = [folder, *folder.rglob("*")] if folder.is_dir() else []
    return {path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_complete_run(folder: Path, capsys: pytest.CaptureFixture[str]):
    said = told(capsys, folder, code=0)
    assert said.count(": whole, step ") == 3
    assert "It is complete, at step 6." in said
    assert f"type: python -m fgvr fit --config {folder}/config.yaml\n" in said
    assert " had it last" in said


def test_what_it_says_to_type_goes_on(stopped: Path, capsys: pytest.CaptureFixture[str]):
    remove_checkpoint(checkpoints_in(stopped / "checkpoints")[-1])
    said = told(capsys, stopped, code=0)
    assert "It goes on from checkpoints/step-00000004.ckpt, at step 4." in said
    line = said.rpartition("python -m fgvr ")[2].split()
    assert main(line) == 0
    assert [path.stem for path in checkpoints_in(stopped / "checkpoints")][-1] == "step-00000006"
    assert "It is complete" in told(capsys, stopped, code=0)


def test_a_run_that_was_moved_is_gone_on_with_where_it_is(stopped: Path, capsys: pytest.CaptureFixture[str]):
    moved = stopped.rename(stopped.with_name("the moved one"))
    assert f"--config '{moved}/config.yaml' --run.dir '{moved}'" in told(capsys, moved, code=0)


def test_each_damaged_file_is_named_and_the_checkpoint_before_is_taken(
    stopped: Path, capsys: pytest.CaptureFixture[str]
):
    two, four, six = checkpoints_in(stopped / "checkpoints")
    flip(six / STATE)
    said = told(capsys, stopped, code=0)
    assert "step-00000006.ckpt: damaged." in said
    assert f"{STATE} does not have the hash" in said
    assert "It goes on from checkpoints/step-00000004.ckpt" in said
    (four / "manifest.json").unlink()
    os.truncate(two / STATE, 100)
    said = told(capsys, stopped, code=1)
    assert "lacks a readable manifest.json" in said
    assert f"{STATE} has 100 bytes instead of" in said
    assert "None of the 3 checkpoints" in said


def test_of_a_sharded_one_every_wrong_file_is_named(stopped: Path, capsys: pytest.CaptureFixture[str]):
    path = save_sharded(content(8), stopped / "checkpoints" / "step-00000008.ckpt")
    for name in ("shard-00000.safetensors", "shard-00001.safetensors"):
        flip(path / name)
    said = told(capsys, stopped, code=0)
    assert said.count("step-00000008.ckpt: damaged.") == 2
    assert "at step 6" in said


def test_what_a_killed_save_left_is_named(stopped: Path, capsys: pytest.CaptureFixture[str]):
    (stopped / "checkpoints" / ".step-00000008.ckpt.new-0123456789ab").mkdir()
    assert "new-0123456789ab: left half-done" in told(capsys, stopped, code=0)
    claimed = claim(RunFolder(stopped))
    (stopped / "checkpoints" / ".step-00000008.ckpt.new-0123456789ab").mkdir()
    assert "new-0123456789ab: a save under way" in told(capsys, stopped, code=1)
    claimed.release()


def test_a_run_that_is_going_is_named_by_who_holds_it(stopped: Path, capsys: pytest.CaptureFixture[str]):
    claimed = claim(RunFolder(stopped))
    said = told(capsys, stopped, code=1)
    assert f"lock: held by process {os.getpid()} on {os.uname().nodename}" in said
    assert "wait for that to end" in said
    claimed.release()
    (stopped / ".lock").write_text("process 5 on node-7")
    assert "process 5 on node-7 wrote to it last; whether it still does" in told(capsys, stopped, code=0)


def test_a_config_is_compared_as_a_resume_compares_it(stopped: Path, capsys: pytest.CaptureFixture[str]):
    config = ["--config", str(stopped.parent / "toy.yaml")]
    assert "It goes on from" in told(capsys, stopped, *config, code=0)
    said = told(capsys, stopped, *config, "--model.init_args.lr", "0.5", code=1)
    assert "model.init_args.lr: 0.001 -> 0.5" in said
    assert "--run.allow_changed '[config]'" in said
    assert "at step 6" in told(capsys, stopped, *config, "--model.lr=0.5", "--run.allow_changed=[config]", code=0)
    assert main(["doctor", str(stopped), *config, "--model.init_args.lrr", "0.5"]) == 2


def test_other_code_is_refused_unless_the_run_is_complete(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fgvr.tools.doctor.code_fingerprint", lambda: {**code_fingerprint(), "cli.py": "0"})
    assert "It is complete" in told(capsys, folder, code=0)
    (folder / "final_metrics.json").unlink()
    assert "cli.py changed" in told(capsys, folder, code=1)


def test_damaged_figures_and_records(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "checkpoints" / "best.json").write_text("{")
    (folder / "starts.json").write_text('{"step": 4, "starts": 2}')
    said = told(capsys, folder, code=0)
    assert "best.json must be readable JSON" in said
    assert "starts in a row at step 4: 2" in said
    flip(folder / "final_metrics.json")
    assert "final_metrics.json must be readable JSON" in told(capsys, folder, code=1)


def test_starts_that_got_nowhere(stopped: Path, capsys: pytest.CaptureFixture[str]):
    config = stopped / "config.yaml"
    config.write_text(config.read_text().replace("  save_every: 2", "  save_every: 2\n  restarts: 3"))
    for step, starts, code in ((6, 3, 0), (4, 4, 0), (6, 4, 1)):
        (stopped / "starts.json").write_bytes(sealed({"step": step, "starts": starts}))
        said = told(capsys, stopped, code=code)
        assert ("- It was started 4 times in a row at step 6 (run.restarts)" in said) == (code == 1)
    capsys.readouterr()
    for code in (2, 0):  # as it says
        assert main(["fit", "--config", str(config)]) == code


def test_before_the_first_save_it_starts_from_the_beginning(stopped: Path, capsys: pytest.CaptureFixture[str]):
    for path in checkpoints_in(stopped / "checkpoints"):
        remove_checkpoint(path)
    assert "Nothing was saved yet" in told(capsys, stopped, code=0)
    (stopped / "config.yaml").unlink()
    assert f"fit --config FILE --run.dir {stopped}" in told(capsys, stopped, code=0)


def test_what_is_no_run_s_folder_is_one_sentence(stopped: Path, capsys: pytest.CaptureFixture[str]):
    there = stopped.parent
    (there / "loop").symlink_to(there / "loop")
    (there / "foreign" / "lightning_logs").mkdir(parents=True)
    for path, sentence in {
        there / "nowhere": "is not there",
        there / "toy.yaml": "is a file",
        there / "loop": "is a link that leads nowhere",
        there / "foreign": "there is neither checkpoints/ nor config.yaml in it",
        stopped / "checkpoints": f"give {stopped}.",
        stopped / "checkpoints" / "step-00000004.ckpt": f"give {stopped}.",
    }.items():
        assert main(["doctor", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("fgvr: A run's folder must be given"), said
        assert sentence in said


def test_the_checkpoints_of_another_tool_are_passed_over(stopped: Path, capsys: pytest.CaptureFixture[str]):
    (stopped / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    assert "is not a folder with state.pt" in told(capsys, stopped, code=0)


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="gives up root's rights for a while")
def test_a_folder_that_may_not_be_read_is_one_sentence(stopped: Path, capsys: pytest.CaptureFixture[str]):
    for path in (stopped.parent, *stopped.parent.parents):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    stopped.chmod(0o700)
    os.seteuid(65534)
    try:
        assert main(["doctor", str(stopped)]) == 2
    finally:
        os.seteuid(0)
    assert "Permission denied" in capsys.readouterr().err


def test_a_full_and_a_read_only_disk(stopped: Path, capsys: pytest.CaptureFixture[str]):
    with small_disk(stopped.parent / "disk", megabytes=2) as disk:
        run = disk / "run"
        shutil.copytree(stopped, run)
        assert "It goes on from" in told(capsys, run, code=0)
        filler = fill(disk)
        assert "are free there: make room" in told(capsys, run, code=1)
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = told(capsys, run, code=1)
        assert "must be writable, but it is not" in said
        assert said.count(": whole, step ") == 3


def test_without_a_config_neither_lightning_nor_transformers_is_imported(stopped: Path):
    code = (
        "import sys; from fgvr.__main__ import main; sys.path.append('tests')\n"  # as a class of one's own is found
        f"assert main(['doctor', {str(stopped)!r}]) == 0\n"
        "assert not {'lightning', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
