"""Python in the documents runs, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def scripts(page: Path) -> list[str]:
    """The Python of a page: each block by itself, in a tutorial all of them as one script."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return ["\n".join(blocks)] if blocks and page.parent.name == "tutorials" else blocks


SNIPPETS = [
    pytest.param(code, id=f"{page.relative_to(REPOSITORY)}-{number}")
    for page in PAGES
    for number, code in enumerate(scripts(page))
]


def test_there_are_pages_and_snippets() -> None:
    assert len(PAGES) > 8
    assert len(SNIPPETS) >= 3
    assert sum("docs/tutorials/" in str(snippet.id) for snippet in SNIPPETS) == 3


@pytest.mark.slow
@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_code_that_is_named_is_there(page: Path) -> None:
    """File names such as `networks/family.py`; what begins with a home folder or stands in a snippet is a user's."""
    of_users = ("app.py", "my_file.py")
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    known = [
        str(path.relative_to(REPOSITORY))
        for room in ("scd_plugin", "tests", "benchmarks", "nnunet_trainers")
        for path in (REPOSITORY / room).rglob("*.py")
    ]
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any(f"/{path}".endswith(f"/{name}") for path in known) or name in of_users, name
