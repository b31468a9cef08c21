"""The sentence of ours at the bottom of MONAI's wrapping errors."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scd_plugin.monai import last_checkpoint
from scd_plugin.monai.errors import _without_explained_trace, built, explained
from scd_plugin.whole_files import write_json


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

    def test_target_that_is_nowhere(self) -> None:
        parser = ConfigParser(
            {"network_def": {"_target_": "nowhere_to_be_found.MyNetwork"}, "network": "$@network_def.eval()"}
        )
        for name in ("network_def", "network"):
            with pytest.raises(
                ValueError,
                match=r"the config's _target_ nowhere_to_be_found.MyNetwork can't be imported: .* to PYTHONPATH",
            ):
                built(parser, name)
        assert explained(ModuleNotFoundError("No module named 'nowhere_to_be_found'")) is None

    def test_errors_of_others_are_not_ours_to_explain(self) -> None:
        assert explained(ValueError("x")) is None
        with pytest.raises(ValueError, match="invalid literal") as caught:
            int("x")
        assert explained(caught.value) is None

    def test_a_full_disk_whoever_finds_it(self) -> None:
        full = OSError(errno.ENOSPC, "No space left on device", b"eval/events.out")
        assert explained(full) == (
            "eval/events.out can't be used (No space left on device); make room or name another place"
        )
        assert explained(OSError(errno.EROFS, "Read-only file system")) == (
            "a file can't be used (Read-only file system); make room or name another place"
        )
        assert explained(OSError(errno.ENOENT, "No such file or directory", "a")) is None

    def test_log_has_no_trace_of_what_is_explained(self) -> None:
        def line(error: Exception) -> str:
            trace = (type(error), error, error.__traceback__)
            made = _without_explained_trace("engine", logging.ERROR, "engine.py", 1, "ends: %s", (error,), trace)
            return logging.Formatter().format(made)

        assert line(OSError(errno.ENOSPC, "full")) == "ends: [Errno 28] full"
        assert line(KeyError("x")) == "ends: 'x'\nKeyError: 'x'"
