"""Picture of a bundle's training: loss and validation Dice from its TensorBoard files.

python benchmarks/training_curve.py my_model/eval docs/images/training_curve.png
"""

from __future__ import annotations

import sys

import matplotlib as mpl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

mpl.use("Agg")
from matplotlib import pyplot as plt


def main(log_dir: str, output: str) -> None:
    """Read `log_dir`, write `output`."""
    # 0: every point, not a sample of them
    events = EventAccumulator(log_dir, size_guidance={"scalars": 0})
    events.Reload()
    started = events.Scalars("train_loss")[0].wall_time
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, tag, title in zip(
        axes, ("train_loss", "val_mean_dice"), ("training loss", "validation Dice, mean of classes")
    ):
        points = events.Scalars(tag)
        axis.plot(
            [(point.wall_time - started) / 60 for point in points], [point.value for point in points], linewidth=1
        )
        axis.set(title=title, xlabel="minutes")
        axis.grid(alpha=0.3)
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
