"""What takes part in a run: contestants, each at one setting, in an order that is fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

from scd_plugin.bench.contestants import CONTESTANTS, parse_contestant, prunes
from scd_plugin.bench.settings import MODES, Settings, crop_text, parse_crop

__all__ = ["VARIABLES", "Entry", "entries_of", "grown_entries", "place", "steps_per_turn", "turns"]

# what the work can grow in -> values tried unless others are asked for
VARIABLES = {
    "crop": ("64", "96", "128", "160"),
    "keep": ("0.1", "0.25", "0.5", "0.75"),
    "batch": ("1", "2", "4", "8"),
    "volume": ("96", "144", "192", "240"),
}


@dataclass(frozen=True)
class Entry:
    """One contestant at one setting."""

    contestant: str
    settings: Settings

    @property
    def label(self) -> str:
        """For a person who waits."""
        where = place(self.settings.crop, self.settings.volume)
        return f"{self.contestant} at {where}, batch {self.settings.batch}"


def place(crop: Sequence[int], volume: Sequence[int] | None) -> str:
    """The crop, and the volume that is segmented in crops where there is one."""
    within = f" in a volume of {crop_text(tuple(volume))}" if volume else ""
    return crop_text(tuple(crop)) + within


def entries_of(settings: Settings) -> list[Entry]:
    """Every contestant of the settings, at these settings.

    Raises:
        ValueError: if a contestant is unknown, named twice, or there is none.
    """
    for contestant in settings.contestants:
        parse_contestant(contestant)
    twice = {text for text in settings.contestants if settings.contestants.count(text) > 1}
    if twice or not settings.contestants:
        msg = f"contestants must be at least one, each named once; got {', '.join(settings.contestants) or 'none'}"
        raise ValueError(msg)
    return [Entry(contestant, settings) for contestant in settings.contestants]


def grown_entries(settings: Settings, variable: str, values: Sequence[str]) -> list[Entry]:
    """Every contestant at every value.

    Args:
        settings: everything else.
        variable: a key of `VARIABLES`.
        values: of it, as on the command line; at least two, all different.

    Raises:
        ValueError: if a value or the variable cannot be, or a contestant does not depend on it.
    """
    if variable not in VARIABLES:
        msg = f"grow must be one of {', '.join(VARIABLES)}; got {variable!r}"
        raise ValueError(msg)
    if variable == "volume" and settings.modes != MODES[:1]:
        msg = (
            f"mode must be forward alone where a volume grows, which is not trained on; got {', '.join(settings.modes)}"
        )
        raise ValueError(msg)
    constant = [text for text in settings.contestants if variable == "keep" and not prunes(text)]
    if constant:
        able = [name for name, contestant in CONTESTANTS.items() if contestant.prunes]
        msg = (
            f"{', '.join(constant)} cannot grow in its keep ratio; name contestants that prune ({', '.join(able)}), "
            f"without keep_ratio"
        )
        raise ValueError(msg)
    changed = [_changed(settings, variable, value) for value in values]
    # 64 and 64x64x64 are the same
    if len(set(changed)) != len(changed) or len(changed) < 2:
        msg = f"values must be at least two, all different, for a fit; got {', '.join(values) or 'none'}"
        raise ValueError(msg)
    return [entry for each in changed for entry in entries_of(each)]


def _changed(settings: Settings, variable: str, value: str) -> Settings:
    if variable == "crop":
        return replace(settings, crop=parse_crop(value))
    if variable == "volume":
        return replace(settings, volume=parse_crop(value, variable))
    kind = float if variable == "keep" else int
    try:
        number = kind(value)
    except ValueError:
        msg = f"values of {variable} must be numbers; got {value!r}"
        raise ValueError(msg) from None
    return replace(settings, keep_ratio=number) if variable == "keep" else replace(settings, batch=int(number))


def turns(num_entries: int, repeats: int) -> list[int]:
    """Who is measured when: A B C A B C, so that a machine that slows down slows down all of them."""
    return list(chain.from_iterable(repeat(range(num_entries), repeats)))


def steps_per_turn(step_seconds: float, turn_seconds: float) -> int:
    """How many whole steps make a turn: as many as fill it, at least one."""
    return max(1, round(turn_seconds / step_seconds))
