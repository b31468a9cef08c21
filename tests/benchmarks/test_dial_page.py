"""The page of the dial is made of the rows alone."""

from __future__ import annotations

import pytest
from choice_page import STUDIES
from dial_page import draw, losses, read, seconds, table, text, with_own


def rows(network: str, dice: dict[tuple[str, str], float], gmacs: str = "3.075") -> list[dict[str, str]]:
    return [
        {"task": "left_atrium", "network": network, "keep_ratio": ratio, "seed": seed, "gmacs": gmacs,
         "seconds_a_crop": "0.21", "dice": str(value)}
        for (ratio, seed), value in dice.items()
    ]  # fmt: skip


DRAWN = rows("primus-guided-drawn", {("0.25", "0"): 0.78, ("0.5", "0"): 0.80, ("0.5", "1"): 0.81})
HALF = rows("primus-guided-half", {("0.25", "0"): 0.7, ("0.5", "0"): 0.81, ("0.5", "1"): 0.815, ("0.5", "2"): 0.9})


def test_the_page_is_that_of_the_rows() -> None:
    assert (STUDIES / "dial.md").read_text() == text(read())


def test_table() -> None:
    lines = table(DRAWN + HALF).splitlines()
    assert lines[0] == "| Kept | GMACs | Seconds a crop | ratios drawn in training (2) | trained at 0.5 (3) |"
    assert lines[2] == "| 0.25 | 3.1 | 0.21 | 78.0 | 70.0 |"
    # in bold where it was trained
    assert lines[3].startswith("| 0.5 | 3.1 | 0.21 | 80.5 ± 0.5 | **84.2 ± 4.5** |")


def test_networks_that_were_judged_at_their_own_ratio() -> None:
    study = [
        {"task": task, "network": network, "seed": seed, "gmacs": "2.1", "dice": "0.795"}
        for task, network, seed in (
            ("left_atrium", "primus-guided", "0"),
            ("acdc", "primus-guided", "0"),
            ("left_atrium", "primus", "0"),
            ("left_atrium", "published", "0"),
            ("left_atrium", "primus-guided-half", "0"),
        )
    ]
    found = with_own(DRAWN + HALF, study)
    assert found[:-1] == DRAWN + HALF
    assert found[-1]["keep_ratio"] == "0.25"
    assert losses(found).endswith("trained at 0.25 -1.5; trained at 0.5 -0.8 (-1.0 to -0.5).")
    assert table(found).splitlines()[2] == "| 0.25 | 3.1 | 0.21 | 78.0 | **79.5** | 70.0 |"


def test_seconds_are_those_of_the_fastest() -> None:
    slow = [{**row, "seconds_a_crop": "0.4"} for row in HALF]
    assert seconds(slow + DRAWN + rows("primus-guided", {("0.1", "0"): 0.7})) == {0.1: 0.21, 0.25: 0.21, 0.5: 0.21}
    assert table(slow + DRAWN).splitlines()[2].startswith("| 0.25 | 3.1 | 0.21 |")


def test_losses_on_seeds_that_both_have() -> None:
    said = "Points of Dice of drawn ratios, at that ratio, against: trained at 0.5 -0.8 (-1.0 to -0.5)."
    assert losses(DRAWN + HALF) == said
    assert losses(HALF) == ""


@pytest.mark.parametrize("drawn", [DRAWN, []])
def test_page_and_picture(drawn: list[dict[str, str]]) -> None:
    page = text(drawn + HALF)
    assert "## Left atrium\n\n| Kept |" in page
    assert ("Points of Dice" in page) is bool(drawn)
    dice, passes = draw(drawn + HALF).axes
    assert (len(dice.lines), len(passes.lines)) == (1 + bool(drawn), 1)
    assert dice.lines[-1].get_xydata().round(2).tolist() == [[0.25, 70.0], [0.5, 84.17]]
    assert passes.lines[-1].get_xydata().tolist() == [[0.25, 0.21], [0.5, 0.21]]
