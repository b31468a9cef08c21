from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scd_plugin.demo import session


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Three folders where a command may lie: Python's own, that of its scripts, one on the PATH."""
    made = {name: tmp_path / name for name in ("python", "scripts", "path")}
    for folder in made.values():
        folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(made["python"] / "python"))
    monkeypatch.setattr(session.sysconfig, "get_path", lambda _name: str(made["scripts"]))
    monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}{made['path']}")
    return made


def put(folder: Path) -> str:
    file = folder / "nnUNetv2_train"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def test_command_beside_python_comes_first_then_scripts_then_path(folders: dict[str, Path]) -> None:
    for name in ("path", "scripts", "python"):
        program = put(folders[name])
        assert session._program("nnUNetv2_train") == program


def test_command_that_is_nowhere(folders: dict[str, Path]) -> None:
    places = f"{folders['python']} or {folders['scripts']}"
    with pytest.raises(ValueError, match=f"nnUNetv2_train is not in {places}, nor on the PATH: install nnunetv2"):
        session._program("nnUNetv2_train")


def test_python_is_this_one_whatever_it_is_called(folders: dict[str, Path]) -> None:
    # Debian has no command called python
    assert session._program("python") == str(folders["python"] / "python")
