"""Runs a network through OpenVINO, Intel's engine for prediction on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit import TracerWarning, trace  # type: ignore[attr-defined]

from scd_plugin.networks.family import SCDNetwork

__all__ = ["OpenVINONetwork"]

# as `ops/topk.py` ranks scores that are NaN
_LOWEST = torch.finfo(torch.float32).min
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


@cache
def _core() -> Any:
    """OpenVINO itself, once for a program.

    Each makes its own stack for signals, and where two end in another order than last to first, one is left that is no
    memory any more: the next signal that has a handler ends the program (seen with OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _without_nan(node: Any) -> list[Any]:
    """Translate `nan_to_num(x, nan=lowest)`, which OpenVINO's reader of PyTorch does not know."""
    from openvino import opset13

    x = node.get_input(0)
    return [opset13.select(opset13.is_nan(x), opset13.constant(np.float32(_LOWEST)), x).output(0)]


def _compiled(network: nn.Module, images: Tensor, dtype: str, threads: int) -> Any:
    """Compile a network for images of one shape."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch import ConversionExtension
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast("cpu", enabled=False), catch_warnings():
        # that checks of the images' shape are settled here, and that `torch.export` is newer
        for category in (TracerWarning, DeprecationWarning, FutureWarning):
            simplefilter("ignore", category)
        traced = trace(network, torch.zeros(images.shape), check_trace=False)  # type: ignore[no-untyped-call]
    # `openvino.convert_model` does the same, and reports its use to Intel
    reader = FrontEndManager().load_by_framework("pytorch")
    reader.add_extension(ConversionExtension("aten::nan_to_num", _without_nan))
    # by name: the reader does not keep it alive
    decoder = TorchScriptPythonDecoder(traced)
    model = reader.convert(reader.load(decoder))
    model.reshape({0: list(images.shape)})
    how = {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    return _core().compile_model(model, "CPU", how)


class OpenVINONetwork(nn.Module):
    """Answers as a network does in evaluation, through OpenVINO on a CPU.

    It compiles once for each state dict that is loaded and each shape of images, some seconds each, and keeps what it
    has compiled: nnU-Net loads the weights of each fold again for every case.

    Args:
        network: what is run; anything that `torch.jit.trace` can follow and that returns one tensor.
        dtype: what layers compute in, `float32` or `bfloat16`; logits are float32.
        threads: of the processor.

    Raises:
        ValueError: from a call or `compile_for`, if OpenVINO lacks an operator of the network.
    """

    def __init__(self, network: nn.Module, dtype: str = "float32", threads: int = 1) -> None:
        super().__init__()
        self.network = network.eval()
        self.dtype, self.threads = dtype, threads
        # state dicts are kept too, or another one could get the number of one that is gone
        self._weights: Mapping[str, Any] = {}
        self._programs: dict[tuple[Any, ...], tuple[Any, Mapping[str, Any]]] = {}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights into the network inside."""
        self._weights = state_dict
        return self.network.load_state_dict(state_dict, strict, assign)

    def compile_for(self, images: Tensor) -> Any:
        """Compile for weights, keep ratios and images (B, C, *size) of this shape, if that is not done yet.

        Weights that change in place are not seen: load a state dict of their new values.
        """
        stages = self.network.pruning_stages() if isinstance(self.network, SCDNetwork) else []
        key = id(self._weights), images.shape, *(stage.keep_ratio for stage in stages)
        if key not in self._programs:
            try:
                program = _compiled(self.network, images, self.dtype, self.threads)
            except Exception as error:  # its own errors share no class
                name, why = type(self.network).__name__, str(error).strip().splitlines()[-1]
                msg = f"OpenVINO can't run the network {name} ({why}); take the engine torch"
                raise ValueError(msg) from error
            self._programs[key] = program, self._weights
        return self._programs[key][0]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, classes, *size), float32, of images (B, C, *size)."""
        program = self.compile_for(images)
        return torch.from_numpy(program([images.float().contiguous().numpy()])[0])
