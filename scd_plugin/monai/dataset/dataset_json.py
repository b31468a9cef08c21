"""What JSON files of data sets say: refused with one sentence where it is not what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scd_plugin.monai.plain_text import check_plain_text

__all__ = ["by_number", "read_labels", "whole_number"]

# the last of which all whole numbers are exact in float32
_LARGEST_LABEL = 2**24


def by_number(file: Path, key: str, entries: Any) -> dict[int, str]:
    """Sort names by their numbers, from a JSON object such as `{"0": "CT", "1": "PET"}`.

    Args:
        file: named in the error.
        key: what `entries` are called there.
        entries: the object.

    Raises:
        ValueError: if it is none, a key is no whole number, or a name would be code in a config of MONAI.
    """
    if not isinstance(entries, Mapping):
        msg = f'{key} in {file} must be an object of numbers and names, such as {{"0": "CT"}}; got {entries!r}'
        raise ValueError(msg)
    check_plain_text(entries, f"{key} in {file}")
    named = {whole_number(file, f"a key of {key}", number): str(name) for number, name in entries.items()}
    return dict(sorted(named.items()))


def read_labels(file: Path, entries: Any) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Read names and values of all labels but background, and nnU-Net's ignore label.

    Labels come by their values, as the network's channels do; regions stay in the file's order.

    Args:
        file: named in the error.
        entries: name -> value, or values for a region.

    Raises:
        ValueError: if there is no label besides background, a value is no whole number from 0, two labels without
            regions have one value, or a name would be code in a config of MONAI.
    """
    if not isinstance(entries, Mapping):
        msg = f'labels in {file} must be an object of names and numbers, such as {{"liver": 1}}; got {entries!r}'
        raise ValueError(msg)
    check_plain_text(list(entries), f"labels in {file}")
    labels: dict[str, tuple[int, ...]] = {}
    ignore = None
    regions = any(isinstance(value, list) and len(value) > 1 for value in entries.values())
    seen: dict[tuple[int, ...], str] = {}
    for name, value in entries.items():
        given = value if isinstance(value, list) else [value]
        values = tuple(whole_number(file, f"label {name}", one) for one in given)
        if max(values, default=0) > _LARGEST_LABEL:
            msg = f"label {name} in {file} must be at most {_LARGEST_LABEL}, as label maps are float32; got {value}"
            raise ValueError(msg)
        other = seen.setdefault(values, str(name))
        if not regions and other != name:
            msg = f"labels {other} and {name} in {file} have one value, {value}: give each label a value of its own"
            raise ValueError(msg)
        if name == "ignore":
            ignore = values[0]
        elif values != (0,):
            labels[name] = values
    if not labels:
        msg = f"{file} names no label besides background"
        raise ValueError(msg)
    return labels if regions else dict(sorted(labels.items(), key=lambda label: label[1])), ignore


def whole_number(file: Path, what: str, value: Any) -> int:
    """Read a number from 0, which may be written as a string.

    Raises:
        ValueError: if it is none.
    """
    text = str(value)
    if not (text.isascii() and text.isdigit()):
        msg = f"{what} in {file} must be a whole number from 0; got {value!r}"
        raise ValueError(msg)
    return int(text)
