"""slurm/train_with_judge.sbatch as it is shipped, on a real SLURM, with a real server and small trainers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cluster.slurm_cluster import KILL_WAIT, NODES, SlurmCluster, command_line, pids, variables, wait_until

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "slurm/train_with_judge.sbatch"
JUDGE = f"{sys.executable} {HERE / 'stand_in_judge.py'}"
RANKS = 4  # as the script asks for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Folder:
    """Where a job is submitted from: a config, and a stand-in for the package fgvr, which `python -m` finds first."""

    def __init__(self, path: Path, cluster: SlurmCluster) -> None:
        self.path, self.cluster = path, cluster
        (path / "fgvr").mkdir()
        (path / "fgvr/__init__.py").touch()
        shutil.copy(HERE / "stand_in_trainer.py", path / "fgvr/__main__.py")
        (path / "config.yaml").touch()

    def submit(self, *options: str, judge: str = JUDGE, sbatch: tuple[str, ...] = (), **settings: str) -> int:
        """The id of a job; `options` go to fgvr, `settings` are variables of the shell, JUDGE_WAIT for example."""
        line = [*sbatch, str(SCRIPT), "config.yaml", *options]
        return self.cluster.submit(*line, folder=self.path, settings={"JUDGE_COMMAND": judge, **settings})

    def log(self, job: int) -> str:
        return (self.path / f"slurm-{job}.log").read_text()

    def rank(self, rank: int = 0) -> dict[str, Any]:
        return json.loads((self.path / f"rank-{rank}.json").read_text())

    def trains(self, ranks: int = RANKS) -> None:
        """Waits until every rank has its answer from the judge."""
        files = [self.path / f"rank-{rank}.json" for rank in range(ranks)]
        wait_until(lambda: all(file.exists() for file in files), 90, "the training to start")

    def server(self) -> dict[str, int]:
        return json.loads((self.path / "judge.json").read_text())

    @property
    def trained(self) -> bool:
        return (self.path / "rank-0.json").exists()

    @property
    def notes(self) -> list[str]:
        file = self.path / "notes.txt"
        return sorted(file.read_text().splitlines()) if file.exists() else []


@pytest.fixture
def folder(tmp_path: Path, cluster: SlurmCluster) -> Folder:
    return Folder(tmp_path, cluster)


def test_the_judge_answers_every_rank_and_ends_with_the_training(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit("--wait", judge=f"{JUDGE} --worker")
    folder.trains()
    server = folder.server()
    assert {server["pid"], server["worker"]} <= set(cluster.processes(job))
    (folder.path / "go").touch()
    assert cluster.ended(job) == ("COMPLETED", 0)
    assert cluster.leftovers(job) == {}
    assert (folder.path / "judge-ended-well").exists()
    url = f"http://{NODES[0]}:{25000 + job % 7000}/v1"
    for rank in range(RANKS):
        found = folder.rank(rank)
        assert found["verdict"] == "specific"
        assert found["variables"]["FGVR_JUDGE_URL"] == url
        assert found["variables"]["SLURM_PROCID"] == str(rank)
        assert found["variables"]["SLURMD_NODENAME"] == NODES[1]
        assert found["variables"]["SLURM_CPUS_PER_TASK"] == "8"
        assert found["variables"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    line = ["fit", "--config", "config.yaml", "--run.restarts", "3", "--wait"]
    line += ["--trainer.devices", "4", "--trainer.num_nodes", "1"]
    assert folder.rank()["argv"] == line
    assert url in folder.log(job)
    said = (folder.path / f"slurm-{job}-judge.log").read_text()
    assert sorted(re.findall(r"asked: rank (\d)", said)) == [str(rank) for rank in range(RANKS)]


def test_lightning_finds_its_ranks_whatever_the_submitting_shell_was(folder: Folder, cluster: SlurmCluster) -> None:
    # the shell of another allocation and launcher, on a cluster with a proxy
    stray = {"MASTER_ADDR": "gone", "MASTER_PORT": "1", "RANK": "7", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "x"}
    stray |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "1", "SLURM_GRES": "gpu:1"}
    stray |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_GPUS_PER_NODE": "1", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1"}
    stray |= {"http_proxy": "http://127.0.0.1:1", "FGVR_JUDGE_URL": "http://gone/v1", "FGVR_JUDGE_KEY": "stray"}
    job = folder.submit("--lightning", sbatch=(":", "--ntasks-per-node=2"), **stray)
    assert cluster.ended(job) == ("COMPLETED", 0), folder.log(job)
    port = 15000 + job % 10000
    for rank in range(2):
        world = {"size": 2, "rank": rank, "local rank": rank, "address": NODES[1], "port": port}
        assert folder.rank(rank)["world"] == world
        assert folder.rank(rank)["variables"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
        assert "RANK" not in folder.rank(rank)["variables"]


def test_it_needs_no_gpu(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit(sbatch=("--gres=none", ":", "--gres=none", "--ntasks-per-node=1"))
    assert cluster.ended(job) == ("COMPLETED", 0), folder.log(job)
    assert "CUDA_VISIBLE_DEVICES" not in folder.rank()["variables"]


@pytest.mark.parametrize("others", ["end too", "hang"])
def test_the_code_of_the_training_is_that_of_the_job(folder: Folder, cluster: SlurmCluster, others: str) -> None:
    options = ["--code", "3"] + (["--of-rank", "2"] if others == "hang" else [])
    job = folder.submit(*options)
    assert cluster.ended(job) == ("FAILED", 3)
    assert cluster.leftovers(job) == {}
    assert not list(folder.path.glob("slurm-*-code-*"))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_ends_the_training(folder: Folder, cluster: SlurmCluster, kill: signal.Signals) -> None:
    job = folder.submit("--wait", judge=f"{JUDGE} --worker")
    folder.trains()
    began = time.monotonic()
    os.kill(folder.server()["pid"], kill)
    assert cluster.ended(job) == ("FAILED", 69)
    assert time.monotonic() - began < 4 + KILL_WAIT
    assert cluster.leftovers(job) == {}
    assert folder.notes == [f"{rank} TERM" for rank in range(RANKS)]  # asked to end before it is made to
    code = 128 + kill if kill == signal.SIGKILL else 0  # aiohttp ends well on SIGTERM
    assert f"The judge's server ended with code {code}." in folder.log(job)
    assert "asked: rank" in folder.log(job)  # the last lines of its log
    assert "must outlive the training, which is stopped" in folder.log(job)


def test_a_server_that_dies_as_it_starts_ends_the_job_at_once(folder: Folder, cluster: SlurmCluster) -> None:
    began = time.monotonic()
    job = folder.submit(judge=f"{JUDGE} --end-with 4")
    assert cluster.ended(job) == ("FAILED", 69)
    assert time.monotonic() - began < 10 + KILL_WAIT
    assert not folder.trained
    assert "no such model" in folder.log(job)
    assert "ended with code 4" in folder.log(job)
    assert "never was healthy: nothing was trained" in folder.log(job)


def test_a_server_that_is_never_healthy_is_given_up(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit(judge=f"{JUDGE} --healthy-after 300", JUDGE_WAIT="3")
    assert cluster.ended(job) == ("FAILED", 69)
    assert not folder.trained
    assert cluster.leftovers(job) == {}
    assert "must be healthy within 3 s (JUDGE_WAIT): nothing was trained" in folder.log(job)


def test_scancel_ends_both(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit("--wait", judge=f"{JUDGE} --worker")
    folder.trains()
    running = cluster.processes(job)
    assert {folder.server()["worker"], folder.rank()["pid"]} <= set(running)
    cluster.run("scancel", str(job))
    assert cluster.ended(job)[0] == "CANCELLED"
    assert cluster.leftovers(job) == {}
    assert folder.notes == [f"{rank} TERM" for rank in range(RANKS)]
    assert (folder.path / "judge-ended-well").exists()
    assert not list(folder.path.glob("slurm-*-code-*"))


def test_a_warning_signal_is_the_trainings_own(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit("--wait")
    folder.trains()
    cluster.run("scancel", "--signal=USR2", str(job))  # what sbatch --signal=USR2@120 does later
    wait_until(lambda: len(folder.notes) == RANKS, 10, "the signal to arrive")
    time.sleep(2)  # the script looks at both every second
    assert {folder.server()["pid"], folder.rank()["pid"]} <= set(cluster.processes(job))
    (folder.path / "go").touch()
    assert cluster.ended(job) == ("COMPLETED", 0)
    assert folder.notes == [f"{rank} USR2" for rank in range(RANKS)]


class Watch(threading.Thread):
    """Collects every command line of the machine while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            self.seen |= {command_line(pid) for pid in pids()}
            time.sleep(0.02)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def files_with(text: str, folder: Path) -> list[Path]:
    """SLURM's daemons put new files in the places of old ones meanwhile."""
    found = []
    for path in (Path(held, name) for held, _, names in os.walk(folder) for name in names):
        with suppress(FileNotFoundError):
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(path)
    return found


