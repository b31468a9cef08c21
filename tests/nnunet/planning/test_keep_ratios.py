"""Keep ratios that follow from a share of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from scd_plugin.networks.presets import PRESETS

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet.planning.keep_ratios import keep_ratios, keep_report, share_held, tokens_after

EQUAL = [0.25] * 3


@pytest.mark.parametrize(
    ("share", "num_tokens", "preset", "expected"),
    [
        (0.125, 1000, EQUAL, [0.5] * 3),
        (0.07, 1400, EQUAL, [0.42] * 3),
        (0.304, 1400, [0.25], [0.31]),
        # with room for all of them, no less than the preset's
        (0.104, 1400, [0.25], [0.25]),
        (0.1, 8000, [0.5], [0.5]),
        (0.005, 8000, [0.4, 0.25, 0.25, 0.25], [0.4, 0.25, 0.25, 0.25]),
        # a token more than 12.5 %
        (0.126, 1000, EQUAL, [0.51] * 3),
        # 0.53 of 15 rounds down at each stage: 7, 3, 1
        (2 / 15, 15, EQUAL, [0.54] * 3),
        # the preset's own share gives the preset back
        (0.4 * 0.25**3, 8000, [0.4, 0.25, 0.25, 0.25], [0.4, 0.25, 0.25, 0.25]),
        (0.1, 8000, [0.4, 0.25, 0.25, 0.25], [0.66, 0.54, 0.54, 0.54]),
        (0, 1728, EQUAL, EQUAL),
        (1, 1728, EQUAL, [0.75] * 3),
        (0.3, 1728, [0.4, 0.25, 0.25, 0.25], [0.75, 0.74, 0.74, 0.74]),
        (0.9, 64, [0.25], [0.75]),
    ],
)
def test_by_hand(share: float, num_tokens: int, preset: list[float], expected: list[float]) -> None:
    assert keep_ratios(share, num_tokens, preset) == expected


@pytest.mark.parametrize("num_tokens", [512, 1400, 1728, 10240])
def test_the_smallest_that_hold_them(num_tokens: int) -> None:
    # a single token stays whatever the ratios
    for needed in range(2, int(0.42 * num_tokens), 7):
        ratios = keep_ratios(needed / num_tokens, num_tokens, EQUAL)
        assert tokens_after(num_tokens, ratios)[-1] >= needed
        less = round(ratios[0] - 0.01, 2)
        assert less < 0.25 or tokens_after(num_tokens, [less] * 3)[-1] < needed


def test_every_preset_has_stages_that_prune() -> None:
    assert all(0 < np.min(preset.arguments["keep_ratio"]) < 1 for preset in PRESETS.values())


def test_share_of_99_percent() -> None:
    shares = np.arange(1, 201) / 200
    assert share_held(shares) == 198 / 200
    assert share_held(shares[:50]) == 50 / 200
    assert share_held([0.0]) == 0


def test_report() -> None:
    shares = np.array([[0.05, 0.07], [0.1, 0.5]])
    assert keep_report(shares, 1400, [0.42, 0.42, 0.25], EQUAL, {"with these": 2e9, "dense": 31.25e8}).splitlines() == [
        "keep_ratio 0.42, 0.42, 0.25",
        "  tokens with foreground, in 4 crops from 2 cases: median 8.5 %, in 99 % of the crops at most 50.0 %",
        "  tokens that stay after each stage: 42.0, 17.6, 4.4 %, mean 21.3 %; room for all of them in 0.0 % of the "
        "crops",
        "  GMACs: 2.0 with these, 3.1 dense",
    ]
    assert "keep_ratio 0.75 (0.75 is the most allowed)" in keep_report(shares, 1400, [0.75], [0.25], {})
    assert "keep_ratio 0.25, 0.25, 0.25 (the preset's)\n" in keep_report(shares, 1400, EQUAL, EQUAL, {})
