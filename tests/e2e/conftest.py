"""nnU-Net's commands, run as a user runs them: each in a process of its own, with nothing but variables in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@dataclass
class NnunetFolders:
    """The three folders, and commands that use them."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
            self.variables[name] = str(self.root / name)
        self.variables["nnUNet_n_proc_DA"] = "1"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        """Output of a command that must succeed."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, f"{' '.join(words)}\n{output[-4000:]}"
        return output


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> NnunetFolders:
    return NnunetFolders(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def hippocampus(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten real cases for training and two to predict, in the layout of the Medical Segmentation Decathlon."""
    source = shared("data/Task04_Hippocampus")
    folder = tmp_path_factory.mktemp("msd") / "Task04_Hippocampus"
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = description["training"][:10]
    description["numTraining"] = 10
    description["test"] = []
    description["numTest"] = 0
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    for case in description["training"]:
        for kind in ("image", "label"):
            (folder / case[kind]).symlink_to((source / case[kind]).resolve())
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder
