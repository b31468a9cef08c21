"""The wheel in an environment of its own: trainers found, nothing left after uninstalling."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

FIND = """
import os, pickle, sys
import nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
found = recursive_find_trainer_class_by_name(sys.argv[1])
assert found is not None and found.__name__ == sys.argv[1], found
assert pickle.loads(pickle.dumps(found)) is found
folder = os.path.join(nnunetv2.__path__[0], "training", "nnUNetTrainer")
assert recursive_find_python_class(folder, sys.argv[1], "nnunetv2.training.nnUNetTrainer") is found
planning = os.path.join(nnunetv2.__path__[0], "experiment_planning")
assert recursive_find_python_class(planning, "nnUNetPlannerSCD_small", "nnunetv2.experiment_planning") is not None
print(found.__module__, nnunetv2.__path__[0])
"""


def environment() -> dict[str, str]:
    """No variable of nnU-Net's set, no path that leads to this repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet_", "PYTHONPATH"))}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with our wheel; what we depend on is borrowed from this one by a path."""
    folder = tmp_path_factory.mktemp("install")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    site = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    subprocess.run([sys.executable, *wheel, "-w", str(folder), str(REPOSITORY)], check=True)
    install = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "-q"]
    subprocess.run([*install, *map(str, folder.glob("*.whl"))], check=True)
    return python


def find(python: Path, trainer: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-c", FIND, trainer],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env={**environment(), **variables},
        check=False,
    )


def test_found_with_no_variable_set(python: Path) -> None:
    result = find(python, "nnUNetTrainerSCD_small")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("scd_plugin.nnunet.trainers.")


def test_found_beside_an_editable_clone_of_nnunet(python: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("nnunetv2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shutil.copytree(spec.submodule_search_locations[0], tmp_path / "clone" / "nnunetv2")
    # what an editable install of a clone does: its folder goes on the path
    result = find(python, "nnUNetTrainerSCD", PYTHONPATH=str(tmp_path / "clone"))
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "clone") in result.stdout


def test_found_through_the_variable(python: Path) -> None:
    site = Path(subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip())  # fmt: skip
    folder = site / "scd_plugin_ext_trainer"
    assert folder.is_dir()
    result = find(python, "nnUNetTrainerSCD_dense", nnUNet_extTrainer=str(folder))
    assert result.returncode == 0, result.stderr


def test_the_template_of_the_report_comes_along(python: Path) -> None:
    code = "from importlib.resources import files; print(files('scd_plugin.report') / 'report.html.jinja')"
    run = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, cwd=python.parent)
    template = Path(run.stdout.strip())
    assert template.is_relative_to(python.parents[1])
    assert template.is_file()


def test_uninstall_leaves_nothing(python: Path) -> None:
    # the last test of this module: it empties the environment
    uninstall = [str(python), "-m", "pip", "uninstall", "-y", "-q", "--disable-pip-version-check", "scd-plugin"]
    subprocess.run(uninstall, check=True)
    left = [path for path in (python.parents[1]).rglob("*scd*") if "borrowed" not in path.name]
    assert left == []
    assert not (python.parent / "scd").exists()
