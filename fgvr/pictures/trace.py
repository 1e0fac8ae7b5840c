"""Two-step inference to look at, photo by photo: one page of HTML that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from fgvr.pictures.drawing import CARD, COLOURS, FRAME, INK, PAPER, PHOTO

LONGEST = 1200  # letters of a reply
# nothing is fetched and nothing runs, whatever a model says
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = f"""
:root {{ color-scheme: light dark; --paper: {PAPER}; --card: {CARD}; --frame: {FRAME}; --ink: {INK}; --faint: #666b74;
  --bar: #c9c3b5; --right: {COLOURS["specific"]}; --wrong: {COLOURS["wrong"]}; --none: #6d737b; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #16181c; --card: #1f2227; --frame: #33373e; --ink: #e6e4df;
  --faint: #9aa0aa; --bar: #4b515b; --right: #5cc07d; --wrong: #f0796e; --none: #a6acb5; }} }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.45 system-ui, sans-serif; background: var(--paper); color: var(--ink); margin: 0 auto;
  padding: 24px; max-width: 1120px; }}
h1 {{ font-size: 22px; margin: 0 0 4px; }} h2 {{ font-size: 19px; margin: 0; overflow-wrap: anywhere; }}
h3 {{ font-size: 13px; margin: 18px 0 6px; color: var(--faint); font-weight: 600; }}
.summary, .faint {{ color: var(--faint); }} .summary {{ margin: 0 0 20px; }}
article {{ display: grid; grid-template-columns: {PHOTO}px minmax(0, 1fr); gap: 0 24px; align-items: start;
  background: var(--card); border: 1px solid var(--frame); border-left: 5px solid var(--verdict); border-radius: 8px;
  padding: 18px; margin: 0 0 16px; }}
