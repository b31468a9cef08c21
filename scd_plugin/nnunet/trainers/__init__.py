"""nnU-Net's trainers of SCD, under the names by which nnU-Net finds them. `TRAINERS` is their list."""

from scd_plugin.nnunet.trainers import primus_trainers, unetr_trainers

TRAINERS = {**unetr_trainers.TRAINERS, **primus_trainers.TRAINERS}
globals().update(TRAINERS)

__all__ = [*TRAINERS]