def test_the_key_is_in_no_file_and_on_no_command_line(folder: Folder, cluster: SlurmCluster) -> None:
    keys = []
    for _ in range(2):
        with Watch() as watch:
            # health is asked twice, and each time slowly enough to be seen
            judge = f"{JUDGE} --healthy-after 0.5 --health-takes 0.4"
            job = folder.submit("--wait", judge=judge, sbatch=(":", "--ntasks-per-node=1"))
            folder.trains(1)
            environment = dict(entry.split("=", 1) for entry in variables(folder.rank()["pid"]))
            key = environment["FGVR_JUDGE_KEY"]
            written = files_with(key, folder.path) + files_with(key, cluster.folder)
            (folder.path / "go").touch()
            assert cluster.ended(job) == ("COMPLETED", 0)
        assert re.fullmatch("[0-9a-f]{48}", key)
        assert any(line.startswith("curl") for line in watch.seen)
        assert any("stand_in_judge.py" in line for line in watch.seen)
        assert not [line for line in watch.seen if key in line]
        assert written + files_with(key, folder.path) + files_with(key, cluster.folder) == []
        assert files_with(str(job), folder.path)  # what is looked for would be found
        keys.append(key)
        for file in ("go", "rank-0.json"):
            (folder.path / file).unlink()
    assert keys[0] != keys[1]


