"""Greedy answers to photos: the decoder against transformers' `generate`, in turns, on the same prompts and weights.

Every answer is full: end tokens cannot be written. What passes before the first token, reading photos and prompts, is
the same work on both sides, and is shown for itself. Run: python benchmarks/validation.py
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from grpo_turns import Setting, endless_policy, prompts_about, quiet
from jsonargparse import auto_cli

from fgvr.models import Policy
from fgvr.types import PromptBatch


def decoded(policy: Policy, batch: PromptBatch, tokens: int) -> list[list[int]]:
    return policy.generate(batch, tokens)


def generated(policy: Policy, batch: PromptBatch, tokens: int) -> list[list[int]]:
    """As transformers does it, under the policy's own generation config."""
    ids = policy.base.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=batch.image_tokens,
        pixel_values=policy.processor.pixel_values(batch.images),
        image_grid_thw=batch.images.grid_thw,
        max_new_tokens=tokens,
    )
    return ids[:, batch.input_ids.shape[1] :].tolist()


SIDES = {"decoder": decoded, "generate": generated}


def main(
    photos: int = 200,
    at_a_time: int = 40,
    tokens: int = 64,
    px: int = 84,
    hidden: int = 128,
    layers: int = 3,
    rounds: int = 3,
    threads: int = 2,
    json: Path | None = None,
) -> None:
    """Prints seconds for all photos, medians, and how many times as long `generate` takes.

    Args:
        photos: to be answered.
        at_a_time: photos of a batch.
        tokens: of each answer.
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
    policy = endless_policy(setting)
    starts = range(0, photos, at_a_time)
    asked = [prompts_about(policy, range(start, min(photos, start + at_a_time)), px) for start in starts]
    found = measure(policy, asked, tokens, rounds)
    first, whole, ratio = found["to first token"], found["whole"], found["ratio"]
    for name in SIDES:
        print(f"{photos} photos, {name}: {whole[name]:.3f} s, of which to the first token {first[name]:.3f} s")
    print(f"{ratio['whole']:.2f} x in all, {ratio['after first token']:.2f} x after the first token")
    if json is not None:
        json.write_text(dumps({"photos": photos} | found, indent=1))


def measure(policy: Policy, asked: Sequence[PromptBatch], tokens: int, rounds: int) -> dict[str, Any]:
    """Medians of seconds for answers of one token and of all, the sides in turns, and what is left between them."""
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds + 1):  # the first is not counted
        for count in (1, tokens):
            answers = {}
            for name, answer in SIDES.items():
                began = time.perf_counter()
                answers[name] = [ids for batch in asked for ids in answer(policy, batch, count)]
                seconds[name, count].append(time.perf_counter() - began)
            if answers["decoder"] != answers["generate"]:
                raise SystemExit("both sides must give the same answers, but theirs differ")
    first, whole = ({name: statistics.median(seconds[name, count][1:]) for name in SIDES} for count in (1, tokens))
    after = {name: whole[name] - first[name] for name in SIDES}
    ratio = {"whole": whole["generate"] / whole["decoder"], "after first token": after["generate"] / after["decoder"]}
    return {"to first token": first, "whole": whole, "ratio": ratio}


if __name__ == "__main__":
    auto_cli(main)
