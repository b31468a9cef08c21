"""Reads back what nnU-Net's training leaves behind: checkpoints, plans, data set, network."""
