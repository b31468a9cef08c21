"""The same made-up results as for `scd bench`."""

from made_results import entry, grown, results

__all__ = ["entry", "grown", "results"]
