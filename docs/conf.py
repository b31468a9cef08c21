"""Settings of the documentation site: `make docs` builds it from the Markdown in this folder, without network."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from scd_plugin import __version__
from scd_plugin.cli import app as commands
from scd_plugin.networks.presets import PRESETS

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
README = REPOSITORY / "README.md"
PAGES_AND_PICTURES = (".md", ".png", ".jpg")
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
# types of other packages, whose inventories would have to be fetched
nitpick_ignore_regex = [("py:.*", r"(torch|ignite|nn|np|numpy|monai|nnunetv2|pathlib|collections|typing)\..*")]
nitpick_ignore = [
    ("py:class", "Tensor"),
    # passed on, not for use
    ("py:class", "scd_plugin.nnunet.predict.bars.PredictionProgress"),
]
default_role = "code"
autodoc_member_order = "bysource"

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
    """The navigation of a folder's README: the pages that begin the rows of its tables, in their order."""
    return "\n".join(
        ["", "```{toctree}", ":hidden:", "", *re.findall(r"^\| \[[^]]+\]\(([^)]+\.md)\)", text, re.M), "```", ""]
    )


def page_of(text: str, written_in: Path, shown_in: Path) -> str:
    """The text of a page with the site's links."""
    return LINK.sub(lambda link: f"]({link_of(link[1], written_in, shown_in)}{link[2]})", text)


def presets() -> str:
    """Every preset in a table."""
    shown = ("hidden_size", "size", "num_layers", "prune_after", "keep_ratio", "decoder")
    rows = [["Preset", "Network", *shown]]
    for name, preset in PRESETS.items():
        rows.append([f"`{name}`", f"`{preset.network}`", *(str(preset.arguments.get(key, "")) for key in shown)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def command_line() -> str:
    """Every command of `scd` with its options."""
    command = get_command(commands)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="scd")
    return text.partition("\n")[2].replace("```console", "```text")


MADE = {"reference/presets": presets, "reference/command-line": command_line}


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Make a page of the site of one of the repository; the first one is the project's README."""
    folder = (DOCS / name).parent
    text = page_of(source[0], folder, folder)
    if name.endswith("README"):
        text += contents(text)
    if name == "index":
        text = page_of(README.read_text(encoding="utf-8"), REPOSITORY, DOCS) + text
        app.env.note_dependency(README)
    if name in MADE:
        text += f"\n{MADE[name]()}\n"
    source[0] = text


def settings_alone(app: Sphinx, kind: str, name: str, _value: object, skip: bool, _options: object) -> bool | None:
    """Of trainers and planners show no methods: they are nnU-Net's, overridden."""
    del skip
    of_class = kind in ("class", "method", "attribute") and app.env.current_document.docname == "reference/trainers"
    is_setting = name.rpartition(".")[2].startswith(("scd_", "nnUNet"))
    return True if of_class and not is_setting else None


def without_arguments(app: Sphinx, kind: str, *_: object) -> tuple[str, str | None] | None:
    """Trainers and planners are called by nnU-Net, with its arguments."""
    if kind == "class" and app.env.current_document.docname == "reference/trainers":
        return "", None
    return None


def escape_stars(_app: Sphinx, _kind: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """In shapes such as (B, *grid) a star is a star."""
    lines[:] = [re.sub(r"\*(?=\w+[,)])", r"\\*", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", escape_stars)
    app.connect("autodoc-process-signature", without_arguments)
    app.connect("autodoc-skip-member", settings_alone)
