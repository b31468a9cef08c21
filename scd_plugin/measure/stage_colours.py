"""Names and colours of a keep map's values, for 3D Slicer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scd_plugin.whole_files import moved_into_place

__all__ = ["COLOURS", "FOLDER", "SHARES", "stage_names", "write_colours"]

FOLDER = "keep_maps"
"""of the maps of latest stages, beside the label maps"""
SHARES = "keep_shares"
"""of the maps that say in how many per cent of the passes a token was kept to the end"""
COLOURS = "keep_map.ctbl"


def stage_names(num_stages: int) -> list[str]:
    """Names of the values of a keep map, from 0: not seen by the network, left at stage 1, ..., kept to the end."""
    return ["not seen", *(f"left at stage {number + 1}" for number in range(num_stages)), "kept to the end"]


def write_colours(folder: Path, num_stages: int) -> Path:
    """Write names and colours of the values as a colour table of 3D Slicer; it appears whole or not at all."""
    from matplotlib import colormaps

    names = stage_names(num_stages)
    shades = colormaps["viridis"](np.linspace(0, 1, len(names) - 1))
    lines = [f"0 {names[0].replace(' ', '_')} 0 0 0 0"]
    for number, (name, shade) in enumerate(zip(names[1:], shades), start=1):
        red, green, blue = (round(255 * part) for part in shade[:3])
        lines.append(f"{number} {name.replace(' ', '_')} {red} {green} {blue} 255")
    path = folder / COLOURS
    with moved_into_place(path) as partial:
        partial.write_text(f"# Color table file {path.name}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path
