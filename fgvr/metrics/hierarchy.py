"""How far an answer's path in the taxonomy and the label's are one, and whether every rank of a reply is right."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from fgvr.judges.base import Judged
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict


def paths_in_common(judged: Sequence[Judged], names: Names) -> Int[Tensor, "N 5"]:
    """Per answer: nodes that both paths have, nodes of the answer's path, of the label's, HCA (0 or 1), contradiction.

    Paths run from the root (exclusive) down to the node itself. An answer without a node has the empty path. One that
    is SPECIFIC or better has the label's, at least. HCA is 1 where the answer is SPECIFIC or better and each rank that
    the thought states ("Family: Finches.") is the label's ancestor there; where the answer is right and one is not,
    the contradiction is 1.
    """
    return torch.tensor([_of(entry, names) for entry in judged], dtype=torch.long).reshape(len(judged), 5)


def _of(entry: Judged, names: Names) -> list[int]:
    taxonomy, judgement = names.taxonomy, entry.judgement
    own = taxonomy.lineage[entry.example.label]
    said: tuple[str, ...] = ()
    if judgement is not None and judgement.node is not None:
        said = taxonomy.lineage.get(judgement.node, ())
    leaf = judgement is not None and judgement.verdict >= Verdict.SPECIFIC
    if leaf and not set(own) <= set(said):
        said = own
    stated = stated_ranks(entry.answer.thought if entry.answer else "", taxonomy)
    wrong = any(names.find(name) != taxonomy.at_rank(own[-1], rank) for rank, name in stated.items())
    return [len(set(own) & set(said)), len(said), len(own), int(leaf and not wrong), int(leaf and wrong)]


def stated_ranks(thought: str, taxonomy: Taxonomy) -> dict[str, str]:
    """The name that a thought gives at each rank, as "Rank: Name." or on a line of its own; the last one counts."""
    if not taxonomy.ranks:
        return {}
    ranks = "|".join(re.escape(rank) for rank in sorted(taxonomy.ranks, key=len, reverse=True))
    by_fold = {rank.casefold(): rank for rank in taxonomy.ranks}
    found = re.findall(rf"(?<!\w)({ranks})\s*:\s*([^\n]+?)(?=\.?\s*(?:\n|$|(?<!\w)(?:{ranks})\s*:))", thought, re.I)
    return {by_fold[rank.casefold()]: name.strip() for rank, name in found if rank.casefold() in by_fold}


class Hierarchy(Metric):
    """Hierarchical precision and recall, and hierarchical consistency, of all answers of a pass.

    With A_i the nodes of the i-th answer's path and T_i those of its label's (Kiritchenko et al. 2006, section 3; the
    root, which all share, left out):

    - hierarchical_precision: sum_i |A_i & T_i| / sum_i |A_i|. An answer that names no node adds to neither sum.
    - hierarchical_recall: sum_i |A_i & T_i| / sum_i |T_i|, over all answers, those that name nothing included.
    - hca: share of all answers that are right at every rank (VL-Taxon, arXiv 2601.14610): the label, with no rank
      stated wrongly on the way to it. One answer implies its ancestors, so without stated ranks this is the share that
      is SPECIFIC or better.
    - contradicted: share of all answers that are so and state a rank wrongly all the same.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.names = Names(taxonomy)
        self.add_state("sums", torch.zeros(6, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, judged: Sequence[Judged]) -> None:
        rows = paths_in_common(judged, self.names)
        self.sums += torch.cat([rows.sum(0), torch.tensor([len(judged)])]).to(self.sums.device)

    def compute(self) -> dict[str, float]:
        common, said, own, consistent, contradicted, n = self.sums.tolist()
        return {
            "hierarchical_precision": common / said if said else 0.0,
            "hierarchical_recall": common / own if own else 0.0,
            "hca": consistent / n if n else 0.0,
            "contradicted": contradicted / n if n else 0.0,
        }
