"""How near a judge comes to the least time its server allows: a step's pairs, of which most are repeats.

The server stands in a process of its own and answers each request after a fixed time, so that no run can be faster than
ceil(different pairs / concurrency) times that. The judge does besides what it does in training: it screens, looks into
its cache, sends canaries, reads replies strictly and stores them. Run: python benchmarks/judge_throughput.py
"""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.canaries import THINGS
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.server import Server
from fgvr.taxonomy.tree import Taxonomy

SERVER = Path(__file__).with_name("quick_server.py")
CLASSES = 200


@contextmanager
def serving(delay: float) -> Iterator[str]:
    """The url of a server that answers after `delay` seconds."""
    command = [sys.executable, str(SERVER), str(delay), json.dumps(THINGS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def birds(number: int, seed: int) -> list[str]:
    """Different made-up names of birds."""
    draw, found = random.Random(seed), dict[str, None]()
    while len(found) < number:
        first = "".join(draw.choice("bdfgklmprtv") + draw.choice("aeiou") for _ in range(3)).title()
        found[f"{first} {draw.choice(('Finch', 'Wren', 'Owl', 'Heron', 'Warbler'))}"] = None
    return list(found)


def drawn(pairs: int, repeats: float) -> tuple[Taxonomy, list[tuple[str, str]], int]:
    """A taxonomy, shuffled pairs of a class and an answer of which this share are repeats, and how many differ."""
    classes = birds(CLASSES, 0)
    different = round(pairs * (1 - repeats))
    taxonomy = Taxonomy({name: (name.split()[1], name) for name in classes}, root="bird")
    answers = [name for name in birds(different + CLASSES, 1) if name not in taxonomy.paths]
    draw = random.Random(2)
    some = [(draw.choice(classes), answer) for answer in answers[:different]]
    every = some + [draw.choice(some) for _ in range(pairs - different)]
    draw.shuffle(every)
    return taxonomy, every, different


def measure(url: str, cache: Path, asked: tuple[Taxonomy, list[tuple[str, str]], int], concurrency: int) -> list[float]:
    """Seconds for the pairs when all are new, and when all are in the cache."""
    taxonomy, pairs, different = asked
    judge = LLMJudge("judge", Server(url=url, concurrency=concurrency), cache=SQLiteCache(cache)).bind(taxonomy)
    judge.check()
    judge.tally()
    seconds = []
    gc.collect()  # or the heap that torch brings is swept at a time of its own choosing
    for _ in range(2):
        start = time.perf_counter()
        judge.verdicts(pairs)
        seconds.append(time.perf_counter() - start)
    counts = judge.tally()
    judge.release()
    done = (counts["judge/requests"] - counts["judge/canaries"], counts["judge/cached"], counts["judge/unjudged"])
    assert done == (different, different, 0), f"the judge did not do what was to be measured: {counts}"
    return seconds


def main(
    pairs: int = 2560,
    repeats: float = 0.6,
    delay: float = 0.05,
    concurrency: int = 64,
    rounds: int = 5,
    json_file: Path | None = None,
) -> None:
    """Prints one table.

    Args:
        pairs: of one call.
        repeats: share of them that stood in the call before.
        delay: seconds after which the server answers.
        concurrency: requests that may be open at once.
        rounds: calls with an empty cache; medians are shown.
        json_file: where to write the figures too.
    """
    asked = drawn(pairs, repeats)
    ideal = math.ceil(asked[2] / concurrency) * delay
    with tempfile.TemporaryDirectory() as folder, serving(delay) as url:
        both = [measure(url, Path(folder) / f"{n}.sqlite", asked, concurrency) for n in range(rounds)]
    first, second = (statistics.median(column) for column in zip(*both, strict=True))
    result = {
        "pairs": pairs,
        "different": asked[2],
        "ideal": ideal,
        "seconds": [row[0] for row in both],
        "median": first,
        "ratio": first / ideal,
        "best_ratio": min(row[0] for row in both) / ideal,
        "cached": second,
    }
    table = Table(
        "pairs", "different", "ideal, s", "measured, s", "ratio", "best", "from the cache, s", title="judging"
    )
    table.add_row(
        str(pairs), str(asked[2]), f"{ideal:.2f}", f"{first:.2f}", f"{result['ratio']:.2f}",
        f"{result['best_ratio']:.2f}", f"{second:.2f}",
    )  # fmt: skip
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
