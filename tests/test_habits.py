"""Workflows, issue forms and hooks: they are what they claim, and name commands that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
    assert "make docs" in " ".join(step.get("run", "") for step in content("docs.yml")["jobs"]["site"]["steps"])


def test_coverage_has_a_floor_that_a_workflow_holds() -> None:
    steps = content("tests.yml")["jobs"]["unit"]["steps"]
    conditions = {step["run"]: step.get("if", "") for step in steps if "run" in step}
    assert conditions["make coverage"] == "matrix.python == '3.11'"
    assert set(conditions.values()) == {"matrix.python == '3.11'", "matrix.python != '3.11'"}
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r"^\[tool\.coverage\.report\][^\[]*^fail_under = \d+$", settings, flags=re.MULTILINE)
    recipe = re.search(r"^coverage:.*\n\t(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert recipe is not None
    assert " --cov " in recipe[1]
    assert "--cov-fail-under" not in recipe[1], "the floor stands in pyproject.toml alone"


def test_image_holds_what_the_wheel_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packed = re.findall(r'^"([^"]+)" = "', settings[settings.index("force-include]") :].split("\n\n")[0], re.MULTILINE)
    assert packed
    assert all(name.split("/")[0] in copied for name in packed)
    assert "USER scd" in lines


def test_a_bug_report_asks_for_the_doctor() -> None:
    fields = {field.get("id"): field for field in content("bug.yml")["body"]}
    assert "`scd doctor`" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_hooks_are_the_checks_of_lint() -> None:
    (repo,) = content(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repo["hooks"]] == ["make lint"]


def test_what_is_trained_once_stays_with_one_worker(tmp_path: Path) -> None:
    """Else fixtures that train are made by every worker, and nothing says so: pytest-xdist groups by a private name."""
    (tmp_path / "test_group.py").write_text(
        "import pytest\n\n\n@pytest.mark.xdist_group('one')\n@pytest.mark.parametrize('i', range(6))\n"
        "def test_worker(i, worker_id):\n    open(f'{worker_id}.seen', 'w').close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    words = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-q", "test_group.py"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=120, capture_output=True)
    assert len(list(tmp_path.glob("*.seen"))) == 1