article.right {{ --verdict: var(--right); }} article.wrong {{ --verdict: var(--wrong); }}
article.none {{ --verdict: var(--none); }}
figure {{ margin: 0; }} img {{ width: 100%; max-width: {PHOTO}px; border-radius: 6px; display: block; }}
figcaption {{ color: var(--faint); font-size: 12px; margin-top: 6px; overflow-wrap: anywhere; }}
.verdict {{ display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; }}
.verdict b {{ color: var(--verdict); font-size: 13px; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
td {{ padding: 2px 10px 2px 0; vertical-align: middle; overflow-wrap: anywhere; }}
td.name {{ width: 38%; }} td.count, td.more {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
td.count {{ width: 84px; }} td.more {{ width: 64px; padding: 0; text-align: right; color: var(--faint); }}
td i {{ display: block; height: 12px; min-width: 2px; border-radius: 3px; background: var(--bar); }}
tr.label i {{ background: var(--right); }} tr.label td.name, tr.chosen td.name {{ font-weight: 600; }}
pre {{ font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper);
  border-radius: 6px; padding: 10px 12px; margin: 8px 0 0; max-height: 260px; overflow-y: auto; }}
@media (max-width: 640px) {{ body {{ padding: 12px; }} article {{ grid-template-columns: minmax(0, 1fr); gap: 12px; }}
  figure {{ display: flex; gap: 12px; align-items: end; }} img {{ max-width: 45%; }} td {{ padding-right: 6px; }}
  td.count {{ width: 66px; }} td.more {{ width: 42px; }} }}
@media print {{ article {{ break-inside: avoid; }} pre {{ max-height: none; }} }}
"""
WHY = {
    "asked": "asked to choose",
    "unanimous": "not asked: all replies agree",
    "margin": "not asked: the first name leads by far",
    "one name": "not asked: one name alone was read",
    "nothing read": "not asked: no reply could be read",
}
VERDICTS = {"right": "✓ right", "wrong": "✗ wrong", "none": ""}
Shown = tuple[Mapping[str, Any], Image.Image]


def trace_page(shown: Sequence[Shown], title: str) -> str:
    """A card per row of two_step.jsonl with its photo: votes, options, what was reasoned, and the verdict.

    Everything that a model or a data set says is shown as it is written, never as markup.
    """
    cards = "\n".join(_card(row, photo) for row, photo in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><h1>{_text(title)}</h1><p class="summary">{_summary(shown)}</p>\n{cards}\n</body></html>\n'
    )


def _summary(shown: Sequence[Shown]) -> str:
    judged = [row["right"]["answer"] for row, _ in shown if row.get("right")]
    photos = f"{len(shown)} photo{'s' * (len(shown) != 1)}"
    told = f"{photos}, {sum(judged)} of {len(judged)} right; green is the label" if judged else photos
    return f"{told}; an arrow points to what was chosen"


def _card(row: Mapping[str, Any], photo: Image.Image) -> str:
    label, right = str(row["label"]), row.get("right", {})
    verdict = "none" if row["answer"] is None or not right else "right" if right["answer"] else "wrong"
    answer = row["answer"] or "no answer"
    told = f'<span class="faint">label: {_text(label)}</span>' if label and verdict != "right" else ""
    how = f"by {row['by']}, confidence {row['confidence']:.2f}; {WHY[row['gate']]}; "
    how += f"greedy: {row['greedy'] or 'no answer'}"
    questions = "\n".join(_question(one, label) for one in row["questions"])
    return (
        f'<article class="{verdict}"><figure><img alt="" src="data:image/jpeg;base64,{_jpeg(photo)}">'
        f"<figcaption>{_text(row['uid'])}<br>{_text(row['cohort'])}</figcaption></figure>"
        f'<div><div class="verdict"><h2>{_text(answer)}</h2><b>{VERDICTS[verdict]}</b>{told}</div>'
        f'<div class="faint">{_text(how)}</div>{_votes(row, label)}{questions}</div></article>'
    )


def _votes(row: Mapping[str, Any], label: str) -> str:
    lines = [
        _line(
            one["name"],
            one["votes"] / max(1, row["replies"]),
            f"{one['votes']} of {row['replies']}",
            f"{one['logprob']:.2f}",
            "label" * (one["name"] == label),
        )
        for one in row["votes"]
    ]
    dropped = ", ".join(f"{count} {reason}" for reason, count in row["dropped"].items() if count)
    lost = f'<div class="faint">left out: {_text(dropped)}</div>' if dropped else ""
    return f"<h3>Votes, with their mean log-prob</h3>{_table(lines)}{lost}"


def _question(one: Mapping[str, Any], label: str) -> str:
    chances = one["chances"] or [None] * len(one["shown"])
    lines = [
        _line(
            f"→ {name}" if name == one["chosen"] else name,
            chance or 0.0,
            "" if chance is None else f"{chance:.3f}",
            "",
            " ".join(["label"] * (name == label) + ["chosen"] * (name == one["chosen"])),
        )
        for name, chance in zip(one["shown"], chances, strict=True)
    ]
    reply = one["reply"] if len(one["reply"]) <= LONGEST else one["reply"][: LONGEST - 1] + "…"
    return (
        f"<h3>Options in the order of the question, with their probability</h3>{_table(lines)}<pre>{_text(reply)}</pre>"
    )


def _table(lines: Sequence[str]) -> str:
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _line(name: str, share: float, count: str, more: str, kind: str) -> str:
    """A name with its bar, which is as long as its share, from 0 to 1."""
    bar = f'<i style="width:{100 * share:.1f}%"></i>' if count else ""
    cells = f'<td class="name">{_text(name)}</td><td>{bar}</td><td class="count">{_text(count)}</td>'
    return f'<tr class="{kind}">{cells}<td class="more">{_text(more)}</td></tr>'


def _text(text: object) -> str:
    """Without marks that turn the direction of writing, and with none that HTML would take for its own."""
    return html.escape("".join(mark if mark.isprintable() or mark == "\n" else "�" for mark in str(text)))


def _jpeg(photo: Image.Image) -> str:
    small, data = photo.copy(), io.BytesIO()
    small.thumbnail((PHOTO, PHOTO))
    small.convert("RGB").save(data, "JPEG", quality=88)
    return base64.b64encode(data.getvalue()).decode()
