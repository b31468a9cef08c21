"""The colour of each class, the same everywhere on a page: matplotlib's table tab10, then the light half of tab20."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib import colormaps

__all__ = ["class_colours", "hexadecimal"]

# grey, which can't be seen on a grey image
_GREY = 7


def class_colours(classes: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Return a colour (RGB, 0 to 255) for each class; after eighteen they come again."""
    pure, pairs = colormaps["tab10"].colors, colormaps["tab20"].colors  # type: ignore[attr-defined]
    table = [*pure[:_GREY], *pure[_GREY + 1 :], *pairs[1 : 2 * _GREY : 2], *pairs[2 * _GREY + 3 :: 2]]
    known = [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in table]
    return {name: known[number % len(known)] for number, name in enumerate(classes)}


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """Write a colour as in CSS, such as `#1f77b4`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
