"""Another source's classes with the ranks that a biodiversity backbone has for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import Record, Refusal, Source, unfit
from fgvr.taxonomy.backbone import RANKS, Answers, Taxon, ask_backbone
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

NAMED = 5  # names in a sentence
Lineage = tuple[str, ...]


class Backbone(Source):
    """`source`, a flat list of classes, with the ranks of those whose names stand in the backbone `file`, exactly.

    `file` is a Darwin Core table such as GBIF's Taxon.tsv; nothing is asked of a network, and nothing is guessed. A
    rank that one of the matched classes lacks is left out for all. Classes that match nothing, or several taxa, stay
    where they are, right below the root. A class that matched by its common name answers to its scientific one too.
    What the backbone said is in `describe`, and so in the manifest: it is not asked again. Raises UserError, once the
    taxonomy is asked for, for a source that has ranks, a file that is no such table, and when nothing matches.
    """

    def __init__(self, source: Source, file: Path) -> None:
        self.source, self.file = source, Path(file)
        self.dataset, self.walked = source.dataset, source.walked

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        paths = self._taxonomy.paths
        for one in self.source.records():
            yield replace(one, path=paths[one.label]) if isinstance(one, Record) and one.label in paths else one

    def describe(self) -> dict[str, Any]:
        answers = self._answers
        said = {
            "file": self.file.name,
            "sha256": answers.digest,
            "matched": {label: [taxon.name, *taxon.lineage] for label, taxon in sorted(answers.matched.items())},
            "ambiguous": {label: [one.name for one in taxa] for label, taxa in sorted(answers.ambiguous.items())},
            "unmatched": list(answers.unmatched),
        }
        return {**self.source.describe(), "backbone": said}

    def remarks(self) -> list[str]:
        answers = self._answers
        said = (
            f"backbone {self.file.name}: of {len(self._taxonomy.paths):,} classes {len(answers.matched):,} matched, "
            f"{len(answers.common):,} of these by their common names; {len(answers.ambiguous):,} are names of several "
            f"taxa{_named(answers.ambiguous)}, {len(answers.unmatched):,} of none{_named(answers.unmatched)}"
        )
        lacking = [rank for rank in RANKS if rank not in self._ranks]
        short = [f"ranks that not all of them have are left out: {', '.join(lacking)}"] if lacking else []
        return [*self.source.remarks(), said, *short]

    @cached_property
    def _flat(self) -> Taxonomy:
        taxonomy = self.source.taxonomy()
        if any(len(path) > 1 for path in taxonomy.paths.values()):
            raise UserError(
                f"a backbone gives ranks to classes that have none, but those of {self.dataset} have them already "
                f"({' > '.join(taxonomy.ranks)}): leave the backbone out"
            )
        return taxonomy

    @cached_property
    def _answers(self) -> Answers:
        asked = ask_backbone(self.file, self._flat.paths)
        usable = {label: taxon for label, taxon in asked.matched.items() if _usable(taxon)}
        if not usable:
            raise UserError(
                f"{self.file} must have some classes of {self.dataset} by scientific or common names, but it has "
                f"none of {len(self._flat.paths):,}{_named(self._flat.paths)}: name another file, or leave it out"
            )
        unmatched = sorted({*asked.unmatched, *(asked.matched.keys() - usable.keys())})
        return replace(asked, matched=usable, unmatched=tuple(unmatched), common=asked.common & usable.keys())

    @cached_property
    def _ranks(self) -> list[str]:
        """Those at which every matched class has a name."""
        lineages = [taxon.lineage for taxon in self._answers.matched.values()]
        return [rank for place, rank in enumerate(RANKS) if all(lineage[place] for lineage in lineages)]

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        flat, matched = self._flat, self._answers.matched
        places = [RANKS.index(rank) for rank in self._ranks]
        above = {label: tuple(taxon.lineage[place] for place in places) for label, taxon in matched.items()}
        apart = _told_apart(above, self._ranks, {normalise(name) for name in (flat.root, *flat.paths)})
        paths = {label: (*apart.get(label, ()), label) for label in flat.paths}
        finest = flat.ranks[-1] if flat.ranks else "class"
        ranks = (*self._ranks, "label" if finest in self._ranks else finest)
        nodes = {normalise(name) for path in paths.values() for name in (flat.root, *path)}
        synonyms = {**flat.synonyms}
        taken = nodes | {normalise(other) for others in synonyms.values() for other in others}
        times = Counter(normalise(taxon.name) for taxon in matched.values())
        for label in sorted(self._answers.common):
            name = matched[label].name
            if times[normalise(name)] == 1 and normalise(name) not in taken:
                synonyms[label] = (*synonyms.get(label, ()), name)
        return Taxonomy(paths, ranks, flat.root, synonyms)


def _usable(taxon: Taxon) -> bool:
    return all(unfit(name) is None for name in (taxon.name, *taxon.lineage) if name)


def _told_apart(lineages: Mapping[str, Lineage], ranks: list[str], taken: set[str]) -> dict[str, Lineage]:
    """The lineages, in which a name that also stands elsewhere has its rank, or what is above it, in brackets."""
    places: dict[str, set[Lineage]] = defaultdict(set)
    for lineage in lineages.values():
        for depth in range(1, len(lineage) + 1):
            places[normalise(lineage[depth - 1])].add(lineage[:depth])

    def name(place: Lineage) -> str:
        own = place[-1]
        if len(places[normalise(own)]) > 1 and len(place) > 1:
            return f"{own} ({name(place[:-1])})"
        return f"{own} ({ranks[len(place) - 1]})" if normalise(own) in taken else own

    return {
        label: tuple(name(lineage[:depth]) for depth in range(1, len(lineage) + 1))
        for label, lineage in lineages.items()
    }


def _named(names: Any) -> str:
    shown = [repr(name) for name in list(names)[:NAMED]]
    return f" (such as {', '.join(shown)})" if shown else ""
