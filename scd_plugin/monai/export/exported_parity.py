"""Run exported files, and compare them with the network that they were made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["load_exported", "parity"]

# unlike the batch of 2 that exporters are shown, and none of them a shape that they could have kept
BATCHES = (1, 3)


def load_exported(path: Path, *, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Read an exported file as a function from images to logits.

    Args:
        path: `.ts` (TorchScript, TensorRT in TorchScript), `.onnx` or `.pt2` (torch.export).
        device: for TorchScript; the others run on the CPU.
    """
    if path.suffix == ".onnx":
        return _load_onnx(path)
    if path.suffix == ".pt2":
        program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return program
    module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]

    def run(image: Tensor) -> Tensor:
        logits: Tensor = module(image.to(device))
        return logits.cpu()

    return run


def parity(network: nn.Module, exported: Callable[[Tensor], Tensor], image_shape: Sequence[int]) -> tuple[float, float]:
    """Compare on images that no exporter has seen: random ones at two batch sizes, flat around a box, flat, empty.

    Args:
        network: in evaluation mode, on the CPU.
        exported: from `load_exported`.
        image_shape: (in_channels, *img_size).

    Returns:
        The largest absolute difference of logits, infinite if a shape is wrong or a number not finite; and the
        largest absolute logit, its scale.
    """
    # apart from the global random state, from which exporters draw their example
    generator = torch.Generator().manual_seed(20230306)
    images = [torch.randn(batch, *image_shape, generator=generator) for batch in BATCHES]
    images += [_flat_background(images[0]), *(torch.full((1, *image_shape), value) for value in (0.5, 0.0))]
    difference, scale = 0.0, 0.0
    with torch.no_grad():
        for image in images:
            expected = network(image)
            result = exported(image)
            if result.shape != expected.shape or not result.isfinite().all():
                return float("inf"), scale
            difference = max(difference, (result - expected).abs().max().item())
            scale = max(scale, expected.abs().max().item())
    return difference, scale


def _flat_background(image: Tensor) -> Tensor:
    """Keep the image in a box in the middle, and put one value around it."""
    box: Any = (..., *[slice(size // 4, size - size // 4) for size in image.shape[2:]])
    flat = torch.full_like(image, 0.5)
    flat[box] = image[box]
    return flat


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: image.numpy()})[0])

    return run
