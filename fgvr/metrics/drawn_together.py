"""Which figures belong together, for whoever draws them: a report, and TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A plot of curves: those whose whole tags match one of the patterns, in their order.

    What a pattern has in brackets is the curve's name. `percent` axes go from 0 to 1, `log` ones are logarithmic.
    """

    title: str
    tags: tuple[str, ...]
    note: str = ""
    percent: bool = False
    log: bool = False


TRAINING = (
    Wanted("Reward and its components", (r"reward", r"rewards/(.+)/mean"), "Means over all completions of a batch."),
    Wanted(
        "Spread within a group", (r"reward_std", r"frac_reward_zero_std"),
        "frac_reward_zero_std: the share of groups whose answers all earn the same, from which nothing is learned.",
    ),
    Wanted("Entropy", (r"entropy", r"entropy/learned"), "Nats a token, as sampled. Near 0 nothing new is tried."),
    Wanted("KL", (r"kl", r"triplets/kl.*", r"divergence"), "How far the policy is from the one that it began with."),
    Wanted(
        "Clip share", (r"clip_ratio/(\w+)_mean",),
        "The share of tokens whose ratio left the clip range. It is 0 where each batch is learned from once.",
    ),
    Wanted("Lengths of answers", (r"completions/(mean|min|max)_length",), "Tokens, the end of the answer included."),
    Wanted("Well-formed and cut short", (r"completions/(parsed|clipped_ratio)",), percent=True),
    Wanted("Loss", (r"loss",)),
    Wanted("Size of the gradient", (r"train/grad_norm",), "Before it is clipped."),
    Wanted("Learning rate", (r"lr.*",)),
    Wanted("Groups of a batch", (r"rollouts/(kept|uninformative|unscorable|cut_off|tries)",)),
    Wanted("Trainer against engine", (r"sampling/sampling_logp_difference/(mean|max)",), "Nats a token.", log=True),
    Wanted("Verdicts on sampled answers", (r"verdicts/(.+)",), percent=True),
    Wanted("The best verdict of a group", (r"anchors/(.+)",), percent=True),
    Wanted("Choices", (r"choice/(.+)",), "Against what blind guessing among the options comes to."),
    Wanted("Triplets", (r"triplets/(.+)",)),
    Wanted("Options mined anew", (r"options/(recall|recall_before|staleness|rank_overlap|first_changed)",)),
    Wanted("Tokens a second", (r"tokens/s", r"images/s")),
    Wanted("Peak memory", (r"memory/peak_gb",), "GiB, of the process with the most."),
)  # fmt: skip


def tensorboard_layout(plots: Sequence[Wanted] = TRAINING) -> dict[str, dict[str, list[str | list[str]]]]:
    """The plots as the custom layout of a SummaryWriter, whose patterns need not match the whole of a tag."""
    charts = {plot.title: ["Multiline", [f"^(?:{pattern})$" for pattern in plot.tags]] for plot in plots}
    return {"Training": charts}  # pyright: ignore[reportReturnType]
