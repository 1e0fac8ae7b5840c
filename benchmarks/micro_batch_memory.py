"""Peak memory of an update whose groups are uneven, against that of even groups which fill `micro_batch_tokens`.

Each figure is of a process of its own: the largest resident size while log-probs and their gradients are computed,
micro-batch after micro-batch, less what was resident before. "by their sum" cuts micro-batches without asking what
padding adds, as a bound on the sum of tokens would. Run: python benchmarks/micro_batch_memory.py
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

import torch
from head_memory import resident
from rich.console import Console
from rich.table import Table

from fgvr.models import PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.ranks import Ranks
from fgvr.rollouts.updates import UpdatePlan, updates_of
from fgvr.types import Completion, EncodedPrompt, Example, ImageFeatures, ImageInputs, RolloutGroup, ScoredGroup

BUDGET, PROMPT, SIZE = 2048, 80, 8  # tokens of a micro-batch, tokens of a prompt, completions of a group
WIDTH, LAYERS = 512, 4
WORDS = (20, 250)  # ids that are no special tokens
SHORT = [[8] * SIZE] * 8
GROUPS: dict[str, list[list[int]]] = {  # lengths of completions, group by group
    "even, filling the budget": [[22] * SIZE] * 8,
    "8 short, one rambling": [[118] * SIZE, *SHORT],
    "8 short, one rambling completion": [[8] * (SIZE - 1) + [888], *SHORT],
    "every group with one long completion": [[8] * (SIZE - 1) + [200]] * 9,
}


def policy() -> Policy:
    backbone = TinyQwen(["."], hidden=WIDTH, layers=LAYERS, heads=8, tokens=1)
    return Policy(PolicyConfig(backbone, freeze=("vision", "projector")), backbone.processor(PixelBudget()))


def group(place: int, lengths: Sequence[int]) -> ScoredGroup:
    """Random words after a prompt of random words, each completion with an advantage."""
    prompt = EncodedPrompt(
        torch.randint(*WORDS, (PROMPT,)),
        torch.arange(PROMPT).expand(3, -1),
        ImageInputs(torch.zeros(0, 0, dtype=torch.uint8), torch.zeros(0, 3, dtype=torch.long)),
    )
    completions = [Completion(torch.randint(*WORDS, (n,)), torch.zeros(n), False, "") for n in lengths]
    example = Example(f"u{place}", (), "", (), "train", "seen", "")
    rollout = RolloutGroup(example, place, prompt, completions, ImageFeatures(torch.zeros(0, WIDTH), None))
    ones = torch.ones(len(lengths))
    return ScoredGroup(rollout, [None] * len(lengths), {}, ones, ones)


def measure(name: str, by_sum: bool) -> tuple[float, int, int]:
    """MiB at the peak beyond weights and gradients, micro-batches, and tokens computed of the largest of these."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    trained, groups = policy(), [((0, n), group(n, lengths)) for n, lengths in enumerate(GROUPS[name])]
    plan = UpdatePlan(micro_batch_tokens=BUDGET)
    (warm_up,) = updates_of([((0, 0), group(0, [4] * SIZE))], plan, Ranks(), 0)
    learn(trained, warm_up.micro_batches[0].rows)  # leaves the gradients allocated
    (update,) = updates_of(groups, plan, Ranks(), 0, padded=not by_sum)
    before = resident()
    for micro_batch in update.micro_batches:
        learn(trained, micro_batch.rows)
    largest = max(entry.rows.segments.numel() for entry in update.micro_batches)
    return resident() - before, len(update.micro_batches), largest


def learn(trained: Policy, rows) -> None:
    trained.completion_logprobs(rows)[0].sum().backward()


def main() -> None:
    table = Table(
        "groups",
        "cut",
        "micro-batches",
        "tokens at most",
        "peak MiB",
        "against even groups",
        title=f"micro_batch_tokens {BUDGET:,}, {SIZE} completions a prompt of {PROMPT} tokens, split attention",
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        even = 0.0
        for name in GROUPS:
            for by_sum in (False, True) if "one rambling" in name else (False,):
                peak, count, tokens = pool.apply(measure, (name, by_sum))
                even = even or peak
                how = "by their sum" if by_sum else "by what is computed"
                table.add_row(name, how, f"{count}", f"{tokens:,}", f"{peak:.0f}", f"{peak / even:.2f} x")
    Console().print(table)


if __name__ == "__main__":
    main()
