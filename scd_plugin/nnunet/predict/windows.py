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

__all__ = ["MAX_CONSTANTS", "WindowPredictor", "constant_values", "make_predictor", "window_logits"]

# Answers kept, each as large as a window's logits. Images have one constant, air, and rarely a second, masked voxels.
MAX_CONSTANTS = 2


def constant_values(window: Tensor) -> tuple[float, ...] | None:
    """The value of each channel, if every channel is constant.

    Args:
        window: (C, *size).
    """
    low, high = window.flatten(1).aminmax(dim=1)
    return tuple(low.tolist()) if torch.equal(low, high) else None


def window_logits(
    windows: Iterable[Tensor], forward: Callable[[Tensor], Tensor], *, batch: int = 1, skip_empty: bool = False
) -> Iterator[Tensor]:
    """Logits of windows, in their order.

    In evaluation a network's answer to a constant window follows from the constants alone. With `skip_empty` it is
    computed for the first window of a kind, in a pass of its own, and given again for those that follow.

    Args:
        windows: each (C, *size).
        forward: (B, C, *size) to (B, classes, *size).
        batch: windows to a forward pass; the last pass may have fewer.
        skip_empty: compute windows that are constant in every channel once.

    Yields:
        (1, classes, *size), not shared, so it may be changed in place.
    """
    remaining = iter(windows)
    constants: dict[tuple[float, ...], Tensor] = {}
    while True:
        kinds: list[tuple[float, ...] | None] = []
        pending: list[Tensor] = []
        for window in remaining:
            kind = constant_values(window) if skip_empty else None
            if kind is not None and kind not in constants:
                if len(constants) < MAX_CONSTANTS:
                    constants[kind] = forward(window[None])
                else:
                    kind = None
            kinds.append(kind)
            if kind is None:
                pending.append(window)
                if len(pending) == batch:
                    break
        if not kinds:
            return
        answers = iter(forward(torch.stack(pending)).unbind() if pending else ())
        for kind in kinds:
            yield next(answers)[None] if kind is None else constants[kind].clone()


class WindowPredictor(nnUNetPredictor):
    """nnU-Net's predictor with batched windows; see `make_predictor`.

    Args:
        batch: windows to a forward pass.
        skip_empty: compute windows that are constant in every channel once.
        bfloat16: let the network compute in bfloat16 on a CPU, where nnU-Net turns autocast off.
        threads: of the network, in place of nnU-Net's number; None for that.
        options: of `nnUNetPredictor`.
    """

    def __init__(
        self,
        *,
        batch: int = 1,
        skip_empty: bool = False,
        bfloat16: bool = False,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.batch = batch
        self.skip_empty = skip_empty
        self.bfloat16 = bfloat16
        self.threads = threads
        self.on_windows: Callable[[int], None] = lambda _: None
        """Called with the number of windows when a pass over an image starts, once for each fold."""
        self.on_window: Callable[[], None] = lambda: None
        """Called when a window is done."""
        self.num_windows = 0
        """Of the last pass over an image."""
        self.num_computed = 0
        """Of these, how many went through the network."""
        self._answers: Iterator[Tensor] = iter(())

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: Sequence[Any], do_on_device: bool = True
    ) -> Tensor:
        if self.threads is not None:
            # nnU-Net has set its own number just before, and sets back what was there when it is done
            torch.set_num_threads(self.threads)
        self.num_windows, self.num_computed = len(slicers), 0
        self.on_windows(len(slicers))
        windows = (data[where] for where in slicers)
        self._answers = window_logits(windows, self._forward, batch=self.batch, skip_empty=self.skip_empty)
        return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        """Logits of the next window; nnU-Net asks in the order of its slicers."""
        # what nnU-Net hands over is the window itself: nothing to gather
        alone = self.batch == 1 and not self.skip_empty
        logits = self._forward(x) if alone else next(self._answers)
        self.on_window()
        return logits

    def _forward(self, windows: Tensor) -> Tensor:
        """Logits of windows, averaged over mirrored passes if the predictor mirrors."""
        self.num_computed += len(windows)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = super()._internal_maybe_mirror_and_predict(windows.to(self.device))
        # nnU-Net weighs and sums windows in the type that it gets
        return logits.float() if self.bfloat16 else logits


def make_predictor(
    network: nn.Module,
    recipe: NnunetRecipe,
    weights: Sequence[dict[str, Tensor]],
    *,
    device: torch.device,
    trainer_name: str,
    mirror_axes: Sequence[int] | None = None,
    step_size: float = 0.5,
    batch: int = 1,
    skip_empty: bool = False,
    bfloat16: bool = False,
    threads: int | None = None,
) -> WindowPredictor:
    """A predictor that gives `nnUNetv2_predict`'s logits.

    Args:
        network: moved to the device; ends up with the last fold's weights.
        recipe: plans and data set.
        weights: a state dict for each fold; logits are averaged over them.
        device: where the network runs.
        trainer_name: of the trainer that built the network.
        mirror_axes: axes of the preprocessed image over which to mirror, from 0; None or empty for no mirroring.
        step_size: step of the window as a share of it, in (0, 1].
        batch: windows to a forward pass. With more than one the network's answers differ by rounding.
        skip_empty: compute windows that are constant in every channel once.
        bfloat16: compute in bfloat16 on a CPU.
        threads: of the network on a CPU; None for nnU-Net's number. With another, sums may round differently.

    Raises:
        ValueError: if step size, batch or threads are out of their range.
    """
    if not 0 < step_size <= 1:
        msg = f"step_size must be in (0, 1], the step as a share of the window; got {step_size}"
        raise ValueError(msg)
    if batch < 1:
        msg = f"batch must be at least 1, the windows in a forward pass; got {batch}"
        raise ValueError(msg)
    if threads is not None and threads < 1:
        msg = f"threads must be at least 1, the network's on a CPU; got {threads}"
        raise ValueError(msg)
    # it prints a line about the device, whatever is chosen
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = WindowPredictor(
            batch=batch,
            skip_empty=skip_empty,
            bfloat16=bfloat16,
            threads=threads,
            tile_step_size=step_size,
            use_mirroring=bool(mirror_axes),
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
    predictor.manual_initialization(
        network,
        recipe.plans,
        recipe.configuration,
        list(weights),
        recipe.dataset,
        trainer_name,
        tuple(mirror_axes) if mirror_axes else None,
    )
    return predictor
