"""K replies to a photo by one reading of its prompt, against K calls of one reply each; the two take turns.

Every reply is full: end tokens cannot be written. Run: python benchmarks/mining.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from json import dumps
from pathlib import Path

from grpo_turns import Setting, endless_policy, prompts_about, quiet
from jsonargparse import auto_cli

from fgvr.models.sampling import Sampling
from fgvr.rollouts import InProcess


def main(
    photos: int = 2,
    k: int = 20,
    tokens: int = 48,
    px: int = 336,
    hidden: int = 128,
    layers: int = 3,
    rounds: int = 3,
    threads: int = 2,
    json: Path | None = None,
) -> None:
    """Prints median seconds of both, and the share of the calls' time that mining takes.

    Args:
        photos: that are asked about.
        k: replies to each.
        tokens: of each reply.
        px: side of the photos, a multiple of 28.
        hidden: width of the language model and of the vision tower, the quickstart's as it stands.
        layers: of each.
        rounds: the sides take turns this often.
        threads: of torch.
        json: where to write the figures too.
    """
    tower = {"vision_hidden": hidden, "vision_layers": layers}
    setting = Setting(px=px, C=tokens, threads=threads, hidden=hidden, layers=layers, vocab=1024, **tower)
    quiet(setting)
    policy, sampling, engine = endless_policy(setting), Sampling(k, 1.0, tokens), InProcess()
    batch = prompts_about(policy, range(photos), px)
    seconds: dict[str, list[float]] = {"mined": [], "calls": []}
    for _ in range(rounds + 1):  # the first is not counted
        began = time.perf_counter()
        engine.sample(policy, batch, sampling, list(range(photos)))
        seconds["mined"].append(time.perf_counter() - began)
        began = time.perf_counter()
        for turn in range(k):
            engine.sample(policy, batch, replace(sampling, group_size=1), [turn * photos + n for n in range(photos)])
        seconds["calls"].append(time.perf_counter() - began)
    mined, calls = (statistics.median(seconds[side][1:]) for side in ("mined", "calls"))
    print(f"{photos} photos of {px} px, K={k}: {mined:.3f} s mined, {calls:.3f} s in {k} calls: {mined / calls:.3f}")
    if json is not None:
        json.write_text(dumps({"photos": photos, "k": k, "px": px, "mined": mined, "calls": calls}, indent=1))


if __name__ == "__main__":
    auto_cli(main)
