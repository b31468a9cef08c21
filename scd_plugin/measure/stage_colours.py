"""Names and colours of a keep map's values, for 3D Slicer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scd_plugin.whole_files import moved_into_place

__all__ = ["COLOURS", "FOLDER", "SHARES", "stage_names", "stage_shades", "write_colours"]

FOLDER = "keep_maps"
"""of the maps of latest stages, beside the label maps"""
SHARES = "keep_shares"
"""of the maps that say in how many per cent of the passes a token was kept to the end"""
COLOURS = "keep_map.ctbl"


def stage_names(num_stages: int) -> list[str]:
    """Names of the values of a keep map, from 0: not seen by the network, left at stage 1, ..., kept to the end."""
    return ["not seen", *(f"left at stage {number + 1}" for number in range(num_stages)), "kept to the end"]


def stage_shades(num_stages: int) -> np.ndarray:
    """Colours of the values from 1 on, (num_stages + 1, 4): red, green, blue and opacity, 0 to 1."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis"](np.linspace(0, 1, num_stages + 1)))


def write_colours(folder: Path, num_stages: int) -> Path:
    """Write names and colours of the values as a colour table of 3D Slicer; it appears whole or not at all."""
    names, shades = stage_names(num_stages), stage_shades(num_stages)
    lines = [f"0 {names[0].replace(' ', '_')} 0 0 0 0"]
    for number, (name, shade) in enumerate(zip(names[1:], shades), start=1):
        red, green, blue = (round(255 * part) for part in shade[:3])
        lines.append(f"{number} {name.replace(' ', '_')} {red} {green} {blue} 255")
    path = folder / COLOURS
    with moved_into_place(path) as partial:
        partial.write_text(f"# Color table file {path.name}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path
