"""What a worker answers. Plain values, so that the parent needs no network to read them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Description", "Failed", "Prepared"]


class Prepared(NamedTuple):
    """What is known once a network was built and has run."""

    step_seconds: float
    """of the last warm-up step"""
    before_bytes: int
    """held before the network was built"""
    peak_bytes: int
    """the most held"""
    held_bytes: int
    """held between steps"""


class Description(NamedTuple):
    """What a network is, apart from its speed."""

    parameters: int
    macs: int
    """of one forward pass of the batch"""
    parts: dict[str, float]
    """share of the time of a forward pass, see `parts.part_shares`"""


class Failed(NamedTuple):
    """Sent in place of an answer, as the last thing."""

    reason: str
