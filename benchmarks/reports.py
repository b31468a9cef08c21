"""Which report belongs to a run: that of networks side by side, of growth, or of a whole image."""

from __future__ import annotations

from typing import Any

import growth_report
import whole_image_report

from scd_plugin.bench import tables
from scd_plugin.bench.results import Results

__all__ = ["report_of"]


def report_of(results: Results) -> Any:
    """The module whose `title` and `markdown` a run has."""
    if results.grow:
        return growth_report
    return whole_image_report if results.settings.get("image") else tables
