"""How far two judges agree on the same answers."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from fgvr.types import Verdict


class Agreement(Metric):
    """Counts which verdict one judge gave where the other gave which, over the answers that both have judged.

    - agreement: share of these with the same verdict from both, p.
    - kappa: Cohen's (p - e) / (1 - e), with e the agreement of two judges that would give their verdicts by chance, as
      often as these did. At most 1; 0 is chance. Undefined when both gave one same verdict throughout, or there is
      nothing to compare: then it is 0.
    - agreement_n: how many answers both have judged.
    """

    full_state_update = False
    FIGURES = ("agreement", "kappa", "agreement_n")
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(len(Verdict), len(Verdict), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, first: Int[Tensor, " N"], second: Int[Tensor, " N"]) -> None:
        both = (first >= 0) & (second >= 0)
        pairs = torch.bincount(len(Verdict) * first[both] + second[both], minlength=len(Verdict) ** 2)
        self.counts += pairs.view(len(Verdict), -1).to(self.counts.device)

    def compute(self) -> dict[str, float]:
        # in whole numbers, n^2 p and n^2 e, so that the undefined case is seen as it is
        n, same = int(self.counts.sum()), int(self.counts.trace())
        chance = int((self.counts.sum(0) * self.counts.sum(1)).sum())
        kappa = (n * same - chance) / (n * n - chance) if n * n != chance else 0.0
        return dict(zip(self.FIGURES, (same / n if n else 0.0, kappa, float(n)), strict=True))
