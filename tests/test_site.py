"""The documentation site: it builds without a warning and without network, and its links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r'(?:href|src)="([^"]+)"')

pytest.importorskip("sphinx", reason="the site needs Sphinx and Python 3.11: pip install 'scd-plugin[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"\$\(BIN\)/python (-m sphinx .*) docs/_build/html", (ROOT / "Makefile").read_text())
    done = subprocess.run(
        [sys.executable, *command.split(), str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there_and_reached(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    assert {path for path in pages if not (site / path).with_suffix(".html").exists()} == set()
    first = (site / "index.html").read_text(encoding="utf-8")
    assert "nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerSCD" in re.sub(r"<[^>]+>", "", first)
    assert 'href="how-to/README.html"' in first


@pytest.mark.slow
def test_links_lead_to_pages_headings_and_files(site: Path) -> None:
    ids = {page: set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8"))) for page in pages_of(site)}
    broken = []
    for page in ids:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if link.startswith(("http", "mailto:", "data:")):
                continue
            name, _, heading = link.partition("#")
            name = name.split("?")[0]
            path = Path(name.removeprefix("file://")) if name.startswith("file://") else (page.parent / name).resolve()
            target = path if name else page
            if not target.exists() or (heading and target in ids and heading not in ids[target]):
                broken.append((page.name, link))
    assert broken == []


@pytest.mark.slow
def test_every_public_name_has_a_reference(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    import scd_plugin
    from scd_plugin.nnunet.planning.planner import PLANNERS
    from scd_plugin.nnunet.trainers import TRAINERS

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    known = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    text = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *DOCS.rglob("*.md")])
    imported = {
        f"{module}.{name}"
        for module, names in re.findall(r"^from (scd_plugin[\w.]*) import ([\w, ]+)$", text, re.M)
        for name in names.split(", ")
    }
    public = {f"scd_plugin.{name}" for name in scd_plugin.__all__ if not name.startswith("_")}
    hosts = {f"scd_plugin.nnunet.trainers.{name}" for name in TRAINERS}
    hosts |= {f"scd_plugin.nnunet.planning.planner.{name}" for name in PLANNERS}
    assert len(imported) > 5
    assert imported | public | hosts <= known
    commands = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert "--save-probabilities" in commands
    assert "scd bridge to-nnunet" in commands


@pytest.mark.slow
def test_search_knows_the_words_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index.removeprefix("Search.setIndex(").rstrip(";\n").removesuffix(")"))
    assert any(found["docnames"][number] == "how-to/export" for number in as_list(found["terms"]["torchscript"]))
    for page in pages_of(site):
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text(encoding="utf-8"))
        assert loaded == [], page


def pages_of(site: Path) -> list[Path]:
    return [page for page in site.rglob("*.html") if "_static" not in page.parts]


def as_list(value: int | list[int]) -> list[int]:
    return value if isinstance(value, list) else [value]
