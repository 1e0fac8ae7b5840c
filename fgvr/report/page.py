"""A report put together as one file of HTML, which asks nothing of a network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

import fgvr
from fgvr.errors import shown
from fgvr.report.parts import Deck, Part
from fgvr.report.plots import Plot

PAGES = Path(__file__).parent / "pages"
OPEN_ROWS = 32  # of a table that is not folded away
LONG = 24  # letters from which on a name may be broken
# what would end a script's element early or change how it is read, wherever it stands within JSON's own quotes
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def report_page(parts: Sequence[Part], photos: Sequence[Mapping[str, str]], title: str, said: str) -> bytes:
    """The page of these parts; `photos` are those of each run, by uid, as data: addresses.

    All that a model or a data set says stands in it as text: in the markup escaped, in the data as JSON whose marks are
    escaped, which the page's script only ever puts in place as text. What is neither of its own two scripts is not run,
    and nothing is fetched, as its content security policy says.
    """
    there, absent = [part for part in parts if part.is_there], [part for part in parts if not part.is_there]
    script, plotly = own_script(), plotly_script() if any(part.plots for part in there) else ""
    page = (
        _templates()
        .get_template("report.html")
        .render(
            title=visible(title),
            said=visible(said),
            version=fgvr.__version__,
            parts=there,
            absent=absent,
            blocks=[_block(f"photos-{number}", own) for number, own in enumerate(photos)],
            policy=policy(script, plotly),
            style=Markup((PAGES / "report.css").read_text("utf-8")),
            script=Markup(script),
            plotly=Markup(plotly),
            open_rows=OPEN_ROWS,
        )
    )
    return page.encode("utf-8", "backslashreplace")


def policy(*scripts: str) -> str:
    """A content security policy under which these scripts run and nothing else does."""
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts if one)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; "
        "form-action 'none'"
    )


def as_data(value: Any) -> Markup:
    """JSON that may stand in an element of HTML; raises ValueError for NaN."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(re.sub("[<>&\u2028\u2029]", lambda mark: UNSAFE[mark[0]], text))


def visible(text: str) -> str:
    """Text from data without what is obeyed rather than seen."""
    return shown(text, keep="\n\t")


@cache
def own_script() -> str:
    return (PAGES / "report.js").read_text("utf-8")


@cache
def plotly_script() -> str:
    """Plotly's own library, as it comes with the package. Raises ValueError if it could end its element early."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    if re.search(r"</script|<!--", script, re.IGNORECASE):
        raise ValueError("Plotly's script must not hold what ends a script's element")
    return script


def _block(key: str, value: Any) -> Markup:
    return Markup('<script type="application/json" id="{}">{}</script>').format(key, as_data(value))


def _plot_data(plot: Plot) -> Markup:
    return as_data(plot.figure)


def _deck_data(deck: Deck) -> Markup:
    return as_data(deck.data)


def breakable(text: str) -> Markup:
    """Text that may go on in the next line behind the dots and slashes of a long name, as of a setting or a path."""
    parts = re.split(r"(?<=[./])", visible(text)) if len(text) > LONG else [visible(text)]
    return Markup("<wbr>").join(parts)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fgvr.report", "pages"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters |= {"plot_data": _plot_data, "deck_data": _deck_data, "breakable": breakable}
    return environment
