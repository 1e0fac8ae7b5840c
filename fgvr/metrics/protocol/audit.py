"""The table of an audit: what the figure is under our protocol, and under each that differs from it in one choice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fgvr.metrics.protocol.replies import Reply, Rule, Scores, scores

BLANK, FIRST_STATED = "photo: grey", "order: label first"
TIGHT = 1e-9


@dataclass(frozen=True)
class Line:
    """One row: `choice` and what it is set to, its figures, and `moved`, the difference in `all` from the first row.

    `moved` is None where the row is no variant of the first but stands beside it.
    """

    choice: str
    setting: str
    scores: Scores
    moved: float | None


@dataclass(frozen=True)
class Audit:
    """The lines, the first of which is our protocol; `swing` is the largest less the smallest `all` over strengths.

    `said` are sentences about what the figures mean, `notes` counts what was done about lists of options, `open_world`
    the figures of free answers, where there were any.
    """

    lines: tuple[Line, ...]
    swing: float
    chance: float
    said: tuple[str, ...]
    notes: Mapping[str, int]
    open_world: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        lines = [
            {
                "choice": line.choice,
                "setting": line.setting,
                "moved": line.moved,
                **asdict(line.scores),
                "groups": {"/".join(group): value for group, value in line.scores.groups.items()},
            }
            for line in self.lines
        ]
        rest = {"swing": self.swing, "chance": self.chance, "said": list(self.said), "notes": dict(self.notes)}
        return {"lines": lines, **rest, "open_world": {name: dict(row) for name, row in self.open_world.items()}}


def strength_of(name: str) -> str:
    """The variant of our protocol with these distractors."""
    return f"distractors: {name}"


def encoder_named(encoder: str, head: str) -> str:
    return f"encoder: {encoder}, {head}"


def always_first(replies: Iterable[Reply]) -> list[Reply]:
    """What a policy would have answered to these questions that always names the option shown first."""
    return [
        replace(reply, variant="control: first option", chosen=0 if reply.options else reply.chosen)
        for reply in replies
    ]


def audit(
    replies: Sequence[Reply],
    main: str,
    notes: Mapping[str, int],
    open_world: Mapping[str, Mapping[str, float]],
) -> Audit:
    """The audit of all replies, in whatever order; `main` is the strength of our protocol's distractors.

    Raises ValueError where the protocol's own replies are lacking.
    """
    by_variant: dict[str, list[Reply]] = defaultdict(list)
    for reply in sorted(replies):
        by_variant[reply.variant].append(reply)
    own = by_variant[strength_of(main)]
    ours = scores(own)
    base = ours.means["all"][0]
    chance = sum(1 / reply.options for reply in own if reply.options) / len(own)

    def line(choice: str, setting: str, rows: Sequence[Reply], rule: Rule = _strict, beside: bool = False) -> Line:
        found = scores(rows, rule)
        return Line(choice, setting, found, None if beside else found.means["all"][0] - base)

    lines = [Line("ours", f"{main}, shuffled, one choice", ours, 0.0)]
    strengths = [name for name in sorted(by_variant) if name.startswith("distractors: ")]
    lines += [
        line("distractors", name.split(": ", 1)[1], by_variant[name]) for name in strengths if name != strength_of(main)
    ]
    seeds = sorted({reply.seed for reply in own})
    if len(seeds) > 1:
        lines += [line("order", f"seed {seed} alone", [one for one in own if one.seed == seed]) for seed in seeds]
    stated = by_variant[FIRST_STATED]
    if stated:
        lines.append(line("order", "label first", stated))
    lines.append(line("rule", "label within the answer", own, _released))
    if stated:
        lines.append(line("released rule", "label first, label within the answer", stated, _released))
    lines.append(_pooled(own, base))
    answered = [reply for reply in own if reply.chosen >= 0]
    if answered:
        lines.append(line("outside the list", "discarded", answered))
    lines.append(line("control", "always the first option", always_first(own), beside=True))
    if stated:
        lines.append(
            line("control", "always the first option, released rule", _first_released(stated), _released, True)
        )
    if blank := by_variant[BLANK]:
        lines.append(line("control", "a grey picture for the photo", blank, beside=True))
    encoders = [name for name in sorted(by_variant) if name.startswith("encoder: ")]
    lines += [line("encoder", name.split(": ", 1)[1], by_variant[name], beside=True) for name in encoders]
    over = [scores(by_variant[name]).means["all"][0] for name in strengths]
    sentences = tuple(_sentences(lines, own, chance))
    return Audit(
        tuple(lines), max(over) - min(over), chance, sentences, dict(sorted(Counter(notes).items())), open_world
    )


def _pooled(own: Sequence[Reply], base: float) -> Line:
    """Every question alike, whatever its data set and cohort."""
    rows = [replace(one, cohort="seen", dataset="", uid=f"{one.cohort}/{one.dataset}/{one.uid}") for one in own]
    found = scores(rows)
    whole = replace(found, groups={}, means={"all": found.means["all"]})
    return Line("averages", "over photos, not data sets", whole, found.means["all"][0] - base)


def _strict(reply: Reply) -> bool:
    return reply.strict


def _released(reply: Reply) -> bool:
    return reply.released


def _first_released(stated: Sequence[Reply]) -> list[Reply]:
    """Who names the first option names the label, as that is where the released order has it."""
    return [replace(reply, released=bool(reply.options)) for reply in always_first(stated)]


def _sentences(lines: Sequence[Line], own: Sequence[Reply], chance: float) -> list[str]:
    found = {(line.choice, line.setting): line.scores for line in lines}
    ours, said = lines[0].scores, list[str]()
    first = found["control", "always the first option"]
    released = found.get(("control", "always the first option, released rule"))
    if released is not None:
        said.append(
            f"A policy that always picks the first option scores {_percent(first.means['all'])} here, where chance is "
            f"{chance:.1%}, and {released.means['all'][0]:.1%} on the released rule: that rule cannot tell it from one "
            "that looks."
        )
    chosen = [reply for reply in own if reply.chosen >= 0]
    if chosen and all(reply.chosen == 0 for reply in chosen):
        said.append("This policy always picks the first option.")
    high = ours.means["all"][2]
    if high < chance - TIGHT:
        said.append(f"Our figure, {_percent(ours.means['all'])}, lies below chance ({chance:.1%}).")
    elif ours.means["all"][1] <= chance:
        said.append(f"Our figure, {_percent(ours.means['all'])}, cannot be told from chance ({chance:.1%}).")
    blank = found.get(("control", "a grey picture for the photo"))
    if blank is not None:
        low, high = blank.means["all"][1:]
        what = "at chance" if low <= chance + TIGHT and high >= chance - TIGHT else "not at chance"
        why = (
            ": the options alone tell something, or replies that name none pull it down"
            if what == "not at chance"
            else ""
        )
        said.append(f"Without the photo it scores {_percent(blank.means['all'])}, {what} ({chance:.1%}){why}.")
    if ours.unread + ours.outside + ours.unasked:
        said.append(
            f"{ours.unread:.1%} of the replies could not be read, {ours.outside:.1%} named no single option and "
            f"{ours.unasked:.1%} of the questions could not be made: all count as wrong."
        )
    return said


def _percent(figure: tuple[float, float, float]) -> str:
    return f"{figure[0]:.1%} [{figure[1]:.1%}, {figure[2]:.1%}]"


COLUMNS = ("choice", "setting", "seen", "unseen", "all", "95 % interval", "moved", "unread", "outside", "bias")


def table_rows(found: Audit) -> list[tuple[str, ...]]:
    """The cells under COLUMNS, in per cent; `moved` in points."""
    rows: list[tuple[str, ...]] = []
    for line in found.lines:
        one = line.scores
        seen, unseen = (f"{100 * one.means[name][0]:.1f}" if name in one.means else "" for name in ("seen", "unseen"))
        point, low, high = (f"{100 * value:.1f}" for value in one.means["all"])
        moved = "" if line.moved is None else f"{100 * line.moved:+.1f}"
        shares = (f"{100 * value:.1f}" for value in (one.unread, one.outside))
        bias = "" if line.choice == "encoder" else f"{one.position_bias:.2f}"
        rows.append((line.choice, line.setting, seen, unseen, point, f"{low} – {high}", moved, *shares, bias))
    return rows


def as_markdown(found: Audit) -> str:
    """The whole audit as a page."""
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *table_rows(found)]
    parts = ["# Audit of the closed-world protocol", "\n".join(f"| {' | '.join(row)} |" for row in table)]
    parts.append(f"Swing over distractors: {100 * found.swing:.1f} points. Chance: {found.chance:.1%}.")
    parts += found.said
    if found.open_world:
        names = ("seen", "unseen", "all")
        rows = [("open world", *names), ("---",) * 4]
        rows += [
            (figure, *(f"{100 * row[name]:.1f}" if name in row else "" for name in names))
            for figure, row in found.open_world.items()
        ]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    parts += [f"- {note}: {count}" for note, count in found.notes.items() if count]
    return "\n\n".join(parts) + "\n"
