"""How these pages become a site, by Sphinx: `docs/build` does it.

The pages are plain Markdown that a forge shows as well: every link is one between files. What a site needs besides is
made here: the navigation, of the links of index.md, and a page of the reference for each room of the package.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PAGE_OF_ROOMS = ROOT / "docs" / "api.md"
ROOMS = re.findall(r"^\| \[`([\w.]+)`\]", PAGE_OF_ROOMS.read_text(encoding="utf-8"), flags=re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.md\)")  # to another page

project = "fgvr"
author = "the authors of fgvr"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["README.md", "docs/**", "slurm/README.md", "benchmarks/gpu/*.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["build", "runs", "data", "exports", "photos", "**/.*", ".*"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 4
suppress_warnings = ["toc.not_included"]  # measurements are linked from the pages that tell of them

html_theme = "furo"  # of the system's own fonts and of files that lie beside the pages: nothing is asked of a network
html_title = "fgvr"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []
pygments_style = "friendly"

autodoc_inherit_docstrings = False  # what Lightning says of its own hooks stands in Lightning's own pages
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
add_module_names = False


def contents(page: str, links: list[tuple[str, str]], caption: str = "") -> str:
    """A table of contents that the site shows at the side: `links` are titles and paths, as `page` has them."""
    entries = [
        f"{title} </{posixpath.normpath(posixpath.join(posixpath.dirname(page), path))}>" for title, path in links
    ]
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "", "```{toctree}", *options, "", *dict.fromkeys(entries), "```"])


def with_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The links of the home page, section by section, and of a folder's README.md are the navigation."""
    if page == root_doc:
        for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
            source[0] += contents(page, LINK.findall(section), section.partition("\n")[0])
    elif page == "docs/api":
        source[0] = re.sub(r"\[`([\w.]+)`\]\([^)]*\)", r"[`\1`](api/\1.rst)", source[0])  # a forge has the code there
        source[0] += contents(page, [(room, f"api/{room}") for room in ROOMS])
    elif page.startswith("docs/") and page.endswith("/README"):
        source[0] += contents(page, [(title, path) for title, path in LINK.findall(source[0]) if "/" not in path])


def write_reference(app: Sphinx) -> None:
    folder = ROOT / "docs" / "api"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.stem not in ROOMS:
            path.unlink()
    for room in ROOMS:
        page = f"{room}\n{'=' * len(room)}\n\n.. automodule:: {room}\n"
        path = folder / f"{room}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")


def as_restructured(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings here are prose with `names`: what reStructuredText would read into it otherwise is taken out."""
    text = "\n".join(lines)
    held: list[str] = []

    def hold(found: re.Match[str]) -> str:
        held.append(found[1])
        return f"\0{len(held) - 1}\0"

    text = re.sub(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", hold, text)
    text = re.sub(r"([*|\\_])", r"\\\1", text)
    text = re.sub(r"\0(\d+)\0", lambda found: f"``{' '.join(held[int(found[1])].split())}``", text)
    lines[:] = text.split("\n")


def without_object(app: Sphinx, page: nodes.document) -> None:
    """What a class comes of is said where it is more than any object."""
    for said in [paragraph for paragraph in page.findall(nodes.paragraph) if paragraph.astext() == "Bases: object"]:
        said.parent.remove(said)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_reference)
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-docstring", as_restructured)
    app.connect("doctree-read", without_object)
