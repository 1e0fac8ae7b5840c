"""Two-step inference to look at, photo by photo: one page of HTML that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from fgvr.pictures.drawing import CARD, COLOURS, FAINT, FRAME, INK, PAPER, PHOTO

LONGEST = 1200  # letters of a reply
STYLE = f"""
body {{ font: 15px/1.4 system-ui, sans-serif; background: {PAPER}; color: {INK}; margin: 24px; }}
article {{ display: flex; gap: 20px; background: {CARD}; border: 1px solid {FRAME}; border-radius: 8px;
  padding: 14px; margin: 0 0 14px; max-width: 1100px; }}
img {{ width: {PHOTO}px; height: {PHOTO}px; object-fit: contain; }}
h2 {{ font-size: 17px; margin: 0 0 4px; overflow-wrap: anywhere; }} small, th {{ color: {FAINT}; font-weight: normal; }}
table {{ border-collapse: collapse; margin: 8px 0; }} td, th {{ padding: 1px 14px 1px 0; text-align: left; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: {PAPER}; padding: 8px; margin: 6px 0; }}
.right {{ color: {COLOURS["specific"]}; }}
.wrong {{ color: {COLOURS["wrong"]}; }} .none {{ color: {COLOURS["abstain"]}; }}
"""
WHY = {
    "asked": "asked to choose",
    "unanimous": "not asked: all replies agree",
    "margin": "not asked: the first name leads by far",
    "one name": "not asked: one name alone was read",
    "nothing read": "not asked: no reply could be read",
}


def trace_page(shown: Sequence[tuple[Mapping[str, Any], Image.Image]], title: str) -> str:
    """A card per row of two_step.jsonl with its photo: votes, options, what was reasoned, and the verdict.

    Everything that a model or a data set says is shown as it is written, never as markup.
    """
    cards = "\n".join(_card(row, photo) for row, photo in shown)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{cards}\n</body></html>\n"
    )


def _card(row: Mapping[str, Any], photo: Image.Image) -> str:
    label, right = str(row["label"]), row.get("right", {})
    verdict = "none" if row["answer"] is None or not right else "right" if right["answer"] else "wrong"
    answer = _text(row["answer"] or "no answer")
    head = f'<h2 class="{verdict}">{answer}</h2>' + (f"<div>label: {_text(label)}</div>" if label else "")
    how = f"by {row['by']}, confidence {row['confidence']:.2f}; {WHY[row['gate']]}; "
    how += f"greedy: {row['greedy'] or 'no answer'}"
    dropped = ", ".join(f"{count} {reason}" for reason, count in row["dropped"].items() if count)
    votes = [(one["name"], f"{one['votes']} of {row['replies']}", f"{one['logprob']:.2f}") for one in row["votes"]]
    lost = f"<small>left out: {_text(dropped)}</small>" if dropped else ""
    questions = "\n".join(_question(one) for one in row["questions"])
    return (
        f'<article><img alt="" src="data:image/jpeg;base64,{_jpeg(photo)}"><div>{head}'
        f"<small>{_text(row['uid'])} ({_text(row['cohort'])}) {_text(how)}</small>"
        f"{_table(('name', 'votes', 'log-prob'), votes)}{lost}{questions}</div></article>"
    )


def _question(one: Mapping[str, Any]) -> str:
    chances = one["chances"] or [None] * len(one["shown"])
    rows = [
        (f"{'→ ' if name == one['chosen'] else ''}{name}", "" if chance is None else f"{chance:.3f}")
        for name, chance in zip(one["shown"], chances, strict=True)
    ]
    reply = one["reply"] if len(one["reply"]) <= LONGEST else one["reply"][: LONGEST - 1] + "…"
    return f"{_table(('option', 'probability'), rows)}<pre>{_text(reply)}</pre>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _text(text: object) -> str:
    """Without marks that turn the direction of writing, and with none that HTML would take for its own."""
    return html.escape("".join(mark if mark.isprintable() or mark == "\n" else "�" for mark in str(text)))


def _jpeg(photo: Image.Image) -> str:
    small, data = photo.copy(), io.BytesIO()
    small.thumbnail((PHOTO, PHOTO))
    small.convert("RGB").save(data, "JPEG", quality=88)
    return base64.b64encode(data.getvalue()).decode()
