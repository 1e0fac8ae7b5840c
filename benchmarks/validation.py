"""Greedy answers to photos: the decoder against transformers' `generate`, in turns, on the same prompts and weights.

Every answer is full: end tokens cannot be written. Run: python benchmarks/validation.py
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from json import dumps
from pathlib import Path

from grpo_turns import TASK, Endless, Setting, example, quiet, write_model
from jsonargparse import auto_cli

from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.models import Policy, PolicyConfig
from fgvr.types import PromptBatch, ReadRecord


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


def batches(setting: Setting, policy: Policy, photos: int, at_a_time: int) -> list[PromptBatch]:
    processor = policy.processor
    encode, collate = PromptEncode(processor, TASK), PromptCollate(processor.padding_token, processor.image_token)
    found: list[PromptBatch] = []
    for start in range(0, photos, at_a_time):
        places = tuple(range(start, min(photos, start + at_a_time)))
        items = [encode(example(place, setting.px), random.Random(place)) for place in places]
        found.append(collate(items, ReadRecord(0, len(found), places, tuple(map(str, places)))))
    return found


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
    """Prints seconds for all photos, medians, and their ratio.

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
    with tempfile.TemporaryDirectory() as folder:
        write_model(setting, Path(folder))
        backbone = Endless(folder)
        policy = Policy(PolicyConfig(backbone, setting.pixels), backbone.processor(setting.pixels)).eval()
    asked = batches(setting, policy, photos, at_a_time)
    seconds: dict[str, list[float]] = {"decoder": [], "generate": []}
    for _ in range(rounds):
        answers = {}
        for name, answer in (("decoder", decoded), ("generate", generated)):
            began = time.perf_counter()
            answers[name] = [ids for batch in asked for ids in answer(policy, batch, tokens)]
            seconds[name].append(time.perf_counter() - began)
        if answers["decoder"] != answers["generate"]:
            raise SystemExit("both sides must give the same answers, but theirs differ")
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = median["generate"] / median["decoder"]
    print(f"{photos} photos: decoder {median['decoder']:.2f} s, generate {median['generate']:.2f} s, {ratio:.2f} x")
    if json is not None:
        json.write_text(dumps({"photos": photos, "seconds": seconds, "median": median, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    auto_cli(main)
