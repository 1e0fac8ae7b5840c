"""What lmms-eval calls by name from the task files that `python -m fgvr tasks` writes.

A document is a row of the task's jsonl file: it says which photo of which shard set is asked about, and how. A reply is
parsed and judged as a validation does it, by `TaxonomyJudge`; so are its figures, with the weights of a validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.images import open_image
from fgvr.data.tasks import OpenWorld, Task
from fgvr.judges.base import judge_completions
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.metrics.hits import is_exact
from fgvr.metrics.verdicts import PARSE_FAILURE, SPECIFICITY_WEIGHTS, binned, summary, verdict_values
from fgvr.shards.manifest import load_manifest
from fgvr.shards.reading import ShardSet
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

Document = Mapping[str, Any]
FIGURES = ("exact", "correctness", "specificity", "harmonic_mean", "parse_failures")  # aggregations, by these names


def photo(document: Document) -> list[Image.Image]:
    """The photo that is asked about, upright and in RGB. Raises SampleError where it cannot be read."""
    example = _example(document)
    return [open_image(example.images[0], example.uid)]


def question(document: Document) -> str:
    """The text that follows the photo."""
    return str(document["question"])


def judged(document: Document, replies: Sequence[str]) -> dict[str, Any]:
    """What each of FIGURES takes of one reply: whether it is exact, and for the others its verdict as a number."""
    task, judge = _reading(Path(document["set"]), document["options"] is not None, document["letters"])
    (entry,) = judge_completions(task, judge, [_example(document)], [f"{document['opening']}{replies[0]}"])
    verdict = int(verdict_values([entry])[0])
    return {name: is_exact(entry) if name == "exact" else verdict for name in FIGURES}


def exact(found: Sequence[bool]) -> float:
    """Share of answers that are the label itself."""
    return sum(found) / len(found)


def correctness(verdicts: Sequence[int]) -> float:
    """Share of answers that are right at whatever rank, as `summary` says."""
    return _summed(verdicts, "correctness")


def specificity(verdicts: Sequence[int]) -> float:
    """How fine the right answers are on average, as `summary` says."""
    return _summed(verdicts, "specificity")


def harmonic_mean(verdicts: Sequence[int]) -> float:
    """Of correctness and specificity."""
    return _summed(verdicts, "harmonic_mean")


def parse_failures(verdicts: Sequence[int]) -> float:
    """Share of replies without an answer in them."""
    return sum(verdict == PARSE_FAILURE for verdict in verdicts) / len(verdicts)


def _summed(verdicts: Sequence[int], name: str) -> float:
    counts = binned(torch.tensor(verdicts)).double().numpy()
    return float(summary(counts, SPECIFICITY_WEIGHTS)[name])


def _example(document: Document) -> Example:
    """With the options in the order in which they were asked."""
    shards = _opened(Path(document["set"]), document["split"], document["cohort"])
    example = shards.read(document["number"])
    if example.uid != document["uid"]:
        raise ValueError(
            f"photo {document['number']} of {shards.folder} must be {document['uid']}, but it is {example.uid}: "
            "write the task files again, the shard set is another"
        )
    options = document["options"]
    return example if options is None else replace(example, extra=example.extra | {"shown": list(options)})


@cache
def _opened(folder: Path, split: str, cohort: str) -> ShardSet:
    return ShardSet(folder, split, (cohort,))


@cache
def _reading(folder: Path, chooses: bool, letters: bool) -> tuple[Task, TaxonomyJudge]:
    """Who reads a reply and who judges the answer, knowing the set's names."""
    taxonomy = Taxonomy.from_dict(load_manifest(folder).taxonomy)
    task = ClosedWorld(letters=letters) if chooses else OpenWorld()  # how many options there are is for those who ask
    return task.bind(taxonomy), TaxonomyJudge().bind(taxonomy)
