"""nnU-Net's sliding window, several windows to a forward pass, and constant windows answered from memory.

nnU-Net's own loop over windows stays: it asks for one window's logits after the other, weighs and sums them. Only where
the answers come from is changed here. So an image's logits are nnU-Net's to the last bit, as long as the network's
answers are.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.keep_map import KeepMap
from scd_plugin.nnunet.predict.settings import PredictSettings

__all__ = ["MAX_CONSTANTS", "WindowPredictor", "constant_values", "window_logits"]

# Answers kept, each as large as a window's logits. Images have one constant, air, and rarely a second, masked voxels.
MAX_CONSTANTS = 2


def constant_values(windows: Iterable[Tensor]) -> list[tuple[float, ...] | None]:
    """Return, for each window (C, *size), the value of each channel if every channel is constant, else None.

    All are asked for at once, since a GPU stands still while the processor waits for one.
    """
    ranges = [torch.stack(window.flatten(1).aminmax(dim=1)) for window in windows]
    if not ranges:
        return []
    low, high = torch.stack(ranges, dim=1)
    constant = (low == high).all(dim=1)
    return [tuple(values) if one else None for one, values in zip(constant.tolist(), low.tolist())]


def window_logits(
    windows: Sequence[Tensor], forward: Callable[[Tensor], Tensor], *, batch: int = 1, skip_empty: bool = False
) -> Iterator[Tensor]:
    """Compute the logits of windows, in their order.

    In evaluation a network's answer to a constant window follows from the constants alone. With `skip_empty` it is
    computed for the first window of a kind, in a pass of its own, and given again for those that follow.

    Windows are (C, *size); `forward` takes (B, C, *size), of at most `batch` windows, to (B, classes, *size). What is
    given is (1, classes, *size), not shared, so it may be changed in place.
    """
    kinds = constant_values(windows) if skip_empty else [None] * len(windows)
    remaining = zip(windows, kinds)
    constants: dict[tuple[float, ...] | None, Tensor] = {}
    while True:
        known: list[Tensor | None] = []
        pending: list[Tensor] = []
        for window, kind in remaining:
            if kind is not None and kind not in constants and len(constants) < MAX_CONSTANTS:
                constants[kind] = forward(window[None])
            known.append(constants.get(kind))
            if known[-1] is None:
                pending.append(window)
                if len(pending) == batch:
                    break
        if not known:
            return
        computed = iter(forward(torch.stack(pending)).unbind() if pending else ())
        for answer in known:
            yield next(computed)[None] if answer is None else answer.clone()


class WindowPredictor(nnUNetPredictor):
    """nnU-Net's predictor, made for a network and with batched windows; gives `nnUNetv2_predict`'s logits.

    The network is moved to `device`, by default that of the settings. Logits are averaged over `weights`, a state dict
    for each fold, of which the network keeps the last. `mirror_axes` are those of the preprocessed image over which the
    model may mirror, from 0.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: NnunetRecipe,
        weights: Sequence[dict[str, Tensor]],
        settings: PredictSettings,
        *,
        mirror_axes: Sequence[int] | None = None,
        device: torch.device | None = None,
    ) -> None:
        # it prints a line about the device, whatever is chosen
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(settings.step_size, device=device or settings.torch_device, allow_tqdm=False)
        axes = tuple(mirror_axes) if mirror_axes and settings.mirroring else None
        model = (network, recipe.plans, recipe.configuration, list(weights), recipe.dataset, type(network).__name__)
        self.manual_initialization(*model, axes)
        self.settings = settings
        self.bfloat16 = settings.network_dtype == "bfloat16"
        """Whether the network computes in bfloat16 on a CPU, where nnU-Net turns autocast off."""
        self.on_windows: Callable[[int], None] = lambda _: None
        """Called with the number of windows when a pass over an image starts, once for each fold."""
        self.on_window: Callable[[], None] = lambda: None
        """Called when a window is done."""
        self.keep_map = KeepMap(network) if settings.stage_maps else None
        """Put together in a pass over an image."""
        self.num_windows = self.num_computed = 0
        """Windows in the last pass over an image, and how many of these went through the network."""
        self._answers: Iterator[Tensor] = iter(())
        self._slicers: Sequence[Any] = ()

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: Sequence[Any], do_on_device: bool = True
    ) -> Tensor:
        if self.settings.threads is not None:
            # nnU-Net has set its own number just before, and sets back what was there when it is done
            torch.set_num_threads(self.settings.threads)
        if do_on_device:
            # nnU-Net would move a copy of its own, and windows in batches would come one by one from the CPU
            data = data.to(self.device)
        self.num_windows, self.num_computed = len(slicers), 0
        self._slicers = slicers
        self.on_windows(len(slicers))
        if self.keep_map is not None:
            self.keep_map.begin(data.shape[1:])
        windows, how = [data[where] for where in slicers], self.settings
        self._answers = window_logits(windows, self._forward, batch=how.batch, skip_empty=how.skip_empty)
        try:
            return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        finally:
            # else they hold the image on the device until the next one is there
            self._answers = iter(())

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        """Return the logits of the next window; nnU-Net asks in the order of its slicers."""
        # what nnU-Net hands over is the window itself: nothing to gather
        one_by_one = self.settings.batch == 1 and not self.settings.skip_empty
        logits = self._forward(x) if one_by_one else next(self._answers)
        self.on_window()
        return logits

    def _forward(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows, averaged over mirrored passes if the predictor mirrors."""
        place = slice(self.num_computed, self.num_computed + len(windows))
        self.num_computed += len(windows)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = super()._internal_maybe_mirror_and_predict(windows.to(self.device))
        if self.keep_map is not None:
            self.keep_map.add(self._slicers[place])
        # nnU-Net weighs and sums windows in the type that it gets
        return logits.float() if self.bfloat16 else logits
