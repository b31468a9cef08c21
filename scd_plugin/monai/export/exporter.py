"""Export a bundle's network for deployment: MONAI's exporters, and a check that the written file answers alike."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export, trt_export
from torch import nn

from scd_plugin import __version__
from scd_plugin.folders import check_exportable, export_path
from scd_plugin.monai.bundle_configs import check_readable, set_own_keep_ratio
from scd_plugin.monai.errors import built
from scd_plugin.monai.export.description import describe, find_network
from scd_plugin.monai.export.exact_norm import exact_instance_norm
from scd_plugin.monai.export.exported_parity import load_exported, parity
from scd_plugin.monai.weights import load_weights, reason
from scd_plugin.networks import SCDNetwork
from scd_plugin.whole_files import moved_into_place

__all__ = ["Exported", "ParityError", "export_bundle"]

# Largest difference allowed, for logits up to 1 in magnitude; larger logits are allowed as much more.
TOLERANCE = 1e-4
# TensorRT calculates in TF32, with ten bits after the leading one
TENSORRT_TOLERANCE = 1e-2
# at a batch of one exporters take the batch for a constant
EXAMPLE_BATCH = 2
# what an exported file takes, with some to spare, as a multiple of the weights and bytes beside; 1.3 were seen. PyTorch
# aborts the process where TorchScript finds the disk full
ROOM, MORE_ROOM = 1.5, 2**20
TENSORRT_BATCHES = (1, 1, 4)


class ParityError(RuntimeError):
    """The exported file would answer differently from the network; it was not kept."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote and found.

    Args:
        path: the exported model.
        deployment: JSON beside it, with what a deployment must know.
        difference: largest absolute difference of logits from the network's own, on images new to the file.
        allowed: how large it may be.
    """

    path: Path
    deployment: Path
    difference: float
    allowed: float


@dataclass(frozen=True)
class _Source:
    """A bundle's files, and what its configs build."""

    root: Path
    parser: ConfigParser
    model: nn.Module
    network: SCDNetwork
    """the model itself, or inside of it"""
    arguments: Mapping[str, Any]
    """for MONAI's exporters, all of which take these"""


