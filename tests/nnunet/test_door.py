"""The import hook that lets nnU-Net find our names, tried on a stand-in for nnU-Net's modules."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SITE = Path(__file__).parents[2] / "nnunet_trainers" / "site"


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The hook, opening the module `host_app.finder` for names that begin with `Wanted`."""
    (tmp_path / "host_app").mkdir()
    (tmp_path / "host_app" / "__init__.py").touch()
    (tmp_path / "host_app" / "finder.py").write_text("own = 1\n")
    (tmp_path / "guest_home.py").write_text("class WantedTrainer: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("scd_door_under_test", SITE / "scd_plugin_startup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOORS", {"host_app.finder": ("Wanted", "guest_home")})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    module.install()
    yield module
    for name in ("host_app", "host_app.finder", "guest_home"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("door")
def test_our_names_are_found_and_belong_to_their_home() -> None:
    finder = importlib.import_module("host_app.finder")
    assert "guest_home" not in sys.modules
    assert finder.WantedTrainer.__module__ == "guest_home"
    assert finder.own == 1


@pytest.mark.usefixtures("door")
def test_other_names_are_missing_as_before() -> None:
    finder = importlib.import_module("host_app.finder")
    with pytest.raises(AttributeError, match=r"module 'host_app.finder' has no attribute 'Elsewhere'"):
        finder.Elsewhere  # noqa: B018
    assert not hasattr(finder, "__wrapped__")


def test_other_modules_are_left_alone(door: ModuleType) -> None:
    assert door.NnunetDoor.find_spec("json") is None
    assert door.NnunetDoor.find_spec("host_app") is None


@pytest.mark.parametrize("way", ["import_module('{}').__dict__", "run_module('{}', run_name='tried')"])
def test_pretrained_weights_are_ours_however_a_training_starts(way: str) -> None:
    """By nnU-Net's command, and by `python -m`."""
    look = f"{way.format('nnunetv2.run.run_training')}['load_pretrained_weights'].__wrapped__"
    script = f"from importlib import import_module; from runpy import run_module; print({look}.__module__)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "nnunetv2.run.load_pretrained_weights"


def test_installed_once(door: ModuleType) -> None:
    before = len(sys.meta_path)
    door.install()
    assert len(sys.meta_path) == before


def test_no_host_no_spec(door: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DOORS", {"not_installed.finder": ("Wanted", "guest_home")})
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        importlib.import_module("not_installed.finder")


def test_doors_open_on_modules_that_nnunet_has() -> None:
    from scd_plugin_startup import DOORS

    pytest.importorskip("nnunetv2")
    for module, (prefix, home) in DOORS.items():
        names = [name for name in importlib.import_module(home).__all__ if name.startswith(prefix)]
        assert names
        for name in names:
            assert getattr(importlib.import_module(module), name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("theirs", ["nnUNetTrainerOfTheirs", "nnUNetTrainerSCD_of_theirs"])
def test_beside_a_folder_of_other_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str) -> None:
    pytest.importorskip("nnunetv2")
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_small

    (tmp_path / "their_trainers.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        f"class {theirs}(nnUNetTrainer): pass\n"
    )
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    assert recursive_find_trainer_class_by_name("nnUNetTrainerSCD_small") is nnUNetTrainerSCD_small
    found = recursive_find_trainer_class_by_name(theirs)
    assert found.__name__ == theirs
    assert found.__bases__ == (nnUNetTrainer,)
