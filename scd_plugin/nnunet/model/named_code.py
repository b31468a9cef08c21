"""Code that plans name: nnU-Net imports and calls it, so plans of a stranger could name anything that is installed."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dynamic_network_architectures
import nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from torch import nn

__all__ = ["check_named_code"]

# what nnU-Net's own planners write into plans, and scd-plugin's
_NETWORKS = ("dynamic_network_architectures", "nnunetv2", "scd_plugin")
_LAYERS = (*_NETWORKS, "torch.nn")
# nnU-Net looks these up in folders of its own package, where modules hold what they import as well
_FOLDERS = {
    "image_reader_writer": "imageio",
    "label_manager": "utilities.label_handling",
    "preprocessor_name": "preprocessing",
    "normalization_schemes": "preprocessing.normalization",
    "resampling_fn_data": "preprocessing.resampling",
    "resampling_fn_seg": "preprocessing.resampling",
    "resampling_fn_probabilities": "preprocessing.resampling",
}
# imported by a trainer of nnU-Net's whether or not the plans say that it must be
_ALWAYS_IMPORTED = "conv_op"

Find = Callable[[str], Any]


def check_named_code(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Refuse plans that name other code than nnU-Net's, that of its networks, PyTorch's layers and scd-plugin's.

    Nothing of another package is imported for it.

    Args:
        plans: nnU-Net's plans.json.
        configuration: of these plans, inheritance resolved.

    Raises:
        ValueError: naming the entry.
    """
    for entry, name, find, packages in _named(plans, configuration):
        if not isinstance(name, str):
            msg = f"{entry} of plans.json must be a name in quotation marks; got {name!r}"
            raise ValueError(msg)
        if not _is_of(name, find, packages):
            msg = (
                f"plans.json names {name!r} as {entry}, which is not among the code of {', '.join(packages)}. It would "
                "be run: if you trust who made these plans, and have its package, allow it with --trust"
            )
            raise ValueError(msg)


def _named(
    plans: Mapping[str, Any], configuration: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Find, Sequence[str]]]:
    """Every entry that names code: where it stands, the name, how nnU-Net finds it, packages that it may be of."""
    architecture = _mapping(configuration.get("architecture"))
    if network := architecture.get("network_class_name"):
        yield "network_class_name", network, _network, _NETWORKS
    arguments = _mapping(architecture.get("arch_kwargs"))
    listed = architecture.get("_kw_requires_import")
    imported = [name for name in listed if isinstance(name, str)] if isinstance(listed, Iterable) else []
    for name in dict.fromkeys([*imported, _ALWAYS_IMPORTED]):
        if arguments.get(name) is not None:
            yield f"{name} of arch_kwargs", arguments[name], _layer, _LAYERS
    for entry, folder in _FOLDERS.items():
        given = configuration.get(entry, plans.get(entry))
        for name in given if isinstance(given, list) else [given]:
            if name is not None:
                yield entry, name, partial(_in_folder, folder), ("nnunetv2", "scd_plugin")


def _mapping(entry: Any) -> Mapping[str, Any]:
    """What nnU-Net itself stumbles over is not looked at."""
    return entry if isinstance(entry, Mapping) else {}


def _is_of(name: str, find: Find, packages: Sequence[str]) -> bool:
    """Whether a name stands for a class or function that was written in one of the packages."""
    found = find(name)
    # a name may lead through a module to what that imports, to os.system as well
    return _within(getattr(found, "__module__", None) or "", packages) and (
        inspect.isclass(found) or inspect.isfunction(found)
    )


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _layer(name: str) -> Any:
    """A class of Modules by its full name, imported only if it is of an allowed package; None where there is none."""
    try:
        found = pydoc.locate(name) if _within(name, _LAYERS) else None
    except pydoc.ErrorDuringImport:
        return None
    return found if inspect.isclass(found) and issubclass(found, nn.Module) else None


def _network(name: str) -> Any:
    """A network by its full name; where its module was renamed, nnU-Net looks for the class in its usual package."""
    if name.startswith("scd_plugin.nnunet.planning.planned_network."):
        # functions, in place of classes
        return pydoc.locate(name)
    if (found := _layer(name)) or not name.startswith("dynamic_network_architectures."):
        return found
    usual = "dynamic_network_architectures.architectures"
    folder = Path(dynamic_network_architectures.__path__[0], "architectures")
    module = getattr(recursive_find_python_class(str(folder), name.rpartition(".")[2], usual), "__module__", "")
    return _layer(f"{module}.{name.rpartition('.')[2]}")


def _in_folder(folder: str, name: str) -> Any:
    """What nnU-Net finds under a name in a folder of its package."""
    path = Path(nnunetv2.__path__[0], *folder.split("."))
    return recursive_find_python_class(str(path), name, f"nnunetv2.{folder}")
