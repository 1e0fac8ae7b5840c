"""What becomes of held-out names: how often they are sampled as wrong answers, and what their birds end up called.

A held-out species is never the right answer in training, but the policy knows its name and says it of other photos, and
each time it loses by that. It is counted in the rollouts.jsonl and answers.jsonl that the runs of a study left behind.
Run: python benchmarks/held_out_names.py runs/study
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torchmetrics.functional.regression import spearman_corrcoef

from fgvr.aviary.names import Species, catalogue
from fgvr.taxonomy.spelling import normalise

STRETCH = 0.1  # the share of a run's completions that its beginning is, and its end
SPECIES: dict[str, Species] = {species.name: species for genus in catalogue().values() for species in genus}
WRITTEN = {normalise(name): name for name in SPECIES}


@dataclass(frozen=True)
class Told:
    """One run's answers: those that it sampled in training, and those that it gave in its last validation."""

    sampled: list[tuple[str, str | None]]  # label and species said, in the order of training
    answered: list[tuple[str, str | None]]  # the same of photos of held-out species

    @classmethod
    def of(cls, run: Path) -> Told:
        sampled = [(row["label"], _species(row["answer"])) for row in _rows(run / "rollouts.jsonl")]
        rows = [row for row in _rows(run / "answers.jsonl") if row["cohort"] == "novel"]
        return cls(sampled, [(row["label"], _species(row["answer"])) for row in rows])

    @property
    def held_out(self) -> set[str]:
        return {label for label, _ in self.answered}

    def said(self, end: bool) -> float:
        """The share of completions that say the name of a held-out species, at the beginning or at the end."""
        stretch = max(1, round(STRETCH * len(self.sampled)))
        some = self.sampled[-stretch:] if end else self.sampled[:stretch]
        return statistics.fmean(answer in self.held_out for _, answer in some)

    def punished(self) -> Counter[str]:
        """How often each held-out species was sampled, always as a wrong answer."""
        return Counter(answer for _, answer in self.sampled if answer in self.held_out)

    def kept(self) -> dict[str, float]:
        """The share of each held-out species' photos that are called by its name in the end."""
        right: dict[str, list[bool]] = defaultdict(list)
        for label, answer in self.answered:
            right[label].append(label == answer)
        return {label: statistics.fmean(answers) for label, answers in right.items()}

    def mistakes(self) -> Counter[str]:
        """How the answers about held-out species' photos end, by what they get wrong."""
        return Counter(_mistake(label, answer) for label, answer in self.answered)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _species(answer: str | None) -> str | None:
    return WRITTEN.get(normalise(answer or ""))


def _mistake(label: str, answer: str | None) -> str:
    if label == answer:
        return "right"
    if answer is None:
        return "no species"
    one, other = SPECIES[label], SPECIES[answer]
    if one.genus.name != other.genus.name:
        return "another genus"
    colour, place = one.mark_colour != other.mark_colour, one.mark_place != other.mark_place
    return "another colour and place" if colour and place else f"another {'colour' if colour else 'place'}"


def held_out_names(runs: Path) -> None:
    """Prints one row for each arm of a study that has ended runs, RUNS/ARM/SEED, with means over its seeds."""
    arms: dict[str, list[Told]] = defaultdict(list)
    for ended in sorted(runs.glob("*/*/final_metrics.json")):
        arms[ended.parent.parent.name].append(Told.of(ended.parent))
    if not arms:
        raise SystemExit(f"{runs} must have ended runs in folders ARM/SEED, but it has none")
    print(table(arms), end="")


def table(arms: dict[str, list[Told]]) -> str:
    """A Markdown table: held-out names among the completions, who keeps a name, and the mistakes about its photos."""
    mistakes = ["another colour", "another place", "another colour and place", "another genus", "no species"]
    heads = ["arm", "runs", "held-out names said, begin to end", "punished against kept", "right", *mistakes]
    rows = [heads, ["---"] * len(heads)]
    for arm, told in arms.items():
        begin, end = (statistics.fmean(run.said(end) for run in told) for end in (False, True))
        counts = sum((run.mistakes() for run in told), Counter[str]())
        shares = [f"{counts[name] / counts.total():.3f}" for name in ("right", *mistakes)]
        rows.append([arm, str(len(told)), f"{begin:.3f} to {end:.3f}", f"{together(told):+.2f}", *shares])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def together(told: Iterable[Told]) -> float:
    """Spearman's rank correlation over species and runs: how often one was punished with how much of it is kept."""
    pairs = [(run.punished()[label], kept) for run in told for label, kept in run.kept().items()]
    punished, kept = torch.tensor(pairs, dtype=torch.float32).unbind(1)
    return float(spearman_corrcoef(punished, kept))


if __name__ == "__main__":
    auto_cli(held_out_names)
