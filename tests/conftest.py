"""Fixtures that many tests share: a tiny policy on names of its own, made in memory."""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Sequence

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as fgvr.__main__ does, before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the runs that tests start, of which two are under way at a time

import pytest
import torch
from hypothesis import settings
from PIL import Image
from tensorboard.summary.writer import event_file_writer

from fgvr.data.collate import PromptCollate, Sequenced
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.types import EncodedPrompt, Example, PromptBatch, ReadRecord

MEMORY, ROOM = "/dev/shm", 4 << 30
may_run = os.access(MEMORY, os.W_OK) and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
if may_run and shutil.disk_usage(MEMORY).free > ROOM:
    # checkpoints and shards wait for the disk at every file, on a common one as long as the tests compute
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

# a busy machine is no failure; pytest-timeout ends what hangs
settings.register_profile("fgvr", deadline=None, max_examples=50)
settings.load_profile("fgvr")

NAMES = ("Azure Finch", "Amber Finch", "Crimson-browed Heron", "Jade Owl")
QUESTION = "What is shown in this photo?"
LONG = {"test_readme.py", "test_main.py", "test_cli.py", "test_export.py", "test_model_card.py", "test_grpo.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: else one process is left with them at the end while the other has nothing to do."""
    items.sort(key=lambda item: item.path.parent.name != "integration" and item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def _learned_once(tmp_path_factory: pytest.TempPathFactory):
    """See `rl_run.learn_sft`; the processes of a session share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["FGVR_TESTS_LEARNED"] = str(shared / "learned")


@pytest.fixture(autouse=True)
def _two_threads():
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _first_event_files(monkeypatch: pytest.MonkeyPatch):
    """Files begun in one second are read in the order of their numbers as text, where the tenth precedes the ninth."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def tiny_backbone(family: str = "qwen2_5_vl", **options) -> TinyQwen:
    sizes = {"hidden": 64, "layers": 2, "heads": 2, "vision_hidden": 32, "vision_layers": 2, "tokens": 400} | options
    return TinyQwen([f"<answer>{name}</answer>" for name in NAMES], family, phrases=[QUESTION], **sizes)  # pyright: ignore[reportArgumentType]


def tiny_policy(family: str = "qwen2_5_vl", lora: LoRA | None = None, **options) -> Policy:
    backbone = tiny_backbone(family)
    config = PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84), lora=lora, **options)
    return Policy(config, backbone.processor(config.pixels))


def photo(width: int = 84, height: int = 84, seed: int = 0) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def prompt(policy: Policy, images: int = 1, seed: int = 0, width: int = 84) -> EncodedPrompt:
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": QUESTION}]
    pictures = [photo(width, 84, seed + i) for i in range(images)]
    return policy.processor.encode_prompt([{"role": "user", "content": content}], pictures)


def sequenced(policy: Policy, target: str, **prompt_options) -> Sequenced:
    start, ids = prompt(policy, **prompt_options), policy.processor.encode_target(target)
    length, after = len(start.input_ids) + len(ids), int(start.positions.max()) + 1
    spatial = torch.cat([start.positions, torch.arange(after, after + len(ids)).expand(3, -1)], dim=1)
    positions = torch.cat([torch.arange(length)[None], spatial])
    return Sequenced(torch.cat([start.input_ids, torch.tensor(ids)]), positions, len(ids), start.images)


def prompt_batch(policy: Policy, shapes: Sequence[tuple[int, int]] = ((1, 84), (2, 112), (1, 140))) -> PromptBatch:
    """Prompts of given (images, width in pixels), every label the first of NAMES."""
    items = [
        (example(f"u{i}"), prompt(policy, images=images, seed=i, width=width))
        for i, (images, width) in enumerate(shapes)
    ]
    places = tuple(range(len(items)))
    record = ReadRecord(0, 0, places, tuple(item.uid for item, _ in items))
    return PromptCollate(policy.processor.padding_token, policy.processor.image_token)(items, record)


def example(uid: str, label: str = NAMES[0]) -> Example:
    data = io.BytesIO()
    photo().save(data, "PNG")
    return Example(uid, (data.getvalue(),), label, ("Finch", label), "train", "seen", "birds")
