"""One GRPO step of fgvr against one of TRL 1.16, interleaved in one run, phase by phase, with the work counted.

Both sides start from the same weights and take the same prompts and pictures. Each lives in a process of its own and
waits while the other is measured. Run: pip install -e '.[bench]' && python benchmarks/grpo_step.py
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from json import dumps
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as fgvr.__main__ does: no side suffers from the other's idle threads

from grpo_turns import Setting, read_options, write_model
from rich.console import Console
from rich.table import Table

PHASES, WORK = ("generation", "update", "step"), ("vision_patches", "decoder_tokens", "head_rows")
WARM_UP = 2
Served = Callable[[str, Connection, Setting, Path, int], None]
NOTES = (
    "Same on both sides: weights, prompts, pictures, G, C (end tokens cannot be drawn), temperature 1, rewards, DAPO's "
    "loss and clip, AdamW, gradient clipping, float32, threads, torch's attention, no checkpointing, exact entropy.",
    "TRL sends only completions through its head, as on a GPU; as it is shipped it sends prompts too where there is no "
    "GPU: --shipped true shows that.",
    "TRL generates with transformers. On a GPU one would give it vLLM, which reads a prompt once: the ratio of "
    "generation does not carry over to that, the ratio of update does.",
    "fgvr's times include decoding and encoding the pictures, which in a run loader workers do; TRL's include its "
    "image processing, but not reading the data set. Neither side logs or saves, and the reward takes no time.",
)


class Side:
    """A process that takes a step when told to. Raises SystemExit when it has died; it has said why."""

    def __init__(self, name: str, setting: Setting, folder: Path, steps: int, served: Served) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=served, args=(name, theirs, setting, folder, steps), daemon=True)
        self.process.start()
        theirs.close()
        self.first = self._receive()

    def step(self) -> dict[str, float]:
        self.pipe.send(True)
        return self._receive()

    def _receive(self) -> dict[str, float]:
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"the side of {self.name} must answer but has ended: its error stands above") from None

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.pipe.send(False)
        self.process.join()


def serve(name: str, pipe: Connection, setting: Setting, folder: Path, steps: int) -> None:
    """What runs in a side's process; only there is the side's library imported."""
    if name == "fgvr":
        from fgvr_step import fgvr_side

        fgvr_side(pipe, setting, folder, steps)
    else:
        from trl_step import trl_side

        trl_side(pipe, setting, folder, steps, compact=name == "TRL")


@contextmanager
def sides(names: Sequence[str], setting: Setting, steps: int, served: Served = serve) -> Iterator[list[Side]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_model(setting, folder)
        started = []
        for name in names:
            started.append(Side(name, setting, folder, steps + 1, served))  # one more than is asked for
            stack.callback(started[-1].close)
        yield started


def measure(names: Sequence[str], setting: Setting, rounds: int) -> dict[str, Any]:
    """All figures of one setting: the sides take turns, step by step.

    `ratios` say how many times as long TRL takes, of medians; without TRL there are none.
    """
    with sides(names, setting, WARM_UP + rounds) as started:
        turns = [{side.name: side.step() for side in started} for _ in range(WARM_UP + rounds)]
        parameters = started[0].first["parameters"]
    for turn in turns:
        refuse_unequal(setting, turn)
    last, measured = turns[-1], turns[WARM_UP:]
    seconds = {name: {phase: [turn[name][phase] for turn in measured] for phase in PHASES} for name in names}
    prompt = int(last[names[0]]["prompt tokens"])
    counts = {name: {work: int(last[name][work]) for work in WORK} for name in names}
    result: dict[str, Any] = {
        "setting": asdict(setting),
        "parameters": parameters,
        "prompt_tokens": prompt,
        "seconds": seconds,
        "median": {name: {phase: statistics.median(seconds[name][phase]) for phase in PHASES} for name in names},
        "min": {name: {phase: min(seconds[name][phase]) for phase in PHASES} for name in names},
        "counts": {"unique": setting.unique(prompt), **counts},
    }
    if "TRL" in names:
        ours, theirs = result["median"]["fgvr"], result["median"]["TRL"]
        result["ratios"] = {phase: theirs[phase] / ours[phase] for phase in PHASES}
    return result


def refuse_unequal(setting: Setting, turn: Mapping[str, Mapping[str, float]]) -> None:
    """Raises SystemExit unless both sides had the same prompts and pictures and learned from every token."""
    for name, facts in turn.items():
        if facts["completion tokens"] != setting.B * setting.G * setting.C or facts["idle"]:
            raise SystemExit(
                f"{name} must learn from {setting.B * setting.G} completions of {setting.C} tokens, got "
                f"{facts['completion tokens']} tokens and {facts['idle']} completions of advantage 0"
            )
    if len({facts["inputs"] for facts in turn.values()}) > 1:
        raise SystemExit("the sides must be given the same token ids and pixel values, but theirs differ")


def slope(results: Sequence[Mapping[str, Any]], side: str, phase: str = "step") -> float:
    """Seconds that one more completion in every group takes: the least-squares line through the medians over G."""
    sizes = [result["setting"]["G"] for result in results]
    return statistics.linear_regression(sizes, [result["median"][side][phase] for result in results]).slope


def scaling(setting: Setting, groups: Sequence[int], rounds: int) -> dict[str, Any]:
    """The step for several group sizes, and what one more completion takes.

    What its own tokens take is seen where the picture is as small as can be, 28 x 28 px.
    """
    results = [measure(("fgvr", "TRL"), replace(setting, G=group), rounds) for group in groups]
    small = [measure(("fgvr",), replace(setting, G=group, px=28), rounds) for group in (min(groups), max(groups))]
    extra = {side: slope(results, side) for side in ("fgvr", "TRL")}
    shown = ("ratios", "median", "min", "counts")
    rows = [{"G": result["setting"]["G"]} | {key: result[key] for key in shown} for result in results]
    own = {"seconds": slope(small, "fgvr"), "prompt_tokens": small[0]["prompt_tokens"]}
    return {"groups": rows, "extra_completion_seconds": extra, "own_tokens": own}


def work_table(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    first = results[0]["setting"]
    title = f"a GRPO step: B={first['B']}, G={first['G']}, C={first['C']}, {first['px']} px"
    caption = "models: layers x hidden; seconds: median (least)"
    table = Table("", *names, "TRL / fgvr", "unique", title=title, caption=caption)
    table.columns[0].no_wrap = True
    for result in results:
        model, median, least, counts = (result[key] for key in ("setting", "median", "min", "counts"))
        table.add_section()
        weights = f"{result['parameters'] / 1e6:.1f} M weights"
        table.add_row(f"{model['layers']} x {model['hidden']}", weights)
        for phase, ratio in result["ratios"].items():
            times = [f"{median[name][phase]:.3f} ({least[name][phase]:.3f})" for name in names]
            table.add_row(f"{phase}, s", *times, f"{ratio:.2f}")
        for work in WORK:
            did = [f"{counts[name][work]:,}" for name in names]
            ratio = counts["TRL"][work] / counts["fgvr"][work]
            table.add_row(work.replace("_", " "), *did, f"{ratio:.2f}", f"{counts['unique'][work]:,}")
    return table


def scaling_table(found: Mapping[str, Any]) -> Table:
    table = Table("G", "fgvr, s", "TRL, s", "generation", "update", "step", title="TRL / fgvr as groups grow")
    for row in found["groups"]:
        times = [f"{row['median'][side]['step']:.3f}" for side in ("fgvr", "TRL")]
        table.add_row(str(row["G"]), *times, *(f"{row['ratios'][phase]:.2f}" for phase in PHASES))
    extra, own = found["extra_completion_seconds"], found["own_tokens"]
    table.caption = (
        f"One more completion takes fgvr {1e3 * extra['fgvr']:.1f} ms and TRL {1e3 * extra['TRL']:.1f} ms a step; its "
        f"own tokens, after a prompt of {own['prompt_tokens']}, take fgvr {1e3 * own['seconds']:.1f} ms."
    )
    return table


def machine() -> dict[str, Any]:
    packages = ("fgvr", "trl", "transformers", "torch", "lightning")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"processors": os.cpu_count(), "python": platform.python_version()} | versions


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def parse_groups(text: str) -> list[int]:
    """Group sizes out of "4,8,16,32". Raises SystemExit unless there are two at least, each above 1, or none."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 1 for word in words) or len(set(words)) == 1:
        raise SystemExit(f"groups must be two group sizes or more, each above 1, such as 4,8,16,32, got {text!r}")
    return [int(word) for word in words]


