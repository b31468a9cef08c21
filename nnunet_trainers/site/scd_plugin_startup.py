"""Lets nnU-Net find SCD's classes by name, with no variable set and no file in nnU-Net's own folders.

nnU-Net looks for a class by importing the modules of its own folder one by one and asking each for an attribute of
that name; so does every program built on it. This module, which Python loads at start-up through the `.pth` file beside
it, makes one module of nnU-Net answer for our names as well. Files laid into nnU-Net's folder would do too, but with an
editable clone of nnU-Net (`pip install -e`) that folder in site-packages hides the clone from Python, even when it is
left behind empty.

Nothing is imported until nnU-Net is, and ours only when one of our names is asked for.
"""

from __future__ import annotations

import sys
from functools import wraps
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# module of nnU-Net that answers -> (what our names begin with, where the classes live)
DOORS = {
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer": ("nnUNetTrainerSCD", "scd_plugin.nnunet.trainers"),
    "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner": (
        "nnUNetPlannerSCD",
        "scd_plugin.nnunet.planning.planner",
    ),
}


# module of nnU-Net -> (its function that ours is called in place of, where ours lives); ours gets nnU-Net's as its
# first argument and passes on what is none of its business. It is the module that defines the function: of the one that
# uses it Python asks no finder where it is run by `python -m`
STAND_INS = {
    "nnunetv2.run.load_pretrained_weights": ("load_pretrained_weights", "scd_plugin.nnunet.trainers.pretrained")
}


class NnunetDoor:
    """Import finder that changes the modules in `DOORS` and `STAND_INS`, and leaves every other module alone."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec that the other finders give, its module extended after it has run."""
        if name not in DOORS and name not in STAND_INS:
            return None
        finders = [finder for finder in sys.meta_path if finder is not cls]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_open(module: ModuleType) -> None:
                run(module)
                if name in DOORS:
                    open_door(module)
                else:
                    stand_in(module)

            spec.loader.exec_module = run_and_open
        return spec


def open_door(module: ModuleType) -> None:
    """Let `module` answer for our names too (module-level `__getattr__`, PEP 562)."""
    prefix, home = DOORS[module.__name__]

    def find_ours(name: str) -> object:
        if name.startswith(prefix):
            return getattr(import_module(home), name)
        message = f"module {module.__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    module.__getattr__ = find_ours


def stand_in(module: ModuleType) -> None:
    """Put ours in place of one of `module`'s functions, if it still has it."""
    name, home = STAND_INS[module.__name__]
    original = getattr(module, name, None)
    if original is not None:

        @wraps(original)
        def ours(*args: object, **kwargs: object) -> object:
            return getattr(import_module(home), name)(original, *args, **kwargs)

        setattr(module, name, ours)


def install() -> None:
    """Put the finder first, once."""
    if NnunetDoor not in sys.meta_path:
        sys.meta_path.insert(0, NnunetDoor)
