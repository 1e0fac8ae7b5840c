"""A real browser without a window, which opens a page as a reader of it would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packages import can_install, install
from PIL import Image

CHROMIUM = {"chromium": "chromium"}
ITS_OWN = ("google.com", "googleapis.com", "gvt1.com")  # what Chromium asks whatever page is open


@dataclass(frozen=True)
class Opened:
    """A page as it was drawn and parsed, what its scripts complained of, and which addresses it asked for."""

    picture: Image.Image
    dom: str
    complaints: list[str]
    asked: list[str]


@cache
def chromium() -> str:
    """The path of Chromium, which is installed by apt where there is none; skips where that cannot be done."""
    if not can_install(CHROMIUM):
        pytest.skip("Chromium is not installed, and only root can install it with apt")
    install(CHROMIUM)
    return shutil.which("chromium") or pytest.skip("apt installed no chromium")


def opened(page: str, width: int = 1200, height: int = 1000, dark: bool = False) -> Opened:
    """The page in a window of so many pixels, in light or dark colours."""
    with tempfile.TemporaryDirectory(prefix="fgvr-browser-") as name:
        folder = Path(name)
        file, picture, network = folder / "page.html", folder / "page.png", folder / "network.json"
        file.write_text(page)
        line = [
            chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={network}", f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]  # fmt: skip
        shots = [_run([*line, wanted, file.as_uri()]) for wanted in (f"--screenshot={picture}", "--dump-dom")]
        with Image.open(picture) as drawn:
            drawn.load()
        said = "".join(shot.stderr for shot in shots)
        complaints = [entry for entry in said.splitlines() if "CONSOLE" in entry]
        return Opened(drawn.convert("RGB"), shots[1].stdout, complaints, _asked(network))


def _run(line: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(line, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def _asked(network: Path) -> list[str]:
    text = network.read_text()
    addresses = {json.loads(f'"{found}"') for found in re.findall(r'"url":"((?:[^"\\]|\\.)*)"', text)}
    hosts = {address: urlsplit(address).hostname or "" for address in addresses}
    return sorted(address for address, host in hosts.items() if host and not host.endswith(ITS_OWN))