def run(
    setting: Setting,
    rounds: int = 5,
    sizes: bool = True,
    shipped: bool = False,
    groups: str = "4,8,16,32",
    json: Path | None = None,
) -> None:
    """Prints one table, and another of `groups`.

    Args:
        setting: the model and the step.
        rounds: the sides take turns this often, after two steps each that are not counted.
        sizes: measure a model of hidden 512 and 8 layers too.
        shipped: measure TRL as it is shipped for CPUs too.
        groups: group sizes to compare, such as 4,8,16,32; an empty string for none
        json: where to write the figures too.
    """
    group_sizes = parse_groups(groups)
    if importlib.util.find_spec("trl") is None:
        raise SystemExit("the other side is TRL, which is not installed: pip install -e '.[bench]'")
    console, before = Console(), _load()
    names = ["fgvr", "TRL", *(["TRL shipped"] if shipped else [])]
    settings = [setting, *([replace(setting, hidden=512, layers=8)] if sizes else [])]
    with console.status("fgvr and TRL take turns ..."):
        results = [measure(names, one, rounds) for one in settings]
        grown = scaling(setting, group_sizes, rounds) if group_sizes else {}
    console.print(work_table(results, names))
    if grown:
        console.print(scaling_table(grown))
    facts = machine() | {"threads": setting.threads, "load_before": before, "load_after": _load()}
    console.print(*NOTES, ", ".join(f"{name} {value}" for name, value in facts.items()), sep="\n", highlight=False)
    if json is not None:
        figures = {key: results[0][key] for key in ("ratios", "counts")}
        by_size = {f"{one['setting']['hidden']}x{one['setting']['layers']}": one for one in results}
        json.write_text(dumps(figures | {"sizes": by_size, "machine": facts} | grown, indent=1))


def read(args: list[str] | None = None) -> tuple[Setting, dict[str, Any]]:
    return read_options(run, __doc__, args)


if __name__ == "__main__":
    chosen, others = read()
    run(chosen, **others)
