"""nnU-Net's trainers of SCD, under the names by which nnU-Net finds them. `TRAINERS` is their list."""

from scd_plugin.nnunet.trainers import primus, unetr

TRAINERS = {**unetr.TRAINERS, **primus.TRAINERS}
globals().update(TRAINERS)

__all__ = [*TRAINERS]
