"""Folders of images and labels: recognised, checked, described and split."""
