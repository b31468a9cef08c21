"""nnU-Net's augmentation on a training's device, behind loaders that only crop."""
