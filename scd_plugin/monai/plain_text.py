"""Text of a data set or a model that goes into a bundle's configs must stay text there.

MONAI's parser evaluates what begins with `$`, follows what begins with `@`, reads the file that stands behind `%`, and
calls what `_target_` names, in `metadata.json` too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["check_plain_text"]

# ids relative to their place, "@##a", are replaced anywhere in a text; "#" is written "::" as well
_CODE = re.compile(r"[$@%]|.*[@%](#|::)|_target_$", re.DOTALL)


def check_plain_text(value: Any, what: str) -> None:
    """Refuse text that MONAI would take for more than text, anywhere in lists and in names and values of mappings.

    Args:
        value: of JSON.
        what: says in the error where it stands.

    Raises:
        ValueError: naming the first such text.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_plain_text(key, what)
            check_plain_text(entry, what)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            check_plain_text(entry, what)
    elif isinstance(value, str) and _CODE.match(value):
        msg = (
            f"{what} holds the name {value!r}, which MONAI's configs would take for code, a reference or a file, not "
            "for text: names there must not begin with $, @ or %, hold @# or %#, or be _target_; rename it"
        )
        raise ValueError(msg)
