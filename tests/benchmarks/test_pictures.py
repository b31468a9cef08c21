from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from pictures import colour_of, draw, figure_of
from PIL import Image

from scd_plugin.bench.contestants import CONTESTANTS, parse_contestant
from scd_plugin.bench.results import EntryResult, ModeResult, Results
from scd_plugin.bench.tables import measured_text, title


def test_bars_are_medians(results: Callable[..., Results]) -> None:
    inference, training = figure_of(results()).axes
    assert inference.get_xlabel() == "inference, windows/s: higher is better"
    assert [label.get_text() for label in inference.get_yticklabels()] == ["scd", "dense"]
    assert [bar.get_width() for bar in inference.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in training.patches] == [0.5, 0.25]
    assert [text.get_text() for text in inference.texts] == ["2", "1"]
    assert [to_hex(bar.get_facecolor()) for bar in inference.patches] == [colour_of("scd"), colour_of("dense")]


def test_a_network_has_one_colour() -> None:
    colours = [colour_of(name) for name in CONTESTANTS]
    assert len(set(colours)) == len(colours)
    assert colour_of("scd:keep_ratio=0.5") == colour_of("scd")


def test_no_picture_is_too_wide(grown: Results, tmp_path: Path) -> None:
    draw(grown, tmp_path / "grown.png")
    with Image.open(tmp_path / "grown.png") as picture:
        assert picture.width <= 1600


def test_lines_show_points_and_exponents(grown: Results) -> None:
    panels = figure_of(grown).axes
    assert [panel.get_title() for panel in panels] == [
        "inference, s: lower is better",
        "inference memory, GB: lower is better",
        "GMACs: lower is better",
    ]
    points, fitted = panels[0].lines
    assert list(points.get_xdata()) == [512, 4096, 32768]
    assert points.get_label() == "scd, exponent 1.00"
    assert list(fitted.get_ydata()) == pytest.approx([0.1, 0.8, 6.4])
    assert panels[0].get_xscale() == "log"


def test_exponents_of_two_points_say_so(grown: Results) -> None:
    del grown.entries[0]
    points, _ = figure_of(grown).axes[0].lines
    assert points.get_label() == "scd, exponent 1.00 of two points"


def test_one_amount_of_work_is_points_alone(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    grow = {"variable": "crop", "values": ["64x64x128", "64x128x64"]}
    panel = figure_of(results(entry(crop=[64, 64, 128]), entry(crop=[64, 128, 64]), grow=grow)).axes[0]
    (points,) = panel.lines
    assert list(points.get_xdata()) == [1024, 1024]
    assert points.get_label() == "scd"


def test_long_contestants_are_folded(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    long = "scd-primus-m:keep_ratio=0.25,completion=assembly_to_kept,completion_hidden_size=432"
    panel = figure_of(results(entry(long))).axes[0]
    assert [label.get_text().splitlines() for label in panel.get_yticklabels()] == [
        ["scd-primus-m:keep_ratio=0.25,", "completion=assembly_to_kept,", "completion_hidden_size=432"]
    ]


def test_pictures_say_where_their_numbers_come_from(results: Callable[..., Results], tmp_path: Path) -> None:
    run = results()
    draw(run, tmp_path / "run.png")
    with Image.open(tmp_path / "run.png") as picture:
        assert picture.format == "PNG"
        assert picture.text == {  # type: ignore[attr-defined]
            "Title": title(run),
            "Description": "scd bench scd dense unetr --settings btcv --device cpu --threads 2",
            "Source": measured_text(run),
        }
    below = figure_of(run).get_supxlabel().splitlines()
    assert below[0] == "scd bench scd dense unetr --settings btcv --device cpu --threads 2"
    assert below[1:] == [
        "Abacus 7 (AVX2), 2 cores, 23.5 GiB, 2 CPU threads; 2026-11-24; scd_plugin 0.1.0, torch 2.14.0"
    ]


def test_pictures_are_the_same_every_time(grown: Results, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(grown, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_nothing_is_wider_than_the_picture(results: Callable[..., Results]) -> None:
    run = results()
    run.command = "scd bench " + " ".join(["scd:keep_ratio=0.5,feature_size=8"] * 9)
    run.entries[0].contestant = parse_contestant("scd:keep_ratio=0.25,completion=assembly_to_kept")
    figure = figure_of(run)
    figure.draw_without_rendering()
    texts = [*figure.texts, *(label for panel in figure.axes for label in panel.get_yticklabels())]
    assert len(texts) == 2 + 2 * 2
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.width, text.get_text()


def test_a_run_without_any_speed_is_an_empty_picture(results: Callable[..., Results]) -> None:
    run = results()
    assert len(figure_of(results(run.entries[2])).axes) == 1


def test_whole_images_are_shown_in_seconds(entry: Callable[..., EntryResult], results: Callable[..., Results]) -> None:
    def case(contestant: str, seconds: float) -> EntryResult:
        return entry(contestant, modes={"case": ModeResult(steps=1, before_bytes=0, peak_bytes=1, seconds=[seconds])})

    run = results(case("fast", 8), case("nnunet", 16))
    run.settings |= {"image": "ct.nii.gz", "spacing": 1.5}
    (panel,) = figure_of(run).axes
    assert panel.get_xlabel() == "whole case, s: lower is better"
    assert [bar.get_width() for bar in panel.patches] == [8, 16]
