"""`python -m fgvr export`: a checkpoint as a Hugging Face folder, reopened and compared before it is done."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor

from fgvr.checkpoints.format import read_manifest
from fgvr.checkpoints.kept import run_of
from fgvr.data.images import open_image
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.asked import task_of
from fgvr.errors import UserError, refuse_below, shown
from fgvr.models import Processor
from fgvr.models.saved import Agreement, Question, compare, tokens_evaluated, write_hf_folder
from fgvr.models.trained import read_run, rebuild
from fgvr.next_steps import after_export
from fgvr.recogniser.calibration import Calibration, Mode, read_calibrations, write_calibrations
from fgvr.recogniser.carried import Carried, of_run
from fgvr.runs.finding import read_config, resolve
from fgvr.runs.fingerprint import config_fingerprint, differences
from fgvr.shards.manifest import load_manifest
from fgvr.shards.reading import ShardSet
from fgvr.sources.walking import without_links
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.gguf import convert, described, find_converter
from fgvr.tools.model_card import Card, write_card
from fgvr.tools.published import Result, refuse_unpublishable, results_of, write_results
from fgvr.types import Example
from fgvr.whole_files import refuse_no_folder, unsealed

TOLERANCE = 1e-5  # largest logit difference between the folder as reopened and the weights as written
MERGING = 1e-3  # the same between the weights written in float32 and the run's, which merging adapters may change


def export(
    ckpt: Path,
    out: Path,
    adapter: Literal["merge", "keep"] = "merge",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    data: Path | None = None,
    samples: int = 8,
    overwrite: bool = False,
    benchmark: str | None = None,
    source: str | None = None,
    gguf: bool = False,
) -> str:
    """Write a trained model as a folder that plain transformers opens. Returns what to do next.

    Args:
        ckpt: a checkpoint, or a run's folder, whose newest whole checkpoint is taken.
        out: the folder to write. It must not exist yet.
        adapter: fold LoRA adapters into the weights, or keep them apart from their base.
        dtype: precision of the weights written. "auto" is that of the model the run began with, bfloat16 for the
            released ones (a 7B then takes 17 GB, and 33 in float32), and float32 for an adapter kept apart.
        data: a shard set to take the comparison's photos from; by default the one the run was trained on.
        samples: on how many photos the reopened folder is compared with the run's model.
        overwrite: replace `out` if it exists.
        benchmark: the id on the Hub of the data set that the figures are of (ORG/NAME), for .eval_results.
        source: the address of a page that the figures are attributed to there.
        gguf: convert the folder for llama.cpp too, by its own converter, and compare the answers where it can be run.
    """
    console, given = Console(), out
    path, out = resolve(ckpt), without_links(out)
    refuse_to_overwrite(out, overwrite)
    refuse_unpublishable(benchmark, source)
    refuse_below(1, "export", samples=samples)  # the folder is never written without a comparison
    console.print(f"Reading {path}")
    card, state, then = read_run(path)
    run, step = run_of(path), read_manifest(path).step
    config = _config_of(console, run, path)
    converter = converter_for(adapter) if gguf else None
    questions, dataset = comparison(data, config, samples)
    carried, calibrations = taken_along(path, then or config, card, data)
    chosen = precision_of(card, adapter) if dtype == "auto" else dtype
    with built(out) as building:
        agreement = _written(console, building, (card, state), adapter, chosen, questions)
        carried.write(building)
        write_calibrations(building, calibrations)
        figures, asked = figures_of(run, step) if run else {}, text_of(questions[0])
        told = Card(card, dataset, step, adapter, chosen, size_of(building), figures, agreement, asked)
        more = {
            "opening": Processor.from_folder(building, None).opening,
            "results": publish(building, run, step, dataset, benchmark, source) if run else [],
            "gguf": converted(console, building, converter, chosen, questions, card),
        }
        write_card(building, replace(told, name=out.name, benchmark=benchmark, **more))
    _say(console, _wrote(given, size_of(out), chosen, agreement))
    return after_export(given, adapter, ckpt)


@contextmanager
def built(out: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `out` when all went well and is gone otherwise."""
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        put_in_place(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _written(
    console: Console,
    folder: Path,
    trained: tuple[Mapping[str, Any], Mapping[str, Tensor]],
    adapter: Literal["merge", "keep"],
    dtype: Literal["float32", "bfloat16"],
    questions: list[Question],
) -> Agreement:
    """How the folder, once written and reopened, compares with the run's model."""
    card, state = trained
    precision = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    console.print(f"Writing the weights in {dtype}")
    write_hf_folder(rebuild(card, state), folder, adapter, precision, tokens_evaluated(card))
    console.print(f"Reopening the folder and asking it and the run's model {len(questions)} questions")
    agreement = compare(rebuild(card, state), folder, adapter, precision, questions, tokens_evaluated(card))
    refuse_disagreement(agreement, dtype)
    return agreement


def _config_of(console: Console, run: Path | None, path: Path) -> dict[str, Any]:
    """The run's settings; says so where they are not those that the checkpoint was trained with."""
    config = read_config(run) if run else {}
    if run and (changed := changed_since(path, config)):
        _say(console, f"{run / 'config.yaml'} is not what {path.name} was trained with: {'; '.join(changed)}")
    return config


def converter_for(adapter: str) -> str:
    """llama.cpp's converter. Raises UserError where there is none, or an adapter to be kept apart."""
    if adapter == "keep":
        raise UserError("gguf is made of a whole model, but adapter is keep: set it to merge, or leave gguf out")
    return find_converter()


def converted(
    console: Console,
    folder: Path,
    converter: str | None,
    dtype: str,
    questions: list[Question],
    card: Mapping[str, Any],
) -> str:
    """What the card says of the files for llama.cpp, once they are there; "" without a converter."""
    if converter is None:
        return ""
    console.print("Converting the folder for llama.cpp")
    convert(folder, converter, dtype)
    return described(folder, questions, tokens_evaluated(card))


def publish(
    folder: Path, run: Path, step: int, dataset: str, benchmark: str | None, source: str | None
) -> list[Result]:
    """Writes the run's figures of this step as the Hub reads them; of val those of its end, of test those of `test`."""
    published = list[Result]()
    for split, name in (("val", "final_metrics.json"), ("test", "test_metrics.json")):
        results = results_of(figures_of(run, step, name), dataset, split)
        if results:
            date = datetime.fromtimestamp((run / name).stat().st_mtime, UTC)
            write_results(folder, results, date, benchmark, source)
            published += results
    return published


def _wrote(out: Path, size: int, dtype: str, agreement: Agreement) -> str:
    """What there is now, and how it was checked."""
    return (
        f"Wrote {out}, {decimal(size)} of weights in {dtype}: reopened, its logits differ by at most "
        f"{agreement.reopened:.1e} from the weights written and those by {agreement.written:.1e} from the run's; "
        f"{agreement.same_answers} of {agreement.samples} greedy answers are the same."
    )


def _say(console: Console, sentence: str) -> None:
    console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)


