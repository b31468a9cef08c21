"""What nnU-Net's training leaves behind, read back: checkpoints, plans, data set, network."""
