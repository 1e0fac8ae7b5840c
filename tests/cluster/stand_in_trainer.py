"""What stands in for `python -m fgvr` in the job's folder: asks the judge one question, says what it found, then ends.

Each rank leaves rank-N.json with its command line, process id, variables (but no key) and the judge's answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN = ("SLURM", "CUDA_", "MASTER_", "RANK", "FGVR_JUDGE_URL", "FROM_ENV_SH")


def verdict(url: str, key: str) -> str:
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps({"messages": [{"role": "user", "content": f"rank {os.environ['SLURM_PROCID']}"}]}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def lightning_world(devices: int, nodes: int) -> dict[str, Any]:
    """Where Lightning believes to be; it raises ValueError unless devices and nodes are those of the job."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    world = SLURMEnvironment()
    assert SLURMEnvironment.detect()
    world.validate_settings(devices, nodes)
    return {
        "size": world.world_size(),
        "rank": world.global_rank(),
        "local rank": world.local_rank(),
        "address": world.main_address,
        "port": world.main_port,
    }


def note(line: str) -> Callable[..., None]:
    def write(*_: object) -> None:
        with Path("notes.txt").open("a") as file:
            file.write(line + "\n")

    return write


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("--config")
    parser.add_argument("--run.restarts")
    parser.add_argument("--trainer.devices", type=int, dest="devices")
    parser.add_argument("--trainer.num_nodes", type=int, dest="nodes")
    parser.add_argument("--code", type=int, default=0, help="to end with")
    parser.add_argument("--of-rank", type=int, help="the one rank that ends; the others go on, and ignore SIGTERM")
    parser.add_argument("--wait", action="store_true", help="until there is a file called go, or a SIGTERM")
    parser.add_argument("--lightning", action="store_true", help="note where Lightning believes to be")
    options = parser.parse_args()
    rank = os.environ["SLURM_PROCID"]
    signal.signal(signal.SIGUSR2, note(f"{rank} USR2"))
    found: dict[str, Any] = {"argv": sys.argv[1:], "pid": os.getpid()}
    found["variables"] = {name: value for name, value in os.environ.items() if name.startswith(SHOWN)}
    found["verdict"] = verdict(os.environ["FGVR_JUDGE_URL"], os.environ["FGVR_JUDGE_KEY"])
    if options.lightning:
        found["world"] = lightning_world(options.devices, options.nodes)
    Path(f"rank-{rank}.part").write_text(json.dumps(found))
    Path(f"rank-{rank}.part").rename(f"rank-{rank}.json")
    if options.of_rank is not None and int(rank) != options.of_rank:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
    if options.wait:
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), note(f"{rank} TERM")(), sys.exit(143)))
        while not Path("go").exists():
            time.sleep(0.05)
    return options.code


if __name__ == "__main__":
    sys.exit(main())
