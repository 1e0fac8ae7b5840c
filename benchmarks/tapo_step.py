"""One TAPO step against one DAPO step with as many completions, interleaved in one run, with the tokens counted.

TAPO asks about two photos a group and reads its completions once more, behind the negative, forward alone. The model is
grpo_step.py's; each side lives in a process of its own and waits while the other is measured.
Run: python benchmarks/tapo_step.py
"""

from __future__ import annotations

import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from grpo_step import PHASES, WARM_UP, machine, sides
from grpo_turns import Setting, read_options

MOST = 1.15  # times the ratio of tokens that a step may take


def serve(name: str, pipe: Connection, setting: Setting, folder: Path, steps: int) -> None:
    from fgvr_step import fgvr_side

    fgvr_side(pipe, setting, folder, steps, triplets=name == "TAPO")


def tokens_of(prompts: int, setting: Setting, prompt: int, behind: bool, backward: int = 1) -> int:
    """Unique tokens of a group's step: read for sampling, read for the update, and behind the negative.

    A token of the update counts `backward` times, 3 for a forward pass and twice as much back.
    """
    written = setting.G * setting.C
    sampled, learned = prompts * prompt + written - setting.G, prompts * prompt + written
    return sampled + backward * learned + (prompt + written) * behind


def copies_of(setting: Setting, prompt: int) -> int:
    """The same for TAPO without sharing, where each completion comes with a prompt of its own wherever it is read."""
    return setting.G * (prompt + setting.C - 1) + 2 * setting.G * (prompt + setting.C)


def run(setting: Setting, rounds: int = 9) -> None:
    """Prints the seconds of each phase and how they compare.

    Args:
        setting: the model and the step.
        rounds: the sides take turns this often, after two steps each that are not counted.
    """
    names = ("DAPO", "TAPO")
    with sides(names, setting, WARM_UP + rounds, serve) as started:
        turns = [{side.name: side.step() for side in started} for _ in range(WARM_UP + rounds)][WARM_UP:]
    prompt = int(turns[-1]["DAPO"]["prompt tokens"])
    seconds = {name: {phase: statistics.median(t[name][phase] for t in turns) for phase in PHASES} for name in names}
    ratios = {phase: statistics.median(t["TAPO"][phase] / t["DAPO"][phase] for t in turns) for phase in PHASES}
    counted = {
        "unique tokens": tokens_of(2, setting, prompt, True) / tokens_of(1, setting, prompt, False),
        "unique tokens, an update's three times": (
            tokens_of(2, setting, prompt, True, 3) / tokens_of(1, setting, prompt, False, 3)
        ),
    }
    for name in names:
        print(name, ", ".join(f"{phase} {seconds[name][phase]:.3f} s" for phase in PHASES))
    print("TAPO / DAPO", ", ".join(f"{phase} {ratios[phase]:.2f}" for phase in PHASES))
    for name, ratio in counted.items():
        print(
            f"{name}: {ratio:.2f}; the step takes {ratios['step'] / ratio:.2f} times that (at most {MOST} is the aim)"
        )
    print(
        f"without sharing: {copies_of(setting, prompt) / tokens_of(1, setting, prompt, False):.1f} times DAPO's tokens"
    )
    print(", ".join(f"{name} {value}" for name, value in machine().items()), f"prompt {prompt} tokens, {setting}")


def read(args: list[str] | None = None) -> tuple[Setting, dict[str, Any]]:
    return read_options(run, __doc__, args)


if __name__ == "__main__":
    chosen, others = read()
    run(chosen, **others)
