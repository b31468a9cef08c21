"""Transforms, inferer and data list that a bundle made from an nnU-Net model calls when it runs."""
