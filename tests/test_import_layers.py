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
LAYERS = {
    "folders": -1,
    "complete_files": -1,
    "switches": -1,
    "quick_imports": -1,
    "whole_files": 0,
    "channel_files": 0,
    "dataset_layout": 0,
    "voxel_values": 0,
    "reader_errors": -1,
    "dicom_series": 0,
    "processor": 0,
    "freed_memory": 0,
    "stopping": 0,
    "command_group": 1,
    "ops": 1,
    "blocks": 2,
    "networks": 3,
    "measure": 4,
    "nnunet": 5,
    "monai": 5,
    "bench": 5,
    "report": 6,
    "bridge": 7,
    "demo": 7,
    "cli": 8,
}
# the same inside of a host
ROOMS = {
    "nnunet": {
        "token_targets": -1,
        "planning": 0,
        "model": 0,
        "augmentation": 0,
        "trainers": 1,
        "predict": 2,
        "findings": 2,
        "doctor": 3,
    },
    "monai": {
        "plain_text": -1,
        "command_line": -1,
        "path_option": -1,
        "dataset": 0,
        "errors": 0,
        "bundle_configs": 0,
        "weights": 0,
        "inference_bar": 0,
        "keep_maps": 1,
        "training": 1,
        "export": 1,
        "runner": 1,
        "audit": 2,
    },
    "report": {
        "kinds": -1,
        "run": 0,
        "volume": 0,
        "colours": 0,
        "scores": 1,
        "predictions": 1,
        "training": 2,
        "bundle": 2,
        "cases": 2,
        "ranking": 3,
        "pictures": 3,
        "charts": 3,
        "page": 4,
        "write": 5,
    },
    "bridge": {
        "movable_model": 0,
        "movable_network": 0,
        "runtime": 1,
        "bundle_files": 1,
        "from_monai": 2,
        "to_monai": 2,
        "to_nnunet": 3,
        "export_model": 3,
    },
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in LAYERS)


def part_of(module: str) -> str | None:
    words = module.split(".")
    return words[1] if words[0] == "scd_plugin" and len(words) > 1 else None


def imported_modules(source: str) -> set[str]:
    """Names of modules; from the top package the names that are taken from it, which may be modules or not."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            modules |= {f"{module}.{alias.name}" for alias in node.names} if module == "scd_plugin" else {module}
    return modules


def violations(source: str, own: str) -> list[str]:
    """What a file of the part `own` must not import: upwards, sideways, or networks by way of the top package."""
    ours = [module for module in imported_modules(source) if module.split(".")[0] == "scd_plugin"]
    return sorted(
        module
        for module in ours
        if module != "scd_plugin.__version__" and part_of(module) != own
        # what the top package re-exports is no part, and stands above all of them
        if LAYERS.get(part_of(module) or "", max(LAYERS.values())) >= LAYERS[own]
    )


def test_files_were_found() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert violations(path.read_text(encoding="utf-8"), own) == []


@pytest.mark.parametrize("host", ROOMS)
def test_rooms_of_a_host_point_down(host: str) -> None:
    layers, wrong = ROOMS[host], []
    for path in (PACKAGE / host).rglob("*.py"):
        own = path.relative_to(PACKAGE / host).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for module in imported_modules(path.read_text(encoding="utf-8")):
            words = module.split(".")
            room = words[2] if words[:2] == ["scd_plugin", host] and len(words) > 2 else own
            if room != own and layers[room] >= layers[own]:
                wrong.append(f"{path.name}: {module}")
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "own", "wrong"),
    [
        ("from scd_plugin.blocks import ScorePredictor", "networks", []),
        ("from scd_plugin import __version__", "nnunet", []),
        ("from scd_plugin import ops", "blocks", []),
        ("from scd_plugin.processor import bfloat16_instructions", "bench", []),
        ("from scd_plugin.ops import tokens", "processor", ["scd_plugin.ops"]),
        ("from scd_plugin.networks.encoder import SparseViT", "networks", []),
        ("from scd_plugin.networks import SCDUNETR", "blocks", ["scd_plugin.networks"]),
        ("import scd_plugin.monai.dataset.data", "nnunet", ["scd_plugin.monai.dataset.data"]),
        ("from scd_plugin import SCDUNETR", "bench", ["scd_plugin.SCDUNETR"]),
        ("import scd_plugin", "bench", ["scd_plugin"]),
        ("def f():\n    from scd_plugin import cli", "demo", ["scd_plugin.cli"]),
    ],
)
def test_what_counts_as_pointing_down(source: str, own: str, wrong: list[str]) -> None:
    assert violations(source, own) == wrong


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [("ops", "monai"), ("ops", "timm"), ("ops", "nnunetv2"), ("blocks", "nnunetv2"), ("networks", "nnunetv2")],
)
def test_core_does_not_know_its_hosts(part: str, forbidden: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        modules = imported_modules(path.read_text(encoding="utf-8"))
        assert not [module for module in modules if module.split(".")[0] == forbidden], path


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("scd_plugin", {"nnunetv2", "matplotlib"}),
        # a process of its own loads MONAI, which takes seconds
        pytest.param("scd_plugin.nnunet.planning.token_sizes", {"nnunetv2"}, marks=pytest.mark.slow),
        # the first case is prepared while MONAI is loaded
        pytest.param("scd_plugin.nnunet.predict.run", {"monai"}, marks=pytest.mark.slow),
    ],
)
def test_importing_is_light(module: str, without: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "scd_plugin" in loaded
    assert without.isdisjoint(loaded)


def test_unknown_names_fail_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'scd_plugin' has no attribute 'Nothing'"):
        scd_plugin.Nothing  # noqa: B018
