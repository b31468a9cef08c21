"""The one way down: plans/config, ops -> blocks -> networks -> adapters -> command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scd_plugin

PACKAGE = Path(__file__).parents[1] / "scd_plugin"
# a part may import parts with a smaller number; parts of the same number do not know each other
LAYERS = {"ops": 1, "blocks": 2, "networks": 3, "nnunet": 4, "monai": 4, "bench": 4, "bridge": 5, "demo": 5, "cli": 6}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name == "cli.py")


def part_of(module: str) -> str | None:
    words = module.split(".")
    return words[1] if words[0] == "scd_plugin" and len(words) > 1 else None


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            modules.add(node.module or "")
    return modules


def test_files_were_found() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for module in imported_modules(path):
        other = part_of(module)
        if other is not None and other != own:
            assert LAYERS[other] < LAYERS[own], f"{own} imports {module}"


@pytest.mark.parametrize(("part", "forbidden"), [("ops", "monai"), ("ops", "timm"), ("networks", "nnunetv2")])
def test_core_does_not_know_its_hosts(part: str, forbidden: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        assert not [module for module in imported_modules(path) if module.split(".")[0] == forbidden], path


def test_importing_the_package_is_light() -> None:
    code = "import sys, scd_plugin; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "scd_plugin" in loaded
    assert {"nnunetv2", "matplotlib"}.isdisjoint(loaded)


def test_unknown_names_fail_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'scd_plugin' has no attribute 'Nothing'"):
        scd_plugin.Nothing  # noqa: B018
