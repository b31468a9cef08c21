"""The tutorials that go from a folder of images to a report and on to 3D Slicer, block by block, as a reader would."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
REPORT, SLICER = TUTORIALS / "images-to-report.md", TUTORIALS / "nnunet-to-slicer.md"
# the heading from which MONAI Label is needed
LABEL = "## 2. "


def blocks(text: str) -> list[list[str]]:
    """Command lines of the Python and bash blocks."""
    return [
        [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", block]
        for language, block in re.findall(r"```(python|bash)\n(.*?)```", text, flags=re.DOTALL)
    ]


def environment(**more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }


def follow(text: str, folder: Path) -> str:
    """Run the blocks of a page; what they said."""
    said = ""
    for words in blocks(text):
        done = subprocess.run(
            words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        said += done.stdout
    return said


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which the first tutorial was followed, and what its blocks said."""
    folder = tmp_path_factory.mktemp("tutorial")
    return folder, follow(REPORT.read_text(encoding="utf-8"), folder)


@pytest.fixture(scope="module")
def moved(report: tuple[Path, str]) -> tuple[Path, str]:
    """The same for the second tutorial, up to where MONAI Label is needed."""
    folder, _ = report
    return folder, follow(SLICER.read_text(encoding="utf-8").partition(LABEL)[0], folder)


@pytest.fixture
def server(moved: tuple[Path, str]) -> Iterator[tuple[Path, str]]:
    """Starts the tutorial's server; the folder, and what it said until it was ready."""
    if importlib.util.find_spec("monailabel") is None:
        pytest.skip("monailabel is not installed: docs/how-to/monai-label.md says how, in an environment of its own")
    folder, _ = moved
    before, start, _ = re.split(r"(?m)^## [34]\. ", SLICER.read_text(encoding="utf-8").partition(LABEL)[2])
    follow(before, folder)
    ((*words,),) = blocks(start)
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(HOME=str(folder)), stdout=output, stderr=output, start_new_session=True
        )
    try:
        ready = time.monotonic() + 300
        while "Application startup complete" not in log.read_text() and time.monotonic() < ready:
            assert process.poll() is None, log.read_text()[-4000:]
            time.sleep(0.5)
        assert "Application startup complete" in log.read_text(), log.read_text()[-4000:]
        yield folder, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C
        process.wait(60)


def test_images_to_report(report: tuple[Path, str]) -> None:
    folder, said = report
    assert "mean" in said
    assert (folder / "training" / "report.html").stat().st_size > 10_000
    made = {path.relative_to(folder / "predictions").as_posix() for path in (folder / "predictions").rglob("*.*")}
    named = re.findall(r"`predictions/([\w/.]+)`", REPORT.read_text(encoding="utf-8"))
    assert {"ball_6.nii.gz", "report.html", "statistics.csv", "keep_maps"} == set(named)
    assert {*named, "ball_7.nii.gz", "keep_maps/ball_7.nii.gz"} - {"keep_maps"} <= made


def test_nnunet_to_bundle(moved: tuple[Path, str]) -> None:
    folder, said = moved
    assert "balls: see docs/README.md there for how to run it" in said
    assert sorted(path.name for path in (folder / "by_bundle").iterdir()) == ["ball_6.nii.gz", "ball_7.nii.gz"]


def test_bundle_to_monai_label(server: tuple[Path, str]) -> None:
    folder, log = server
    assert "Label: ball => 1" in log
    page = SLICER.read_text(encoding="utf-8")
    said = follow(page[page.index("## 4. ") :], folder)
    assert '"labels":{"ball":1}' in (folder / "info.json").read_text()
    assert said.splitlines() == [f"ball_{number}: 0 of 64000 voxels differ" for number in (6, 7)]
    # what patients' images become stays out of the model's folder
    assert not (folder / "apps" / "monaibundle" / "model" / "balls" / "eval").exists()
