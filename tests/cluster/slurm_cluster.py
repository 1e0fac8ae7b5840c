"""A real SLURM cluster of two nodes on this machine, with daemons, ports and a folder of its own.

`python tests/cluster/slurm_cluster.py` starts one to play with, until Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import copytree

from packages import install

SCRIPTS = Path(__file__).parents[2] / "slurm"
PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
NODES = ("127.0.0.1", "127.0.0.2")  # names that resolve everywhere, as Lightning and the judge's url want
GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")  # SLURM counts and hands out any device file
KILL_WAIT = 3  # seconds between SIGTERM and SIGKILL
CONFIG = """
ClusterName=fgvr
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_hetjob_immediate
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
KillWait={kill_wait}
GresTypes=gpu
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=64 RealMemory=4000 Gres=gpu:{gpus}
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 RealMemory=4000 Gres=gpu:{gpus}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PartitionName=test Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""


class SlurmCluster:
    """Two nodes of 64 CPUs and 4 GPUs each, none of which is real, whose jobs are processes of this machine.

    `folder` is where the daemons keep their state; its path must be short, for there is a socket in it.
    To be used with `with`: needs root, and apt where SLURM is missing; raises RuntimeError when it does not come up.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environment["SLURM_CONF"] = str(folder / "slurm.conf")
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SlurmCluster:
        try:
            install(PACKAGES)
            self._configure()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, *line: str) -> str:
        """What a command of SLURM prints; raises CalledProcessError with its message when it fails."""
        done = subprocess.run(line, env=self.environment, text=True, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, line, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, *line: str, folder: Path, settings: Mapping[str, str] | None = None) -> int:
        """The id of the job that `sbatch LINE` makes in `folder`, with `settings` as further variables of the shell.

        The folder gets what of slurm/ it lacks.
        """
        copytree(SCRIPTS, folder / "slurm", dirs_exist_ok=True, copy_function=_unless_there)
        environment = {**self.environment, **(settings or {})}
        done = subprocess.run(
            ["sbatch", "--parsable", *line], env=environment, cwd=folder, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def state(self, job: int) -> tuple[str, int, int]:
        """Of a job's first component: its state, its exit code and the signal that ended it."""
        facts = self._facts(job)
        code, number = facts["ExitCode"].split(":")
        return facts["JobState"], int(code), int(number)

    def restarts(self, job: int) -> int:
        """How often a job was queued again."""
        return int(self._facts(job)["Restarts"])

    def look_again(self) -> None:
        """Has jobs of two components looked at: they wait for a change anywhere, which a cluster at rest lacks."""
        self.run("scontrol", "update", "PartitionName=urgent", "DefaultTime=5")

    def _facts(self, job: int) -> dict[str, str]:
        entries = self.run("scontrol", "show", "job", "-o", str(job)).splitlines()[0].split()
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def ended(self, job: int, within: float = 120) -> tuple[str, int]:
        """State and exit code of a job once all of its components have ended and their processes are gone."""
        wait_until(lambda: not self.run("squeue", "-h", "-o", "%A %T"), within, f"the end of job {job}")
        state, code, _ = self.state(job)
        return state, code

    def cancel_all(self) -> None:
        """Ends what a test that has failed has left."""
        with suppress(subprocess.SubprocessError, RuntimeError):
            self.run("scancel", "--user=root")
            wait_until(lambda: not self.run("squeue", "-h"), KILL_WAIT + 10, "the end of all jobs")

    def processes(self, job: int) -> dict[int, str]:
        """Command lines by pid of what a job has started and still runs."""
        mine = {f"SLURM_CONF={self.environment['SLURM_CONF']}", f"SLURM_JOB_ID={job}"}
        return {pid: command_line(pid) for pid in pids() if mine <= set(variables(pid))}

    def leftovers(self, job: int) -> dict[int, str]:
        """Processes of an ended job that outlive it by over two seconds: a shell's last `sleep 1` may end by itself."""
        deadline = time.monotonic() + 2
        while (left := self.processes(job)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _configure(self) -> None:
        (self.folder / "state").mkdir(mode=0o700)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        (self.folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={','.join(GPUS)}\n")
        settings = {"folder": self.folder, "host": socket.gethostname(), "ports": free_ports(1 + len(NODES))}
        settings |= {"nodes": NODES, "gpus": len(GPUS), "kill_wait": KILL_WAIT}
        settings["first_job"] = 1 + os.getpid() * 97 % 6000  # of which ports are made, and another cluster may be up
        (self.folder / "slurm.conf").write_text(CONFIG.format(**settings))

    def _start(self) -> None:
        kept = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={kept}.{ending}" for option, ending in files.items()]
        self._launch("munged", "--foreground", "--force", *options)
        wait_until((self.folder / "munge.socket").exists, 30, "munged")
        self._launch("slurmctld", "-D")
        for node in NODES:
            self._launch("slurmd", "-D", "-N", node)
        wait_until(self._all_idle, 90, f"two idle nodes; see {self.folder}/*.out")

    def _launch(self, *line: str) -> None:
        # killed with this process, should it be killed
        line = ("setpriv", "--pdeathsig", "KILL", *line)
        with (self.folder / f"{len(self.daemons)}-{line[3]}.out").open("wb") as said:
            self.daemons.append(
                subprocess.Popen(
                    line,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            )

    def _all_idle(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            return self.run("sinfo", "-h", "-N", "-p", "test", "-o", "%T").split() == ["idle"] * len(NODES)
        return False

    def _stop(self) -> None:
        if self.daemons:
            self.cancel_all()  # and what is not cancelled is killed below
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        left = f"SLURM_CONF={self.environment['SLURM_CONF']}"
        for pid in pids():
            if pid != os.getpid() and left in variables(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _unless_there(source: str, target: str) -> str:
    return target if Path(target).exists() else shutil.copy2(source, target)


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def wait_until(done: Callable[[], object], within: float, what: str) -> None:
    """Raises RuntimeError when `done()` is not true within so many seconds."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Waited {within} s in vain for {what}.")
        time.sleep(0.05)


def pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def variables(pid: int) -> Sequence[str]:
    """A process's environment as it was started with; none of one that has ended, reaped or not."""
    return _of_process(pid, "environ")


def command_line(pid: int) -> str:
    return " ".join(_of_process(pid, "cmdline"))


def _of_process(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, SlurmCluster(Path(folder)) as cluster:
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