def test_a_port_in_use_is_not_taken(folder: Folder, cluster: SlurmCluster) -> None:
    job = folder.submit(sbatch=("--hold", ":", "--ntasks-per-node=1"))
    with socket.create_server(("127.0.0.1", 25000 + job % 7000)):
        cluster.run("scontrol", "release", str(job))
        assert cluster.ended(job) == ("COMPLETED", 0), folder.log(job)
    assert folder.rank()["variables"]["FGVR_JUDGE_URL"] == f"http://{NODES[0]}:{25000 + job % 7000 + 1}/v1"


def test_a_given_port_is_used_or_refused(folder: Folder, cluster: SlurmCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        job = folder.submit(JUDGE_PORT=str(port))
        assert cluster.ended(job) == ("FAILED", 2)
        assert f"JUDGE_PORT must be free, but on {NODES[0]} something listens on {port}" in folder.log(job)
        assert not (folder.path / "judge.json").exists()
    job = folder.submit(JUDGE_PORT=str(port), sbatch=(":", "--ntasks-per-node=1"))
    assert cluster.ended(job) == ("COMPLETED", 0), folder.log(job)
    assert folder.rank()["variables"]["FGVR_JUDGE_URL"] == f"http://{NODES[0]}:{port}/v1"


def test_the_settings_of_a_site_are_read(folder: Folder, cluster: SlurmCluster) -> None:
    (folder.path / "slurm").mkdir()
    (folder.path / "slurm/env.sh").write_text('echo "$UNSET"\nexport FROM_ENV_SH=yes JUDGE_HOST=localhost\n')
    job = folder.submit(judge=f"SLURMD_NODENAME=127.0.0.1 {JUDGE}", sbatch=(":", "--ntasks-per-node=1"))
    assert cluster.ended(job) == ("COMPLETED", 0), folder.log(job)
    assert folder.rank()["variables"]["FROM_ENV_SH"] == "yes"
    assert folder.rank()["variables"]["FGVR_JUDGE_URL"].startswith("http://localhost:")


@pytest.mark.parametrize(
    ("line", "settings", "sentence"),
    [
        ([], {}, "A config must be given"),
        (["none.yaml"], {}, "CONFIG must be a file, but .* has no none.yaml"),
        (["config.yaml"], {"JUDGE_WAIT": "30m"}, "JUDGE_WAIT must be a whole number of seconds, got 30m"),
    ],
    ids=["no config", "no such file", "no number"],
)
def test_what_cannot_work_starts_no_server(
    folder: Folder, cluster: SlurmCluster, line: list[str], settings: dict[str, str], sentence: str
) -> None:
    job = cluster.submit(str(SCRIPT), *line, folder=folder.path, settings={"JUDGE_COMMAND": JUDGE, **settings})
    assert cluster.ended(job) == ("FAILED", 2)
    assert re.search(sentence, folder.log(job))
    assert not (folder.path / "judge.json").exists()


def test_a_job_of_one_component_is_refused(folder: Folder, cluster: SlurmCluster) -> None:
    lines = SCRIPT.read_text().splitlines(keepends=True)
    (folder.path / "edited.sbatch").write_text("".join(line for line in lines if line != "#SBATCH hetjob\n"))
    job = cluster.submit("edited.sbatch", "config.yaml", folder=folder.path)
    assert cluster.ended(job) == ("FAILED", 2)
    assert "must run as a job of two components" in folder.log(job)
