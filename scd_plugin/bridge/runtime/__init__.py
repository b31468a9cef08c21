"""What a bundle made of an nnU-Net model calls when it runs."""
