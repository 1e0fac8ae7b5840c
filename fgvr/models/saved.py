"""A trained policy on its way to disk: what a checkpoint says of it, and the folder that plain transformers opens."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, GenerationConfig

from fgvr.errors import UserError
from fgvr.models.backbone import PIXELS
from fgvr.models.bars import bars_on_terminals_alone
from fgvr.models.hub_layout import finish_layout
from fgvr.models.modules_to_save import save_adapter
from fgvr.models.policy import Policy
from fgvr.models.processor import Processor
from fgvr.models.trained import KIND
from fgvr.types import EncodedPrompt

COMPARED = 64  # tokens of an answer whose logits are compared
FORMER_LIMIT = 512  # what exports said of checkpoints that did not say it themselves


def policy_card(policy: Policy, max_new_tokens: int) -> dict[str, Any]:
    """Architecture, processor files, adapters and origin as plain values: enough to rebuild the policy anywhere.

    `max_new_tokens` is where the run cuts off the answers that it evaluates.
    """
    config = policy.config
    with tempfile.TemporaryDirectory() as folder:
        policy.processor.save(Path(folder))
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir())}
    return {
        "config": json.dumps(policy.base.config.to_dict(), default=str, sort_keys=True),
        "processor": files,
        "pixels": asdict(policy.processor.pixels),
        "lora": None if config.lora is None else config.lora.plain(),
        "attention": config.attention,
        "max_new_tokens": max_new_tokens,
        "trained": [name for name, _ in policy.trainable()],
        "whole": all(parameter.requires_grad for parameter in policy.parameters()),
        "reloadable": config.backbone.reloadable,
        "origin": config.backbone.origin(),
    }


def card_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What two policy cards disagree on that would make one's weights nonsense under the other: (then, now) each."""

    def essence(card: Mapping[str, Any]) -> dict[str, str]:
        words, template = (
            hashlib.sha256(card["processor"].get(file, "").encode()).hexdigest()[:12]
            for file in ("tokenizer.json", "chat_template.jinja")
        )
        pixels = f"{card['pixels']['min']} to {card['pixels']['max']}"
        base = card["origin"].get("digest", "")[:12]
        return {"tokenizer": words, "chat template": template, "pixels": pixels, "base weights": base}

    old, new = essence(then), essence(now)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def tokens_evaluated(card: Mapping[str, Any]) -> int:
    """Where the run of a policy card cuts off the answers that it evaluates; earlier versions do not say."""
    return card.get("max_new_tokens", FORMER_LIMIT)


def write_hf_folder(
    policy: Policy, folder: Path, adapter: Literal["merge", "keep"], dtype: torch.dtype, max_new_tokens: int
) -> None:
    """Weights, configuration, tokenizer, chat template, image processor and generation defaults in the Hub's layout.

    "merge" folds adapters into the weights; "keep" writes only what is trained, for use on its base. What is written is
    rounded to `dtype`; answers are cut off at `max_new_tokens` by default. The policy must not be used afterwards: it
    has been merged and rounded too.
    """
    family, origin = policy.base.config.model_type, policy.config.backbone.origin()
    if adapter == "keep":
        if policy.config.lora is None or not policy.config.backbone.reloadable or origin.get("kind") == KIND:
            raise UserError(
                "only the adapter of a pretrained model can be kept apart: this run has none; export with "
                "--adapter merge"
            )
        peft_config = policy.model.peft_config["default"]
        peft_config.base_model_name_or_path, peft_config.revision = origin["path"], origin["revision"] or None
        for _, parameter in policy.trainable():
            parameter.data = parameter.data.to(dtype)
        with bars_on_terminals_alone(), disk_is_named(folder):
            save_adapter(policy, folder)
    else:
        model = policy.model.merge_and_unload() if policy.config.lora is not None else policy.model
        model = model.to(dtype)
        model.config.dtype = dtype
        setattr(model.config, PIXELS, asdict(policy.processor.pixels))
        model.generation_config = policy.processor.generation_config(max_new_tokens)
        with bars_on_terminals_alone(), disk_is_named(folder):
            model.save_pretrained(str(folder))
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json" if adapter == "merge" else folder / "adapter_config.json").stat().st_mode)
    policy.processor.save(folder, max_new_tokens)
    finish_layout(folder, family, Path(origin["path"] or "nowhere"))


