"""Options of `python -m monai.bundle run` that would do nothing, or be taken for something else, in one sentence.

Fire makes Python values of options, MONAI leaves out those that are None and adds those that no config knows, all
without a word. So the command line is looked at once more where a bundle's run begins: when its config imports
`scd_plugin.monai`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, run

__all__ = ["check_command_line", "complaint", "is_bundle_command", "options_of"]

PATHS = ("bundle_root", "ckpt_dir", "dataset_dir", "output_dir")
# of these numbers become paths again, see `path_option`
_NUMBERS_TOO = ("dataset_dir",)
# of MONAI's --tracking
_TRACKING = ("tracking_uri", "experiment_name", "run_name", "save_execute_config", "output_dir")
# how MONAI's references, expressions and macros begin: what they give is not known yet
_MONAIS = ("@", "$", "%")


def is_bundle_command() -> bool:
    """Whether MONAI's bundle commands are the program that runs."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    return main is not None and main.name.startswith("monai.bundle")


def check_command_line() -> None:
    """End the program with a sentence where it is `monai.bundle run` with an option that would do nothing or harm.

    Raises:
        SystemExit: with that sentence; MONAI's imports let no other exception through.
    """
    if is_bundle_command() and sys.argv[1:2] == ["run"] and (sentence := complaint(sys.argv[2:])):
        sys.exit(f"error: {sentence}")


def complaint(arguments: Sequence[str]) -> str | None:
    """Say what is wrong with the arguments behind `run`, if anything.

    Args:
        arguments: as typed, see `options_of`; the configs that they name are read, nothing of them is run.
    """
    options = {name: (text, value) for name, text, value in options_of(arguments)}
    files, file_of_arguments = (options.get(name, ("", None))[1] for name in ("config_file", "args_file"))
    if file_of_arguments is not None:
        files = files or ConfigParser.load_config_file(file_of_arguments).get("config_file")
    if not files:
        return None
    config = ConfigParser(ConfigParser.load_config_files(files))
    others = [*inspect.signature(run).parameters, *(_TRACKING if "tracking" in options else ())]
    texts = [text for text, _ in options.values() if text.startswith(_MONAIS)]
    for name, (text, value) in options.items():
        # what an option of the user's own is for, only the other options can say
        mine = any(re.search(rf"[@%]{re.escape(name)}\b", other) for other in texts)
        if name in others or name.startswith(ConfigParser.meta_key) or mine:
            continue
        if (
            sentence := _of_name(name, config)
            or _of_path(name, text, value, config)
            or _of_value(name, text, value, config)
        ):
            return sentence
    return None


def options_of(arguments: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """Name, text and value of each option as Fire reads it: `--name value`, `--name=value`, `--name`, `--noname`."""
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not _is_option(argument):
            continue
        name, equals, text = argument.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals and rest and not _is_option(rest[0]):
            text = rest.pop(0)
        elif not equals:
            name, text = (name[2:], "False") if name.startswith("no") else (name, "True")
        yield name, text, DefaultParseValue(text)


def _is_option(argument: str) -> bool:
    return re.match(r"--|-[a-zA-Z]", argument) is not None


def _of_name(name: str, config: ConfigParser) -> str | None:
    if name in config:
        return None
    parent, _, last = name.replace("#", "::").rpartition("::")
    known = config.get(parent)
    if not isinstance(known, Mapping) or "_target_" in known:
        # MONAI itself stumbles over it, or what is called does
        return None
    similar = get_close_matches(last, [str(key) for key in known], n=1)
    hint = f"; is {'#'.join([*parent.split('::'), similar[0]] if parent else similar)} meant?" if similar else ""
    return f"--{name} does nothing, since the config has no {name}{hint}"


def _of_path(name: str, text: str, value: Any, config: ConfigParser) -> str | None:
    if name not in PATHS:
        return None
    if not text:
        return f"--{name} is empty, as where a variable of the shell is not set: give a path"
    if "#" in text:
        return (
            f"--{name} {text} can't be a path of a bundle, where MONAI writes # as ::; rename the folder, or link to it"
        )
    number = name in _NUMBERS_TOO and type(value) is int and str(value) == text
    if value == text or number:
        name_alone = text.startswith("$") and text[1:].isidentifier()
        nowhere = text.startswith("@") and text[1:] not in config
        if name_alone or nowhere or (text.startswith(_MONAIS) and Path(text).exists()):
            return f"--{name} {text} is code or a reference to MONAI; for the folder of that name write ./{text}"
        return None
    return f"--{name} {text} does not arrive as a path, but as {value!r} ({type(value).__name__}): write ./{text}"


def _of_value(name: str, text: str, value: Any, config: ConfigParser) -> str | None:
    """Compare with the kind of value that the config has, where that says one."""
    own = config.get(name)
    if value is None:
        nothing = "MONAI leaves out options that are None, and the config's own value stays"
        return None if own is None else f"--{name} {text} does nothing: {nothing}. For no value write --{name} '$None'"
    if name in PATHS or (isinstance(value, str) and value.startswith(_MONAIS)):
        return None
    given, whole = type(value), isinstance(value, float) and value.is_integer()
    # an argument of what is called may be of several kinds
    called = "_target_" in (config.get(name.replace("#", "::").rpartition("::")[0]) or {})
    if isinstance(own, bool):
        wanted = "" if given is bool else "True or False"
    elif called or (isinstance(own, str) and own.startswith(_MONAIS)):
        return None
    elif isinstance(own, int) and whole:
        wanted = f"a whole number, {value:.0f}"
    elif isinstance(own, (int, float)):
        wanted = "" if given in (int, float) else "a number"
    else:
        wanted = "text" if isinstance(own, str) and given is not str else ""
    return f"--{name} must be {wanted}; {text} arrives as {value!r} ({given.__name__})" if wanted else None
