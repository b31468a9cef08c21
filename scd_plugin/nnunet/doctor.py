"""`scd doctor`: whether this machine can train and predict, and what to type where it can't."""

from __future__ import annotations

import os
import pkgutil
import platform
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

from scd_plugin.freed_memory import SWITCH, can_keep_freed_memory
from scd_plugin.nnunet.findings import Finding
from scd_plugin.processor import bfloat16_instructions
from scd_plugin.switches import CUDA_GRAPHS, cuda_graphs_wanted

__all__ = ["examine"]

TRAINER = "nnUNetTrainerSCD"
FOLDERS = {
    "nnUNet_raw": "the folder of your raw data sets",
    "nnUNet_preprocessed": "a folder on a fast disk",
    "nnUNet_results": "where trained models go",
}
OWN = "nnUNet_extTrainer"
# from the first on, before the second, as PyTorch numbers them: 9.8.0 and 9.15.0
BYPASSED_CUDNN = (90800, 91500)


def examine() -> dict[str, list[Finding]]:
    """Look at everything, by what it is needed for; findings come in the order in which to mend them."""
    return {
        "the network": [
            Finding("Python", f"{platform.python_version()}, {sys.executable}"),
            *map(_package, ("scd-plugin", "torch", "timm")),
            _device(),
            *_cudnn(),
            _cuda_graphs(),
            _bfloat16(),
            _freed_memory(),
        ],
        "nnU-Net": [
            _package("nnunetv2"),
            *map(_folder, FOLDERS),
            *_numbers(),
            _trainer_found_by("nnU-Net", _as_nnunet_looks),
            *_own_trainers(),
            *_threads(),
            _compile(),
        ],
        "MONAI": [_package("monai"), _trainer_found_by("MONAI's nnU-Net wrapper", _as_monai_looks)],
    }