def taken_along(
    path: Path, settings: Mapping[str, Any], card: Mapping[str, Any], data: Path | None
) -> tuple[Carried, dict[Mode, Calibration]]:
    """What naming photos takes besides weights, and the thresholds that were calibrated for this very checkpoint."""
    manifest, run = read_manifest(path), run_of(path)
    carried = of_run(settings, tokens_evaluated(card), data, checkpoint=manifest.digest, step=manifest.step)
    kept = read_calibrations(run) if run else {}
    return carried, {mode: one for mode, one in kept.items() if one.checkpoint == manifest.digest}


def precision_of(card: Mapping[str, Any], adapter: str) -> Literal["float32", "bfloat16"]:
    """Half of it for a whole model whose base came so; an adapter is small, and kept as it was trained."""
    halved = card["origin"].get("dtype") in ("bfloat16", "float16")  # not said by checkpoints of earlier versions
    return "bfloat16" if halved and adapter == "merge" else "float32"


def size_of(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def refuse_to_overwrite(out: Path, overwrite: bool) -> None:
    """Raises UserError when `out` is there already, unless it is an export and may be overwritten."""
    if not out.exists():
        refuse_no_folder(out)
        return
    if not overwrite:
        raise UserError(
            f"the folder to write must not exist yet, but {out} does: choose another, or pass --overwrite true"
        )
    if not any((out / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UserError(f"only an earlier export is overwritten, but {out} holds no model: choose another folder")


def put_in_place(building: Path, out: Path) -> None:
    """Gives the finished folder its name; an export that stood there goes last."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    building.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def changed_since(path: Path, config: Mapping[str, Any]) -> list[str]:
    """Where a run's settings differ from those that its checkpoint was trained with, as KEY: OLD -> NEW."""
    then = {"config": read_manifest(path).fingerprint.get("config")}
    return differences(then, {"config": config_fingerprint(config)} if config else {}).get("config", [])


def figures_of(run: Path, step: int, name: str = "final_metrics.json") -> dict[str, Any]:
    """The run's figures in a file of that name, if they are of this very step."""
    file = run / name
    try:
        figures = unsealed(file.read_bytes())[0] if file.is_file() else {}
    except ValueError as error:
        raise UserError(
            f"{file} must be the run's figures as they were written, but it cannot be read ({error}): remove it, and "
            "the run's own command evaluates the final weights again"
        ) from error
    return figures if figures.get("step") == step else {}


def comparison(data: Path | None, config: Mapping[str, Any], samples: int) -> tuple[list[Question], str]:
    """The run's own questions about photos of its data, and the data set's name.

    Raises UserError when no photos can be found.
    """
    settings = (config.get("data") or {}).get("init_args") or {}
    entries = [entry for entry in settings.get("train") or [] if isinstance(entry, dict) and "path" in entry]
    paths = [Path(entry["path"]) for entry in entries]
    folder = data or next((path for path in paths if (path / "manifest.json").is_file()), None)
    if folder is None:
        raise UserError("the comparison needs photos, but the run's shard set is not here: name one with --data FOLDER")
    manifest = load_manifest(folder)
    task = (task_of(config) or OpenWorld()).bind(Taxonomy.from_dict(manifest.taxonomy))
    questions: list[Question] = []
    for example in spread(folder, tuple(sorted(set(manifest.cohorts.values()))), samples):
        rng = random.Random(example.uid)
        shown = task.prepare(example, rng)
        photos = [open_image(image, example.uid) for image in task.images(shown)]
        questions.append((task.messages(shown, rng), photos))
    if not questions:
        raise UserError(
            f"the comparison needs photos, but {folder} holds none: name another shard set with --data FOLDER"
        )
    return questions, manifest.dataset


def text_of(question: Question) -> str:
    """What stands beside the photo in a question."""
    return str(next(part["text"] for part in question[0][-1]["content"] if part["type"] == "text"))


def spread(folder: Path, cohorts: tuple[str, ...], samples: int) -> list[Example]:
    """Examples evenly spread over a shard set, photos that were not trained on first."""
    chosen: list[Example] = []
    for split in ("test", "val", "train"):
        if load_manifest(folder).select(split, cohorts):
            shards = ShardSet(folder, split, cohorts)
            numbers = range(0, len(shards), max(1, len(shards) // samples))
            chosen += [shards.read(number) for number in numbers[: samples - len(chosen)]]
    return chosen


def refuse_disagreement(agreement: Agreement, dtype: str) -> None:
    """Raises UserError unless the folder gives back what was written and, in float32, answers as the run does."""
    rounded = dtype == "bfloat16"  # rounding changes the weights, and now and then an answer: the card says how much
    close = agreement.reopened <= TOLERANCE and (rounded or agreement.written <= MERGING)
    if not close or (agreement.same_answers < agreement.samples and not rounded):
        raise UserError(
            f"the reopened folder must answer as the run's model does, but its logits differ by "
            f"{agreement.reopened:.1e} "
            f"from what was written (at most {TOLERANCE:.0e}) and those by {agreement.written:.1e} from the run's, and "
            f"{agreement.same_answers} of {agreement.samples} answers are the same: nothing was written; report this "
            "with your versions of torch and transformers"
        )
