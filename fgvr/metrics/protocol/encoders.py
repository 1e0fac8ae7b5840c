"""An encoder of images as the baseline: a linear probe and the nearest class mean, on the photos that were trained on.

Shape legend: N photos, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

STEPS = 200  # of L-BFGS, at most


@dataclass(frozen=True)
class Heads:
    """Both baselines over `classes`, for features of one encoder; `shots` counts the photos that each class had.

    `mean` and `scale` are those of the training features, which the probe reads standardised.
    """

    classes: tuple[str, ...]
    shots: Mapping[str, int]
    means: Float[Tensor, "C D"]
    mean: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]
    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]

    def scores(self, features: Float[Tensor, "N D"]) -> dict[str, Float[Tensor, "N C"]]:
        """The cosine with each class's mean, and the probe's logits."""
        x = features.double()
        return {
            "nearest mean": normalize(x, dim=-1) @ self.means.T,
            "linear probe": ((x - self.mean) / self.scale) @ self.weight.T + self.bias,
        }

    def chosen(self, scores: Float[Tensor, " C"], shown: Sequence[str]) -> int | None:
        """The place of the option with the highest score, the first of equal ones; None where none had a photo.

        A class without photos is never chosen, so that a question about one is answered wrong.
        """
        place = {name: number for number, name in enumerate(self.classes)}
        known = [(float(scores[place[name]]), -number) for number, name in enumerate(shown) if name in place]
        return -max(known)[1] if known else None


def fitted(features: Float[Tensor, "N D"], labels: Sequence[str], decay: float = 1e-3) -> Heads:
    """Both heads from labelled features. Raises ValueError without any, or where there are more or fewer labels."""
    if not labels or len(labels) != len(features):
        raise ValueError(f"a baseline needs a label for each of some photos, got {len(labels)} for {len(features)}")
    x = features.double()
    classes = tuple(sorted(set(labels)))
    targets = torch.tensor([classes.index(label) for label in labels])
    means = torch.stack([normalize(x[targets == c], dim=-1).mean(0) for c in range(len(classes))])
    mean, deviation = x.mean(0), x.std(0, unbiased=False)
    scale = torch.where(deviation > 0, deviation, 1.0)
    weight, bias = probe((x - mean) / scale, targets, len(classes), decay)
    shots = {name: labels.count(name) for name in classes}
    return Heads(classes, shots, normalize(means, dim=-1), mean, scale, weight, bias)


def probe(
    x: Float[Tensor, "N D"], targets: Int[Tensor, " N"], classes: int, decay: float
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """The minimum of mean_i CE(W x_i + b, y_i) + decay/2 |W|^2, found from zero by L-BFGS: no seed has a say."""
    with torch.inference_mode(False), torch.enable_grad():  # a validation may be without gradients
        x, targets = x.clone(), targets.clone()
        weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
        bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = objective(x, targets, weight, bias, decay)
            loss.backward()
            return loss

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return weight.detach(), bias.detach()


def objective(
    x: Float[Tensor, "N D"],
    targets: Int[Tensor, " N"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"],
    decay: float,
) -> Float[Tensor, ""]:
    """What `probe` makes as small as can be."""
    return cross_entropy(x @ weight.T + bias, targets) + decay / 2 * weight.square().sum()
