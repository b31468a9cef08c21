"""From a bundle's config to nnU-Net's plans, data set and weights."""
