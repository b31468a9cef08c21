from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from scd_plugin.nnunet.predict.bars import PredictionProgress


def predict_two(console: Console) -> str:
    progress = PredictionProgress(console)
    with progress.shown(2, num_folds=3):
        for case in ("scan [1]", "other"):
            progress.case(case)
            for _ in range(3):
                progress.windows(4)
                for _ in range(4):
                    progress.window()
            console.print(progress._bars)
            progress.case_done()
        progress.say("failed: [b]other[/b]: no")
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_bars_on_a_terminal() -> None:
    text = predict_two(Console(file=StringIO(), force_terminal=True, width=100, color_system=None))
    assert "windows of scan [1]" in text
    assert "12/12" in text
    assert "0/2" in text
    assert "1/2" in text
    assert "failed: [b]other[/b]: no" in text


def test_nothing_but_failures_elsewhere() -> None:
    console = Console(file=StringIO(), width=100)
    progress = PredictionProgress(console)
    with progress.shown(1, num_folds=1):
        progress.case("a")
        progress.windows(1)
        progress.window()
        progress.case_done()
        progress.say("failed: a: no")
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == "failed: a: no\n"


@pytest.mark.parametrize("method", ["case_done", "window"])
def test_nothing_is_shown_yet(method: str) -> None:
    getattr(PredictionProgress(Console(file=StringIO())), method)()
