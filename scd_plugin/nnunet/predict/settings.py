"""Every option of `scd predict`, once: its name, type, default, help text and check. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

from typer import Option

if TYPE_CHECKING:
    import torch

__all__ = ["PredictSettings"]


class _Must(NamedTuple):
    """What a value must be, in words and as a test."""

    be: str
    test: Callable[[Any], bool]


def _one_of(*allowed: str) -> _Must:
    return _Must(f"one of {', '.join(allowed)}", allowed.__contains__)


@dataclass(frozen=True)
class PredictSettings:
    """How to predict; the defaults give what `nnUNetv2_predict` gives with the same folds.

    The command line makes an option of each field, named as the field where `Option` names no other.

    Raises:
        ValueError: if a value is none of those allowed, or there is no such device.
    """

    folds: Annotated[
        list[str] | None,
        Option("--fold", "-f", help="Fold, 0 to 4 or all; several are averaged. Without it, all that are trained."),
    ] = None
    checkpoint: Annotated[str, Option(help="Name of the checkpoint in each fold.")] = "checkpoint_final.pth"
    device: Annotated[
        str, _one_of("auto", "cpu", "cuda"), Option(help="Device: cpu, cuda, or auto for cuda where there is one.")
    ] = "auto"
    mirroring: Annotated[
        bool, Option(help="Average over mirrored images, nnU-Net's test-time augmentation; up to 8 passes.")
    ] = True
    step_size: Annotated[
        float,
        _Must("in (0, 1], the step as a share of the window", lambda step: 0 < step <= 1),
        Option(help="Step from one window to the next, as a share of the window."),
    ] = 0.5
    keep: Annotated[
        float | None,
        _Must("in (0, 1], the share of tokens kept at each stage", lambda keep: 0 < keep <= 1),
        Option(help="Share of tokens kept at each stage of an SCD network, in place of the model's own."),
    ] = None
    batch: Annotated[
        int,
        _Must("at least 1, the windows in a forward pass", lambda batch: batch >= 1),
        Option(help="Windows in a forward pass; with more than 1, results differ by rounding."),
    ] = 1
    resampling: Annotated[
        str,
        _one_of("nnunet", "torch"),
        Option(help="Who resamples the logits to the image's grid: nnunet, or torch for PyTorch, which is faster."),
    ] = "nnunet"
    dtype: Annotated[
        str,
        _one_of("float32", "bfloat16", "auto"),
        Option(help="What a CPU computes in: float32, bfloat16, or auto for bfloat16 where that is faster."),
    ] = "float32"
    engine: Annotated[
        str,
        _one_of("torch", "openvino"),
        Option(help="Who computes the network: torch, or openvino, which is faster on CPUs and has to be installed."),
    ] = "torch"
    threads: Annotated[
        int | None,
        _Must("at least 1, the network's on a CPU", lambda threads: threads >= 1),
        Option(help="Threads of the network on a CPU, in place of nnU-Net's number; results may differ by rounding."),
    ] = None
    skip_empty: Annotated[bool, Option("--skip-empty", help="Compute windows of a constant value only once.")] = False
    save_probabilities: Annotated[
        bool, Option("--save-probabilities", help="Write probabilities too, as nnU-Net saves them.")
    ] = False
    statistics: Annotated[
        bool,
        Option(
            "--statistics", help="Write statistics.csv: voxels, ml, centroid, mean intensity and box of each class."
        ),
    ] = False
    keep_map: Annotated[
        bool,
        Option("--keep-map", help="Write at which pruning stage each voxel's token left, to the folder keep_maps."),
    ] = False
    keep_shares: Annotated[
        bool,
        Option(
            "--keep-shares",
            help="Write in how many per cent of the passes each voxel's token was kept, to the folder keep_shares.",
        ),
    ] = False
    keep_existing: Annotated[
        bool, Option("--continue/--overwrite", help="Leave label maps that are there, or predict them again.")
    ] = False
    previous_stage: Annotated[
        Path | None, Option(help="Folder of the first stage's label maps, for the second stage of a cascade.")
    ] = None
    trust: Annotated[
        bool,
        Option("--trust", help="Run code of any package that the model's plans.json names, not of nnU-Net's only."),
    ] = False
    times: Annotated[
        Path | None, Option("--json", help="File for times and settings (default: beside the label maps).")
    ] = None

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            for must in hint.__metadata__:
                if isinstance(must, _Must) and value is not None and not must.test(value):
                    msg = f"{name} must be {must.be}; got {value}"
                    raise ValueError(msg)
        if self.skip_empty and (maps := self.stage_maps):
            msg = f"{maps[0]} and skip-empty exclude each other, since what is skipped has no stages; leave one out"
            raise ValueError(msg)
        if self.engine == "openvino":
            self._check_openvino()
        # asked only where the answer matters, since PyTorch takes seconds to load
        if self.device == "cuda" and self.torch_device.type != "cuda":
            msg = "device is cuda, but PyTorch finds no CUDA device here; take auto or cpu"
            raise ValueError(msg)
        if self.dtype == "bfloat16" and self.torch_device.type == "cuda":
            msg = "dtype bfloat16 is for CPUs, on a GPU nnU-Net computes in float16 already; leave it out or take cpu"
            raise ValueError(msg)
        if self.threads is not None and self.torch_device.type == "cuda":
            msg = "threads are those of the network on a CPU; leave them out on a GPU or take cpu"
            raise ValueError(msg)

    def _check_openvino(self) -> None:
        """Raise ValueError if OpenVINO is not there, or can't do what is asked."""
        if maps := self.stage_maps:
            msg = f"{maps[0]} needs to look into the network, which engine openvino does not let it; take engine torch"
            raise ValueError(msg)
        if find_spec("openvino") is None:
            msg = "engine is openvino, which is not installed; pip install 'scd-plugin[openvino]', or take engine torch"
            raise ValueError(msg)
        if self.torch_device.type == "cuda":
            msg = "engine openvino is for CPUs; take device cpu, or leave the engine out"
            raise ValueError(msg)

    @property
    def stage_maps(self) -> list[str]:
        """Options that are on and that need to know at which stage each token leaves."""
        options = {"keep-map": self.keep_map, "keep-shares": self.keep_shares}
        return [name for name, wanted in options.items() if wanted]

    @property
    def torch_device(self) -> torch.device:
        """The device, with `auto` decided."""
        import torch

        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def network_dtype(self) -> str:
        """What the network computes in: `auto` is bfloat16 on a CPU with instructions for it, else float32."""
        from scd_plugin.processor import bfloat16_instructions

        if self.torch_device.type == "cuda":
            # as nnUNetv2_predict does
            return "float16"
        if self.dtype == "auto":
            return "float32" if bfloat16_instructions() is None else "bfloat16"
        return self.dtype
