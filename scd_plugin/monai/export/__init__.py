"""Export of a bundle's network for deployment."""
