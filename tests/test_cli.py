from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scd_plugin import __version__
from scd_plugin.cli import app
from scd_plugin.demo import run as demo_run


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"scd-plugin {__version__}\n"


def test_bad_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    result = CliRunner().invoke(app, ["demo", "--data", str(tmp_path / "mine"), "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the data must be a Medical Segmentation Decathlon task or an nnU-Net raw")
    assert str(tmp_path) in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("passed", "exit_code"), [(True, 0), (False, 1)])
def test_exit_code_says_whether_the_demo_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, passed: bool, exit_code: int
) -> None:
    seen: dict[str, object] = {}

    def run(data: Path | None, output: Path, **how: object) -> bool:
        seen.update(data=data, output=output, **how)
        return passed

    monkeypatch.setattr(demo_run, "run_demo", run)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == exit_code
    assert seen == {"data": None, "output": tmp_path, "device": "cpu", "model_to_try": None}


def test_failed_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import subprocess

    def run(*_: object, **__: object) -> bool:
        raise subprocess.CalledProcessError(3, ["/somewhere/nnUNetv2_train", "1"])

    monkeypatch.setattr(demo_run, "run_demo", run)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == "error: nnUNetv2_train ended with exit code 3, see above\n"


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (PermissionError(13, "Permission denied", "out"), 2, "error: out: Permission denied; mend that, or name"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: a file: No space left on device; mend that, or"),
        # who read the output has left
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_errors_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, exit_code: int, said: str
) -> None:
    def run(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(demo_run, "run_demo", run)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == exit_code
    assert result.stderr.startswith(said)
    assert bool(result.stderr) is bool(said)


def test_configs_beside_the_plans_of_a_model_are_not_run(tmp_path: Path) -> None:
    configs = tmp_path / "model" / "configs"
    configs.mkdir(parents=True)
    code = {"network_def": f"$open({str(tmp_path / 'ran')!r}, 'w')", "validate": {"dataset": {}}}
    for name in ("train.json", "evaluate.json", "metadata.json"):
        (configs / name).write_text(json.dumps(code))
    (tmp_path / "model" / "models").mkdir()
    (tmp_path / "model" / "models" / "model.pt").touch()
    words = ["audit", str(tmp_path / "model"), str(tmp_path)]
    # as a bundle it is code
    CliRunner().invoke(app, words)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    (tmp_path / "model" / "plans.json").write_text("{}")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "is no model folder of nnU-Net: it has no dataset.json" in result.stderr
    assert not (tmp_path / "ran").exists()
