"""Workflows, issue forms and hooks: they are what they claim, and name commands that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def content(name: str) -> Any:
    (path,) = (file for file in FILES if file.name == name)
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_commands_of_make_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= TARGETS


def test_python_versions_are_those_that_are_promised() -> None:
    tested = content("tests.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lowest, highest = re.search(r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", makefile).groups()  # type: ignore[union-attr]
    assert tested[0] == lowest.replace(", ", ".")
    assert tested[-1] == highest.replace(", ", ".")
    assert f'requires-python = ">={tested[0]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_test_runs_somewhere() -> None:
    jobs = content("tests.yml")["jobs"]
    runs = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert "make lint" in runs["lint"]
    assert '-m "not slow and not integration"' in runs["unit"]
    assert '-m "slow and not integration"' in runs["slow"]


def test_a_bug_report_asks_for_the_doctor() -> None:
    fields = {field.get("id"): field for field in content("bug.yml")["body"]}
    assert "`scd doctor`" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_hooks_are_the_checks_of_lint() -> None:
    (repo,) = content(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repo["hooks"]] == ["make lint"]