def _package(name: str) -> Finding:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", f"pip install {name}", ok=False)
    for wanted in map(Requirement, requires("scd-plugin") or []):
        fits = wanted.marker is not None or wanted.specifier.contains(installed, prereleases=True)
        if wanted.name.lower() == name and not fits:
            return Finding(name, f"{installed}, needs {wanted}", f"pip install '{wanted}'", ok=False)
    return Finding(name, installed)


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding("device", f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return Finding("device", "Apple MPS: use -device mps")
    detail = f"no CUDA device, {os.cpu_count()} CPU cores: use -device cpu"
    if (os.cpu_count() or 1) <= 4:
        # by default an augmentation process for each core, and 8 for export
        detail += "; nnUNet_n_proc_DA=1 and nnUNet_def_n_proc=1 for training, -npp 1 -nps 1 for nnUNetv2_predict"
    return Finding("device", detail)


def _cudnn() -> list[Finding]:
    """Name a cuDNN that PyTorch does not let compute 3-D convolutions in half precision (pytorch#166643)."""
    if not torch.cuda.is_available():
        return []
    try:
        found = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        # the one that is installed is not the one that PyTorch was made for
        return [Finding("cuDNN", _reason(error), "pip install --force-reinstall torch", ok=False)]
    if found is None or not BYPASSED_CUDNN[0] <= found < BYPASSED_CUDNN[1]:
        return []
    number = f"{found // 10000}.{found % 10000 // 100}.{found % 100}"
    detail = f"{number}: PyTorch from 2.9 on does not use cuDNN 9.8 to 9.14 for 3-D convolutions in half precision"
    package = f"nvidia-cudnn-cu{(torch.version.cuda or '12').split('.')[0]}"
    return [Finding("cuDNN", f"{detail}, which take longer and more memory", f"pip install '{package}>=9.15'")]


def _cuda_graphs() -> Finding:
    what = "CUDA graphs"
    try:
        wanted = cuda_graphs_wanted()
    except ValueError as error:
        return Finding(what, str(error), f"unset {CUDA_GRAPHS}", ok=False)
    if not torch.cuda.is_available():
        return Finding(what, "no CUDA device")
    if not wanted:
        return Finding(what, f"off, as {CUDA_GRAPHS} has it")
    return Finding(what, f"on: SCD's networks replay passes that come again; {CUDA_GRAPHS}=0 turns it off")


def _bfloat16() -> Finding:
    detail = "neither AMX nor AVX512-BF16, so float32 is faster"
    if name := bfloat16_instructions():
        detail = f"{name}: scd predict --dtype auto, or scd_cpu_dtype in training"
    return Finding("bfloat16 on the CPU", detail)


def _freed_memory() -> Finding:
    what, detail = "freed memory on the CPU", f"stays in the process, which is faster; {SWITCH}=0 where memory is short"
    try:
        if not can_keep_freed_memory():
            detail = f"goes back to the system, as {SWITCH}, a setting of malloc, or the C library has it"
    except ValueError as error:
        return Finding(what, str(error), f"unset {SWITCH}", ok=False)
    return Finding(what, detail)


def _threads() -> list[Finding]:
    """Say so where nnU-Net's number of processes leaves the network with fewer threads than there are cores."""
    try:
        threads = import_module("scd_plugin.nnunet.predict.threads")
    except (ImportError, ValueError):
        # without nnU-Net, or with a number that is none; said where the trainer is looked for
        return []
    if torch.cuda.is_available() or not (idle := threads.idle_cores()):
        return []
    used = threads.nnunets_threads()
    detail = f"the network computes on {used} of {used + idle} cores, the number in nnUNet_def_n_proc (8 by default)"
    remedy = f"export nnUNet_def_n_proc={used + idle} for nnUNetv2_predict, or scd predict --threads {used + idle}"
    return [Finding("prediction on the CPU", detail, remedy)]


def _compile() -> Finding:
    if not torch.cuda.is_available():
        return Finding("torch.compile", "nnU-Net uses it on CUDA alone")
    try:
        import_module("triton")
    except ImportError:
        return Finding("torch.compile", "no triton, so no compiled networks", "export nnUNet_compile=f")
    return Finding("torch.compile", "available, nnU-Net uses it by default")


def _folder(variable: str) -> Finding:
    value = os.environ.get(variable)
    if not value:
        remedy = f"export {variable}=/path/to/{FOLDERS[variable].replace(' ', '_')}"
        # with none of them nobody has begun with nnU-Net, and nothing else needs them
        if not any(os.environ.get(name) for name in FOLDERS):
            return Finding(variable, "not set; only nnU-Net's commands need it", remedy)
        return Finding(variable, "not set", remedy, ok=False)
    if not Path(value).is_dir():
        return Finding(variable, f"{value} is not a folder", f"mkdir -p {value}", ok=False)
    return Finding(variable, value)


def _numbers() -> list[Finding]:
    """Name variables of nnU-Net's that must be whole numbers and are none: its imports, or its trainings, end there."""
    # the last validation of a training makes a pool of the first
    least = {"nnUNet_def_n_proc": 1, "nnUNet_n_proc_DA": 0}
    return [
        Finding(name, f"must be a whole number from {number}; it is {os.environ[name]!r}", f"unset {name}", ok=False)
        for name, number in least.items()
        if name in os.environ and not (re.fullmatch(r"\s*\d+\s*", os.environ[name]) and int(os.environ[name]) >= number)
    ]


def _as_nnunet_looks() -> Any:
    return import_module("nnunetv2.utilities.find_objects").recursive_find_trainer_class_by_name(TRAINER)


def _as_monai_looks() -> Any:
    # MONAI 1.6.1, get_network_from_nnunet_plans
    package = "nnunetv2.training.nnUNetTrainer"
    find = import_module("nnunetv2.utilities.find_class_by_name").recursive_find_python_class
    return find(import_module(package).__path__[0], TRAINER, package)


def _trainer_found_by(host: str, look: Callable[[], Any]) -> Finding:
    what, remedy = f"trainer found by {host}", "pip install --force-reinstall --no-deps . (in the clone)"
    if broken := _numbers():
        return Finding(what, "not looked for, since nnU-Net can't be imported", broken[0].remedy, ok=False)
    # whatever goes wrong inside nnU-Net is a finding here
    try:
        found = look()
    except Exception as error:  # noqa: BLE001
        return Finding(what, _reason(error), remedy, ok=False)
    if found is None:
        return Finding(what, f"{TRAINER} not found", remedy, ok=False)
    return Finding(what, f"{found.__module__}.{found.__name__}")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _own_trainers() -> list[Finding]:
    folders = [part.strip() for part in os.environ.get(OWN, "").split(os.pathsep) if part.strip()]
    if not folders:
        return [Finding(OWN, "not set, and not needed")]
    return [finding for folder in folders for finding in _trainers_in(folder)]


def _trainers_in(folder: str) -> list[Finding]:
    """Name a folder's trainers, and its modules that can't be imported: one such ends all look-ups of nnU-Net's."""
    if not Path(folder).is_dir():
        remedy = f"unset {OWN}, or name a folder of trainer modules"
        return [Finding(OWN, f"{folder} is not a folder, nnU-Net skips it", remedy)]
    try:
        finder = import_module("nnunetv2.utilities.find_class_by_name")
        base = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer
    except Exception as error:  # noqa: BLE001  (whatever goes wrong inside nnU-Net is a finding here)
        return [Finding(OWN, f"not looked at, since nnU-Net can't be imported: {_reason(error)}", ok=False)]
    trainers, broken = set(), []
    with finder.temporarily_extend_syspath(folder), finder.temporarily_cleanup_imports_from_path(folder):
        for name in _modules_in(folder):
            try:
                members = vars(import_module(name)).values()
            except Exception as error:  # noqa: BLE001  (whatever a module of the user's does)
                # nnU-Net passes over what is listed but can't be found
                if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                    file = Path(folder, *name.split(".")).with_suffix(".py")
                    remedy = f"correct {file}, or move it out of the folder: nnU-Net imports every module there"
                    broken.append(Finding(OWN, f"{file} can't be imported: {_reason(error)}", remedy, ok=False))
                continue
            found = [member for member in members if isinstance(member, type) and issubclass(member, base)]
            trainers |= {cls.__name__ for cls in found if not cls.__module__.startswith("nnunetv2.")}
    return [Finding(OWN, f"{folder}: {', '.join(sorted(trainers)) or 'no trainers'}"), *broken]


def _modules_in(folder: str, package: str = "") -> Iterator[str]:
    """List a folder's modules by dotted names in nnU-Net's order: its own, then those of its packages."""
    found = list(pkgutil.iter_modules([folder]))
    yield from (package + module.name for module in found if not module.ispkg)
    for module in found:
        if module.ispkg:
            yield from _modules_in(str(Path(folder, module.name)), f"{package}{module.name}.")
