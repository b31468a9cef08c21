"""nnU-Net looks for trainer classes by name in every module of its trainer folder, where this file is installed."""

from scd_plugin.nnunet.trainers import TRAINERS

globals().update(TRAINERS)
