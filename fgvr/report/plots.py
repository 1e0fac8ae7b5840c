"""How a report draws: plots as plain values, which its own script gives to Plotly in the colours of the page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgvr.errors import shown
from fgvr.pictures.drawing import COLOURS
from fgvr.pictures.tables import shortened
from fgvr.report.curves import Curve

# seen on white as on black; the first ones are told apart by those who see no red or green
LINES = ("#2f7fc1", "#e08a1e", "#2c9a63", "#b5589f", "#c9503f", "#24a3ad", "#98941f", "#7d7f95")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FEW = 40  # points, below which a curve is drawn as it is, with no running mean


@dataclass(frozen=True)
class Plot:
    """What is drawn, as Plotly's figure without any look: the page gives it fonts and colours. `tall` in pixels.

    `title` stands above, `note` below it; both are plain text. `wide` takes the whole width of the page.
    """

    title: str
    figure: Mapping[str, Any]
    note: str = ""
    tall: int = 280
    wide: bool = False

    def as_json(self) -> str:
        return json.dumps(self.figure, allow_nan=False, separators=(",", ":"))


def drawn(traces: Sequence[Any], **layout: Any) -> Mapping[str, Any]:
    """A figure of Plotly's own, checked by it, as plain values and without its template."""
    import plotly.graph_objects as go

    figure = go.Figure(list(traces), {"template": {}, **layout})
    return json.loads(str(figure.to_json()))


def word(text: str, longest: int = 60) -> str:
    """Text from data, for Plotly, which takes marks for HTML: on one line, shortened, shown as it is."""
    return html.escape(shown(shortened(text, longest)), quote=False)


def line(curve: Curve, name: str, colour: str, dash: str = "solid", faint: bool = True) -> list[Any]:
    """A curve; one of many points as its running mean, with the points themselves behind it where `faint`."""
    import plotly.graph_objects as go

    thin = curve.thinned()
    steps, values = thin.steps, [rounded(value) for value in thin.values]
    wide = running(thin)
    style = {"color": colour, "width": 2.2, "dash": dash}
    if wide == 1:
        mode = "lines+markers" if len(steps) < FEW else "lines"
        return [go.Scatter(x=steps, y=values, name=word(name), mode=mode, line=style, marker={"size": 5})]
    means = [rounded(value) for value in thin.smoothed(wide).values]
    traces = [go.Scatter(x=steps, y=means, name=word(name), mode="lines", line=style, legendgroup=word(name))]
    if faint:
        behind = go.Scatter(
            x=steps, y=values, name=word(name), mode="lines", line={"color": colour, "width": 1}, opacity=0.28,
            showlegend=False, hoverinfo="skip", legendgroup=word(name),
        )  # fmt: skip
        traces.insert(0, behind)
    return traces


def running(curve: Curve) -> int:
    """Over how many points the mean of a curve runs; 1 where it is drawn as it is."""
    points = len(curve.thinned().steps)
    return 1 if points < FEW else max(3, points // 25)


def rounded(value: float) -> float:
    """Five digits, which is more than a plot shows."""
    return float(f"{value:.5g}")


def verdict_colour(name: str) -> str:
    """By the verdict's name with spaces or underscores."""
    return COLOURS.get(name.replace(" ", "_"), COLOURS["unjudged"])
