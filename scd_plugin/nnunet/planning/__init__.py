"""nnU-Net's planners of SCD, and the way from plans to token sizes."""
