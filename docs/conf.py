"""Settings of the documentation site: `make docs` builds it from the Markdown in this folder, without network."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from scd_plugin import __version__

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
README = REPOSITORY / "README.md"
PAGES_AND_PICTURES = (".md", ".png")
LINK = re.compile(r"\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")

# where files are shown that are no pages of the site: the project's page in a workflow, this clone elsewhere
SOURCE = (
    "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/blob/{GITHUB_SHA}".format_map(os.environ)
    if "GITHUB_SHA" in os.environ
    else REPOSITORY.as_uri()
)

project = "scd-plugin"
author = "The scd-plugin authors"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 3  # links to headings as on GitHub
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": f"{SOURCE}/{{{{path}}}}"}

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}


def link_of(target: str, written_in: Path, shown_in: Path) -> str:
    """A link of one page as another shows it: to the page, or to the source of what is no page of the site.

    Args:
        target: what the link says, without `#...`; what is no path stays.
        written_in: folder of the page with the link.
        shown_in: folder of the page of the site.
    """
    path = (written_in / target).resolve()
    if not path.exists():
        return target
    if path.is_relative_to(DOCS) and path.suffix in PAGES_AND_PICTURES:
        return os.path.relpath(path, shown_in)
    return f"source:{path.relative_to(REPOSITORY)}"


def contents(text: str) -> str:
    """The navigation of a folder's README: the pages that it links to, in its order."""
    pages = [name for name, _ in LINK.findall(text) if name.endswith(".md")]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *dict.fromkeys(pages), "```", ""])


def page_of(text: str, written_in: Path, shown_in: Path) -> str:
    """The text of a page with the site's links."""
    return LINK.sub(lambda link: f"]({link_of(link[1], written_in, shown_in)}{link[2]})", text)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Make a page of the site of one of the repository; the first one is the project's README."""
    folder = (DOCS / name).parent
    text = page_of(source[0], folder, folder)
    if name.endswith("README"):
        text += contents(text)
    if name == "index":
        text = page_of(README.read_text(encoding="utf-8"), REPOSITORY, DOCS) + text
        app.env.note_dependency(README)
    source[0] = text


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", read_page)
