"""What is to be trained, in order: lists of runs by name."""

from __future__ import annotations

from typing import NamedTuple

SEEDS = (0, 1, 2)
STEPS = {"left_atrium": 1000, "hippocampus": 1000, "acdc": 1000, "lesions": 2000, "demo": 500}
"""Lesions are rare: for hundreds of steps no network finds any."""

EQUAL_TIME = {("left_atrium", "primus"): 650, ("acdc", "primus"): 600}
"""Steps that take as long as 1000 of SCD-Primus with a half kept; of seconds a step on two quiet cores: 0.52 against
0.79 on left atrium, 1.2 against 2.0 on cardiac MR."""

LONG = 3000
"""Steps of trainings that are longer than the others."""


class Run(NamedTuple):
    """One training; these are the columns that tell rows apart."""

    task: str
    network: str
    seed: int
    steps: int
    size: str

    @property
    def name(self) -> str:
        """Text to name files by."""
        return "-".join(str(part) for part in self)


def depth() -> list[Run]:
    """Ask where depth pays: the dense twin against as shallow a network as pruning's cost allows, pruning last."""
    pairs = [(seed, task, network) for seed in SEEDS for task in STEPS for network in ("dense", "shallow")]
    pruned = [(seed, task, "published") for seed in SEEDS for task in STEPS]
    return [Run(task, network, seed, STEPS[task], "small") for seed, task, network in pairs + pruned]


def choice() -> list[Run]:
    """Ask what the choice of tokens is worth: the paper's training, chance, and labels as teachers."""
    networks = ("published", "guided", "guided-foreground", "random", "mask_token")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in STEPS for name in networks]


def core() -> list[Run]:
    """Ask both with the four networks that matter most, a task at a time: a table that grows by whole lines."""
    networks = ("dense", "shallow", "guided", "published")
    tasks = ("left_atrium", "acdc", "hippocampus", "lesions")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in tasks for name in networks]


def control() -> list[Run]:
    """Ask what guidance is worth beside the same labels without pruning, and how to make it see more."""
    networks = (
        "dense-taught",
        "guided-heavy",
        "guided-stem",
        "shallow-taught",
        "guided-one",
        "dense-stem",
        "shallow-stem",
    )
    tasks = ("left_atrium", "hippocampus")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in tasks for name in networks]


def dial() -> list[Run]:
    """Ask what one network for any keep ratio loses against one trained for each; `dial.py` judges them.

    On tasks where a quarter has too little room, so that the ratio matters; and with the published decoder.
    """
    networks, tasks = ("primus-guided-drawn", "primus-guided", "primus-guided-half"), ("left_atrium", "acdc")
    unetr = ("published", "keep-50", "keep-75", "drawn")
    pairs = [(task, name) for task in tasks for name in networks]
    pairs += [(task, name) for task in ("hippocampus", "lesions") for name in unetr]
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task, name in pairs]


def memory() -> list[Run]:
    """Ask whether survivors should see what left, against keeping more at the same cost, and against more depth."""
    memories = [f"{start}-{kind}" for start in ("guided", "published") for kind in ("tokens", "pooled")]
    unetr = ("guided", "published", *memories, "guided-larger", "deep", "guided-deep")
    networks = ("primus-guided-half-memory", "primus-guided-larger", *unetr)
    tasks = ("left_atrium", "lesions", "hippocampus", "acdc")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in tasks for name in networks]


def decoders() -> list[Run]:
    """Ask what the cheaper decoders cost, behind the published transformer."""
    networks, tasks = ("published", "light", "subvoxel"), ("hippocampus", "left_atrium", "demo")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in tasks for name in networks]


def plain() -> list[Run]:
    """Ask where depth pays, and what pruning costs there, behind decoders that lean on the transformer."""
    families = (
        (
            "primus",
            "primus-shallow",
            "primus-pruned",
            "primus-guided",
            "primus-guided-half",
            "primus-shallow-half",
            "primus-guided-gradual",
            "primus-shallow-gradual",
            "primus-guided-half-deep-foreground",
            "primus-guided-half-late",
        ),
        ("light-dense", "light-shallow", "light", "light-guided"),
        ("subvoxel-dense", "subvoxel-shallow", "subvoxel", "subvoxel-guided"),
    )
    tasks = ("left_atrium", "hippocampus", "acdc", "lesions")
    return [
        Run(task, name, seed, STEPS[task], "small")
        for networks in families
        for seed in SEEDS
        for task in tasks
        for name in networks
    ]


def taught() -> list[Run]:
    """Ask what SCD-Primus owes to teaching, to the choice, to MTA and to what is taught."""
    networks = (
        "primus-taught",
        "primus-pruned-half",
        "primus-random-half",
        "primus-guided-half-mask",
        # the same once more, to see how far runs differ
        "primus-guided-half-again",
        "primus-guided-half-foreground",
        "primus-guided-half-graded",
        "primus-guided-foreground",
        "primus-guided-gradual-foreground",
        "primus-guided-half-heavy",
        "primus-guided-half-fading",
    )
    tasks = ("left_atrium", "acdc", "lesions")
    return [Run(task, name, seed, STEPS[task], "small") for seed in SEEDS for task in tasks for name in networks]


def nnunet() -> list[Run]:
    """Ask what nnU-Net's own default network comes to, on tasks whose crops it takes as they are."""
    return [Run(task, "nnunet", seed, STEPS[task], "small") for seed in SEEDS for task in ("acdc", "hippocampus")]


def time() -> list[Run]:
    """Ask what networks that cost more come to in the time in which SCD-Primus that keeps a half is trained."""
    return [Run(task, name, seed, steps, "small") for seed in SEEDS for (task, name), steps in EQUAL_TIME.items()]


def long() -> list[Run]:
    """Ask whether what pruning is worth lasts in longer trainings."""
    networks, tasks = ("primus-guided-half-foreground", "primus", "primus-shallow-half"), ("left_atrium", "acdc")
    return [Run(task, name, seed, LONG, "small") for seed in SEEDS for task in tasks for name in networks]


def smoke() -> list[Run]:
    """Try every network on every task for three steps."""
    plans = (core, choice, control, dial, memory, decoders, plain, taught, nnunet)
    networks = list(dict.fromkeys(run.network for plan in plans for run in plan()))
    runs = [Run(task, network, 0, 3, "small") for task in STEPS for network in networks]
    # nnU-Net's network would be larger than the crop there
    return [run for run in runs if run[:2] != ("left_atrium", "nnunet")]


PLANS = {
    "core": core,
    "depth": depth,
    "choice": choice,
    "control": control,
    "dial": dial,
    "memory": memory,
    "decoders": decoders,
    "plain": plain,
    "taught": taught,
    "nnunet": nnunet,
    "time": time,
    "long": long,
    "smoke": smoke,
}
