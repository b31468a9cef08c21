from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scd_plugin.bench.plots import draw, figure_of
from scd_plugin.bench.results import Results


def test_bars_are_medians(results: Callable[..., Results]) -> None:
    inference, training = figure_of(results()).axes
    assert inference.get_xlabel() == "inference, windows/s"
    assert [label.get_text() for label in inference.get_yticklabels()] == ["scd", "dense"]
    assert [bar.get_width() for bar in inference.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in training.patches] == [0.5, 0.25]


def test_lines_show_points_and_exponents(grown: Results) -> None:
    panels = figure_of(grown).axes
    assert [panel.get_title() for panel in panels] == ["inference, s", "inference memory, GB", "GMACs"]
    points, fitted = panels[0].lines
    assert list(points.get_xdata()) == [512, 4096, 32768]
    assert points.get_label() == "scd, exponent 1.00"
    assert list(fitted.get_ydata()) == pytest.approx([0.1, 0.8, 6.4])
    assert panels[0].get_xscale() == "log"


def test_pictures_are_written(results: Callable[..., Results], tmp_path: Path) -> None:
    draw(results(), tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_any_speed_is_an_empty_picture(results: Callable[..., Results]) -> None:
    run = results()
    assert len(figure_of(results(run["entries"][2])).axes) == 1