@contextmanager
def disk_is_named(folder: Path) -> Iterator[None]:
    """Has what safetensors says of a disk, that it is full say, be the OSError that it comes of."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(folder)) from error


Question = tuple[list[dict[str, Any]], list[Image.Image]]  # a chat and its photos


@dataclass(frozen=True)
class Agreement:
    """How a reopened folder compares with the run's model on some questions.

    `reopened` is the largest logit difference between the folder as transformers opens it and the weights as they were
    written; `written` the one between those and the run's model as it was trained, before adapters were merged and
    weights rounded. `same_answers` counts greedy answers of the folder that are the run's own, to their last token.
    """

    reopened: float
    written: float
    same_answers: int
    samples: int


def compare(
    run: Policy,
    folder: Path,
    adapter: Literal["merge", "keep"],
    dtype: torch.dtype,
    questions: Sequence[Question],
    max_new_tokens: int,
) -> Agreement:
    """Asks the run's model and the folder the same questions, in float32; logits over prompt and the answer's begin.

    The run's answers are cut off at `max_new_tokens`. The folder is asked through its own tokenizer, image processor,
    pixel budget and generation config. `run` is merged on the way.
    """
    trained = [_own_answer(run, question, max_new_tokens) for question in questions]
    if adapter == "keep":
        _round([parameter for _, parameter in run.trainable()], dtype)
    written = run.model.merge_and_unload() if run.config.lora is not None else run.model
    if adapter == "merge":
        _round(written.parameters(), dtype)  # not the buffers: rotary frequencies stay exact
    processor, reopened = Processor.from_folder(folder, None), _reopen(run, folder, adapter).eval()
    differs = {"reopened": 0.0, "written": 0.0}
    same = 0
    for question, (ids, logits) in zip(questions, trained, strict=True):
        own = _logits(written, run.processor, question, ids)
        theirs = _logits(reopened, processor, question, ids)
        differs["reopened"] = max(differs["reopened"], float((theirs - own).abs().max()))
        differs["written"] = max(differs["written"], float((own - logits).abs().max()))
        same += ids == _strangers_answer(reopened, processor, question)
    return Agreement(**differs, same_answers=same, samples=len(questions))


def folder_replies(folder: Path, questions: Sequence[Question]) -> list[str]:
    """What a merged folder answers, greedily and through its own files, as text."""
    processor = Processor.from_folder(folder, None)
    model = AutoModelForImageTextToText.from_pretrained(str(folder), dtype=torch.float32).eval()
    return [processor.decode(_strangers_answer(model, processor, question)) for question in questions]


def _round(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype).float()


def _reopen(run: Policy, folder: Path, adapter: Literal["merge", "keep"]) -> Any:
    if adapter == "merge":
        with bars_on_terminals_alone():
            return AutoModelForImageTextToText.from_pretrained(str(folder), dtype=torch.float32)
    base = run.config.backbone.build("sdpa")
    model = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()  # pyright: ignore[reportCallIssue]
    model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model


def _own_answer(run: Policy, question: Question, tokens: int) -> tuple[list[int], Tensor]:
    """The run's greedy ids, and its logits."""
    (answer,) = run.answers([run.processor.encode_prompt(*question)], tokens)
    return answer, _logits(run.base, run.processor, question, answer)


@torch.no_grad()
def _strangers_answer(model: Any, processor: Processor, question: Question) -> list[int]:
    """The ids that whoever opens the folder is given: its generation config has the say."""
    prompt = processor.encode_prompt(*question)
    ids = model.generate(**_inputs(processor, prompt, prompt.input_ids))
    return ids[0, len(prompt.input_ids) :].tolist()


@torch.no_grad()
def _logits(model: Any, processor: Processor, question: Question, answer: list[int]) -> Tensor:
    """Of every place of the prompt and of the answer's first ones: those of a long answer would not fit in memory."""
    prompt = processor.encode_prompt(*question)
    ids = torch.cat([prompt.input_ids, torch.tensor(answer[:COMPARED], dtype=torch.long)])
    return model(**_inputs(processor, prompt, ids)).logits[0].float()


def _inputs(processor: Processor, prompt: EncodedPrompt, ids: Tensor) -> dict[str, Tensor]:
    return {
        "input_ids": ids[None],
        "mm_token_type_ids": (ids[None] == processor.image_token).int(),
        "pixel_values": processor.pixel_values(prompt.images),
        "image_grid_thw": prompt.images.grid_thw,
    }