def export_bundle(
    bundle_dir: str | Path,
    *,
    format: str,  # noqa: A002
    output: str | Path | None = None,
    tolerance: float | None = None,
    weights: Path | None = None,
) -> Exported:
    """Write a bundle's network in another format, describe it, read it back and compare it with the network.

    The file takes batches of any size; its input is called `image` and its output `pred`. Beside it,
    `<file name>.deploy.json` says what a deployment must know.

    Args:
        bundle_dir: folder with `configs/inference.json`, `configs/metadata.json` and `models/model.pt`.
        format: one of `EXPORTS` of `scd_plugin.folders`.
        output: the file to write, with the format's suffix; None for the format's usual name in `models/`. Don't
            rename a `.ts` later: MONAI finds the config inside it by its name.
        tolerance: largest difference of logits allowed, relative to the largest logit where that exceeds 1; None for
            1e-4, and 1e-2 for TensorRT.
        weights: the file that `models/model.pt` was made of, for the description to name; None for itself.

    Raises:
        ValueError: if the format is unknown, a file of the bundle is missing or does not fit, the format needs a
            package or a device that is not there, or its exporter can't take the network.
        ParityError: if the file would answer differently; what was there stays.
        OSError: as `moved_into_place`.
    """
    root = Path(bundle_dir).resolve()
    path = export_path(root, format, output)
    kind = _FORMATS[format]
    _check_requirements(format, kind)
    source = _read(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = ConfigParser.load_config_file(source.arguments["meta_file"])
    description = describe(source.parser, source.model, metadata)
    weights = weights or source.root / "models" / "model.pt"
    with moved_into_place(path, room=int(ROOM * weights.stat().st_size) + MORE_ROOM) as partial:
        difference, scale = _written_and_compared(source, kind, partial, format)
        allowed = (tolerance if tolerance is not None else kind.tolerance) * max(1.0, scale)
        if not difference <= allowed:
            msg = (
                f"{path} was not written, for it would answer differently from {weights}: logits differ by up to "
                f"{difference:.1e}, allowed are {allowed:.1e} (their largest is {scale:.1f}); try another format, or "
                "allow more (--tolerance)"
            )
            raise ParityError(msg)
        description |= {
            "format": format,
            "file": {"name": path.name, "sha256": _sha256(partial)},
            "weights": {"name": f"{weights.parent.name}/{weights.name}", "sha256": _sha256(weights)},
            "parity": {"largest_difference": difference, "allowed": allowed},
            "versions": {"scd-plugin": __version__, "torch": torch.__version__, "monai": monai.__version__},
        }
        deployment = path.with_name(f"{path.name}.deploy.json")
        partial.with_name(deployment.name).write_text(json.dumps(description, indent=4) + "\n")
    return Exported(path, deployment, difference, allowed)


def _written_and_compared(source: _Source, kind: _Format, path: Path, name: str) -> tuple[float, float]:
    """Write the file; return how far its answers are from the network's, and how large those are."""
    try:
        with warnings.catch_warnings(), _quiet(logging.getLogger("monai.bundle.scripts")):
            # exporters warn of their own future, and of checks of the image's shape that hold
            warnings.simplefilter("ignore")
            kind.write(source, path)
            exported = load_exported(path, device="cuda" if kind.needs_gpu else "cpu")
            return parity(source.model, exported, source.network.image_shape)
    except OSError:
        raise
    except Exception as error:
        # exporters fail in as many ways as networks are built
        msg = f"format {name!r} does not work for this {type(source.network).__name__}, try another: {reason(error)}"
        raise ValueError(msg) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep arguments out of the log, and off the screen, that MONAI's exporters write there."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logger.setLevel(before)


def _write_torchscript(source: _Source, path: Path, **how: bool) -> None:
    ckpt_export(**source.arguments, filepath=str(path), **how)


def _write_onnx(source: _Source, path: Path, **exporter: bool) -> None:
    names = {"input_names": ["image"], "output_names": ["pred"]}
    axes = {"image": {0: "batch"}, "pred": {0: "batch"}}
    settings = {**names, "dynamic_axes": axes, **exporter}
    # MONAI hands further arguments to the exporter only with use_trace, whichever exporter it is
    with exact_instance_norm():
        onnx_export(**source.arguments, filepath=str(path), use_trace=True, converter_kwargs=settings)


def _write_torch_export(source: _Source, path: Path) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad():
        example = torch.rand(source.arguments["input_shape"])
        program = torch.export.export(source.model, (example,), dynamic_shapes=shapes)
    configs = [source.root / "configs" / name for name in ("inference.json", "metadata.json")]
    torch.export.save(program, path, extra_files={file.name: file.read_text(encoding="utf-8") for file in configs})


def _write_tensorrt(source: _Source, path: Path) -> None:
    trt_export(
        **source.arguments,
        filepath=str(path),
        precision="fp32",
        use_trace=True,
        use_onnx=True,
        onnx_input_names=["image"],
        onnx_output_names=["pred"],
        dynamic_batchsize=TENSORRT_BATCHES,
    )


@dataclass(frozen=True)
class _Format:
    write: Callable[[_Source, Path], None]
    packages: tuple[str, ...] = ()
    needs_gpu: bool = False
    tolerance: float = TOLERANCE


_FORMATS = {
    "torchscript": _Format(partial(_write_torchscript, use_trace=False)),
    "torchscript-trace": _Format(partial(_write_torchscript, use_trace=True)),
    "onnx": _Format(
        # one file: MONAI's exporter would leave a copy of weights apart in the folder for temporary files
        partial(_write_onnx, dynamo=True, external_data=False, verbose=False),
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "onnx-legacy": _Format(partial(_write_onnx, dynamo=False), ("onnx", "onnxruntime")),
    "torch-export": _Format(_write_torch_export),
    "tensorrt": _Format(_write_tensorrt, ("onnx", "tensorrt", "torch_tensorrt"), True, TENSORRT_TOLERANCE),
}


def _check_requirements(name: str, kind: _Format) -> None:
    if kind.needs_gpu and not torch.cuda.is_available():
        msg = f"format {name!r} needs an NVIDIA GPU, of the kind that will run it, and PyTorch finds none here"
        raise ValueError(msg)
    missing = [package for package in kind.packages if find_spec(package) is None]
    if missing:
        remedy = "pip install tensorrt torch_tensorrt" if kind.needs_gpu else 'pip install "scd-plugin[export]"'
        msg = f"format {name!r} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}: {remedy}"
        raise ValueError(msg)


def _read(root: Path) -> _Source:
    """Read configs and weights of a bundle, and build its network with them."""
    config, metadata, weights = check_exportable(root)
    check_readable(config, metadata)
    parser = ConfigParser()
    parser.read_config(config)
    parser.read_meta(metadata)
    overrides: dict[str, Any] = {"bundle_root": str(root)}
    if "network_def#deep_supervision" in parser:
        # outputs for a loss: a deployed model has one output
        overrides["network_def#deep_supervision"] = False
    parser.update(overrides)
    model: nn.Module = built(parser, "network_def")
    network = find_network(model)
    load_weights(model, weights)
    if set_own_keep_ratio(parser, network):
        # exporters build it anew
        overrides["network_def#keep_ratio"] = network.arguments["keep_ratio"]
        parser.update(overrides)
    arguments = {
        "net_id": "network_def",
        "ckpt_file": str(weights),
        "meta_file": str(metadata),
        "config_file": str(config),
        "input_shape": [EXAMPLE_BATCH, *network.image_shape],
        **overrides,
    }
    return _Source(root, parser, model.eval(), network, arguments)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
