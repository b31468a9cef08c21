"""The command `scd bridge`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scd_plugin.cli import app


class TestCommands:
    def test_there_and_back(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model, bundle, back = make_model(), tmp_path / "bundle", tmp_path / "back"
        result = CliRunner().invoke(app, ["bridge", "to-monai", str(model), str(bundle), "--fold", "0"])
        assert result.exit_code == 0, result.output
        result = CliRunner().invoke(app, ["bridge", "to-nnunet", str(bundle), str(back)])
        assert result.exit_code == 0, result.output
        assert f"nnUNetv2_predict_from_modelfolder -m {back} -f 0" in result.output
        assert (back / "fold_0" / "checkpoint_final.pth").is_file()

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["to-monai", "absent", "out"], "error: absent is no model folder of nnU-Net: it has no plans.json"),
            (["to-nnunet", "absent", "out"], "error: absent is missing; name a MONAI bundle or a file of weights"),
            (["to-nnunet", ".", "out", "--plans", "p.json"], "error: --plans goes with a file of weights"),
            (
                ["to-nnunet", ".", "out", "--configuration", "2d", "--mirror-axis", "0"],
                "error: --configuration, --mirror-axis goes with a file of weights",
            ),
            (["to-nnunet", __file__, "out"], "need --plans and --dataset-json of the model"),
        ],
        ids=["no model", "no bundle", "plans", "plans of weights", "weights"],
    )
    def test_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(app, ["bridge", *words])
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert "Traceback" not in result.output
        assert not Path("out").exists()
