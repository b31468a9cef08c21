"""The sentence of ours at the bottom of MONAI's wrapping errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from scd_plugin.monai import last_checkpoint
from scd_plugin.monai.errors import explained
from scd_plugin.monai.training.whole_files import write_json


class TestExplained:
    def test_sentence_below_wrapping_errors(self, tmp_path: Path) -> None:
        def wrapped() -> None:
            try:
                last_checkpoint(str(tmp_path))
            except ValueError as error:
                message = "Failed to evaluate"
                raise RuntimeError(message) from error

        with pytest.raises(RuntimeError, match=r"^Failed to evaluate$") as caught:
            wrapped()
        assert (explained(caught.value) or "").startswith("there is no checkpoint to resume from")

    def test_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"can't be written") as caught:
            write_json(tmp_path / "none" / "best.json", {})
        assert (explained(caught.value) or "").startswith(f"{tmp_path}/none/best.json can't be written (No such file")
        # what the system says of it stays with the trace
        assert explained(caught.value.__cause__) is None

    def test_errors_of_others_are_not_ours_to_explain(self) -> None:
        assert explained(ValueError("x")) is None
        with pytest.raises(ValueError, match="invalid literal") as caught:
            int("x")
        assert explained(caught.value) is None
